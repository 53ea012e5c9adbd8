"""Synthetic validation: families and fills that training never sees.

`python -m patchclip.pretrain.validate [FOLDER]` prints the figures of the embedded model, or of a released folder.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch.nn import functional as F

from .. import metrics
from ..encoders import prompts
from ..encoders.loading import DEFAULT_MODEL, load_model
from ..encoders.text import run_text
from ..synthetic import HELD_OUT, KINDS, sample_defective, sample_surface
from .losses import patch_targets
from .model import encode_window

_SEED = 77_000

#: `Detector`'s default object_name.
_OBJECT = "surface"


@dataclass(frozen=True)
class ValidationSet:
    """Half flawless, half defective images of held-out families.

    Attributes:
        pixels: (N, 3, 224, 224) uint8; coverage: (N, 14, 14) float32; kinds: (N,) int64, -1 for flawless.
    """

    pixels: torch.Tensor
    coverage: torch.Tensor
    kinds: np.ndarray


def make_validation(count: int, side: int = 224) -> ValidationSet:
    """Seeded; the same at every call."""
    images, masks, kinds = [], [], []
    for index in range(count):
        rng = np.random.default_rng([_SEED, index])
        surface = sample_surface(rng, HELD_OUT)
        if index % 2:
            kind = KINDS[index // 2 % len(KINDS)]
            try:
                image, mask, kind = sample_defective(surface, 1, rng, kind=kind, size_hw=(side, side), held_out=True)
            except ValueError:  # nothing of that kind shows on that surface
                continue
            kinds.append(KINDS.index(kind))
        else:
            image, mask = surface.photograph(surface.render(1, (side, side)), 1), np.zeros((side, side), bool)
            kinds.append(-1)
        images.append(image)
        masks.append(mask)
    if not images:
        return ValidationSet(torch.empty(0, 3, side, side), torch.empty(0, side // 16, side // 16), np.array([]))
    coverage = F.avg_pool2d(torch.from_numpy(np.stack(masks)).float()[:, None], 16)[:, 0]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return ValidationSet(pixels, coverage, np.array(kinds))


@torch.inference_mode()
def validate(model: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer, data: ValidationSet) -> dict[str, float]:
    """Zero-shot figures with the prompts of inference, on the model's device.

    Returns:
        image_auroc (image score: highest patch), patch_ap, kind_accuracy (by the mean token of the true mask).
    """

    device = model.logit_scale.device

    def embed(sentences: list[str]) -> torch.Tensor:
        return F.normalize(run_text(model, tokenizer(sentences).to(device)).float(), dim=-1).mean(0)

    states = [
        embed(prompts.compose(states, prompts.TEMPLATES, _OBJECT))
        for states in (prompts.NORMAL_STATES, prompts.ANOMALOUS_STATES)
    ]
    normal, anomalous = F.normalize(torch.stack(states), dim=-1)
    names = torch.stack([embed(prompts.defect_prompts(prompts.DEFAULT_DEFECTS[kind], _OBJECT)) for kind in KINDS])
    names = F.normalize(names, dim=-1)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD, device=device).view(1, 3, 1, 1)
    parts, right = [], []
    for start in range(0, len(data.pixels), 50):
        part = slice(start, start + 50)
        pixels = data.pixels[part].to(device)
        dense = encode_window(model.visual, (pixels / 255 - mean) / std).dense
        dense = F.normalize(dense, dim=-1)  # (B, 14, 14, E)
        parts.append((dense @ (anomalous - normal)).flatten(1))
        for tokens, cover, kind in zip(dense, data.coverage[part], data.kinds[part], strict=True):
            if kind >= 0:
                mask = patch_targets(cover[None]).label[0].view(cover.shape) > 0
                right.append(int((tokens[mask].mean(0) @ names.T).argmax()) == kind)
    maps = torch.cat(parts).cpu().numpy()
    targets = patch_targets(data.coverage)
    counted = targets.weight.numpy() > 0
    return {
        "image_auroc": metrics.auroc(data.kinds >= 0, maps.max(1)),
        "patch_ap": metrics.average_precision(targets.label.numpy()[counted] > 0, maps[counted]),
        "kind_accuracy": float(np.mean(right)),
    }


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m patchclip.pretrain.validate", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="a released model (default: the embedded one)")
    parser.add_argument("--images", type=int, default=240, help="the more, the steadier (default %(default)s)")
    args = parser.parse_args()
    model = load_model(DEFAULT_MODEL if args.folder is None else f"local-dir:{args.folder}")
    figures = validate(model.clip, model.tokenizer, make_validation(args.images))
    print(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
