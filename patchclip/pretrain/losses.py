"""What the embedded model is trained to do, one term each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

#: Share of a patch above which it counts as defective; between zero and that it counts as neither.
_DEFECTIVE_COVERAGE = 0.025


@dataclass(frozen=True)
class Targets:
    """Patch labels (B, N) float32: 1 defective, 0 not; weight 0 where neither."""

    label: torch.Tensor
    weight: torch.Tensor


def patch_targets(coverage: torch.Tensor) -> Targets:
    """(B, gh, gw) defective shares -> labels. A defect smaller than the bound marks its fullest patch."""
    flat = coverage.flatten(1)
    bound = torch.minimum(torch.full_like(flat[:, :1], _DEFECTIVE_COVERAGE), 0.5 * flat.amax(1, keepdim=True))
    label = (flat > bound).float()
    return Targets(label, ((label > 0) | (flat == 0)).float())


def focal(logits: torch.Tensor, targets: Targets, *, alpha: float = 0.75, gamma: float = 1.5) -> torch.Tensor:
    """Focal loss over patches, over the number of defective ones."""
    probability = torch.sigmoid(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, targets.label, reduction="none")
    right = torch.where(targets.label > 0, probability, 1 - probability)
    balance = torch.where(targets.label > 0, alpha, 1 - alpha)
    total = (balance * (1 - right) ** gamma * entropy * targets.weight).sum()
    return total / (targets.label.sum() + 0.02 * targets.label.numel())


def dice(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
    """One minus the overlap of the map with the mask, over the batch."""
    probability = torch.sigmoid(logits) * targets.weight
    both = (probability * targets.label).sum()
    return 1 - (2 * both + 1) / (probability.sum() + targets.label.sum() + 1)


class PairDistance(nn.Module):
    """Few-shot: is a patch farther from all patches of a flawless image than a learnt margin?"""

    def __init__(self, layers: int):
        super().__init__()
        self.gain = nn.Parameter(torch.full((layers,), 10.0))
        self.margin = nn.Parameter(torch.full((layers,), 0.15))

    def forward(self, taps: list[torch.Tensor], targets: Targets) -> torch.Tensor:
        """taps: one (2B, N, D) for each layer, queries before supports."""
        total = torch.zeros((), device=self.gain.device)
        for index, tap in enumerate(taps):
            query, support = F.normalize(tap.float(), dim=-1).chunk(2)
            similarity = query @ support.transpose(1, 2)  # (B, N, N)
            nearest = 0.05 * (torch.logsumexp(similarity / 0.05, -1) - math.log(4))
            distance = 1 - nearest
            total = total + focal(self.gain[index] * (distance - self.margin[index]), targets)
        return total / len(taps)


def contrastive(image: torch.Tensor, text: torch.Tensor, matches: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Symmetric image-text loss where several images may share a text.

    Args:
        image: (B, E) unit; text: (T, E) unit; matches: (B,) index of each image's text.
    """
    logits = scale * image @ text.T
    share = F.one_hot(matches, len(text)).float()
    share = share / share.sum(0)
    return 0.5 * F.cross_entropy(logits, matches) - 0.5 * (torch.log_softmax(logits, 0) * share).sum() / len(text)
