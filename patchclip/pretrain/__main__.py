"""`python -m patchclip.pretrain --out DIR [--resume]`: train such a model as the embedded one.

Several processes (one a core is the fastest on a CPU):
    torchrun --nproc-per-node 2 -m patchclip.pretrain --out DIR
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from .train import Settings, train


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m patchclip.pretrain", description=__doc__.split("\n")[0])
    defaults = Settings(Path())
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, log and the released model go here")
    parser.add_argument("--resume", action="store_true", help="go on with the checkpoint in --out")
    parser.add_argument("--images", type=int, default=defaults.images, help="length of the run (default %(default)s)")
    parser.add_argument("--products", type=int, default=defaults.products, help="surfaces in the pool, 0.6 MB each")
    parser.add_argument("--pairs", type=int, default=defaults.pairs, help="pairs of images a process takes each step")
    parser.add_argument("--lr", type=float, default=defaults.learning_rate)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument(
        "--photographs",
        type=Path,
        nargs="+",
        default=[],
        help="folders of textures and cut-out objects, for every second product",
    )
    parser.add_argument(
        "--teacher", action="store_true", help="the tokens of the bank also learn to tell the features of ImageNet"
    )
    parser.add_argument("--from-weights", type=Path, help="start from these released weights (.safetensors)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    if "WORLD_SIZE" in os.environ and args.device == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ["WORLD_SIZE"])))
    settings = Settings(
        args.out,
        images=args.images,
        products=args.products,
        pairs=args.pairs,
        learning_rate=args.lr,
        seed=args.seed,
        device=args.device,
        initial_weights=args.from_weights,
        photographs=tuple(args.photographs),
        teacher=args.teacher,
    )
    released = train(settings, resume=args.resume)
    if os.environ.get("RANK", "0") == "0":
        print(f"released model: {released}")


if __name__ == "__main__":
    main()
