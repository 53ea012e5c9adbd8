"""`python -m patchclip.pretrain --out DIR [--resume]`: train such a model as the embedded one.

Several processes (one a core is the fastest on a CPU):
    torchrun --nproc-per-node 2 -m patchclip.pretrain --out DIR
On a GPU one process trains, with larger batches, and the other cores make them:
    python -m patchclip.pretrain --out DIR --pairs 256 --minutes 20
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
    parser.add_argument("--minutes", type=float, help="length of the run in place of --images")
    parser.add_argument("--products", type=int, default=defaults.products, help="surfaces in the pool, 0.6 MB each")
    parser.add_argument(
        "--pool-side", type=int, default=defaults.pool_side, help="pixels of the surfaces (default %(default)s)"
    )
    parser.add_argument("--workers", type=int, help="processes that make batches ahead (default: on a GPU, one a core)")
    parser.add_argument(
        "--stages",
        type=_stage,
        nargs="+",
        default=defaults.stages,
        metavar="SIDE:SHARE",
        help="sides of the images, and for which share of the run",
    )
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
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if args.workers is None:
        args.workers = 0 if args.device == "cpu" else max(1, (os.cpu_count() or 1) // processes - 1)
    if "WORLD_SIZE" in os.environ and args.device == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    settings = Settings(
        args.out,
        images=args.images,
        minutes=args.minutes,
        products=args.products,
        pool_side=args.pool_side,
        workers=args.workers,
        stages=tuple(args.stages),
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


def _stage(text: str) -> tuple[int, float]:
    side, share = text.split(":")
    return int(side), float(share)


if __name__ == "__main__":
    main()
