"""The embedded features of ImageNet as a teacher: the tokens of the bank learn to tell them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .model import PATCH

#: Values of a patch at the two levels of `encoders.timm.load_network`.
_WIDTHS = (40, 112)
_COMPARED = 512  # patches of a batch


@torch.no_grad()
def taught_features(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """(B, 3, S, S) uint8 -> for each level of the network (B, N, values), standardised over the batch."""
    features, cells = [], images.shape[-1] // PATCH
    for level in network(images / 127.5 - 1):
        patches = F.batch_norm(F.adaptive_avg_pool2d(level.float(), cells), None, None, training=True)
        features.append(patches.flatten(2).transpose(1, 2))
    return features


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
    count = len(unit)
    # without its first value, a row that is one longer than the matrix's ends with a value of the diagonal
    rows = (unit @ unit.T).flatten()[1:].view(count - 1, count + 1)
    return rows[:, :-1].flatten()
