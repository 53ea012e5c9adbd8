"""What a training run holds between two steps: weights, their average, moments and counts."""

from __future__ import annotations

import copy
from itertools import chain
from pathlib import Path

import torch
from torch import nn

from ..files import atomic_write
from .muon import Muon
from .objective import Objective

_LARGEST_GRADIENT = 1.0
_LONGEST_AVERAGE = 0.998
_WEIGHT_DECAY = 0.05  # of matrices alone


class TrainingState:
    """Weights and all that is needed to go on.

    Attributes:
        objective: is trained; average: the exponential average of its weights, which is released.
        images: seen by all processes; step: number of steps; trained_s: seconds of training.
    """

    def __init__(self, objective: Objective, *, muon_dtype: torch.dtype):
        self.objective = objective
        self.average = copy.deepcopy(objective).requires_grad_(False)
        self.images = 0
        self.step = 0
        self.trained_s = 0.0
        self._optimizers = _make_optimizers(objective, muon_dtype)

    def load(self, checkpoint: Path, device: str) -> None:
        """Go on from a checkpoint."""
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        self.objective.load_state_dict(saved["objective"])
        self.average.load_state_dict(saved["average"])
        for optimizer, saved_moments in zip(self._optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(saved_moments)
        self.images = saved["images"]
        self.step = saved["step"]
        self.trained_s = saved["trained_s"]

    def save(self, checkpoint: Path) -> None:
        """Write a checkpoint."""
        state = {
            "objective": self.objective.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "images": self.images,
            "step": self.step,
            "trained_s": self.trained_s,
        }
        with atomic_write(checkpoint) as temporary:
            torch.save(state, temporary)

    def update(self, learning_rate: float, images: int) -> None:
        """One step along the gradients of the objective.

        Args:
            images: that the gradients are of, in all processes.
        """
        for group in chain.from_iterable(optimizer.param_groups for optimizer in self._optimizers):
            group["lr"] = learning_rate * group["gain"]
        nn.utils.clip_grad_norm_(self.objective.parameters(), _LARGEST_GRADIENT)
        for optimizer in self._optimizers:
            optimizer.step()
        self.step += 1
        self.images += images
        keep = min(_LONGEST_AVERAGE, (self.step + 1) / (self.step + 50))
        weights = [parameter.detach() for parameter in self.objective.parameters()]
        torch._foreach_lerp_(list(self.average.parameters()), weights, 1 - keep)


def _make_optimizers(objective: nn.Module, muon_dtype: torch.dtype) -> list[torch.optim.Optimizer]:
    """Muon for the image tower's matrices, its products in `muon_dtype`; AdamW for the rest.

    Muon needs two thirds of AdamW's images for the same validation figures here; the few scalars learn faster.
    """
    blocks, matrices, vectors, scalars = [], [], [], []
    for name, parameter in objective.named_parameters():
        if name.endswith(("logit_scale", "dense_scale", "gain", "margin")):
            scalars.append(parameter)
        elif parameter.ndim == 2 and "visual.transformer" in name:
            blocks.append(parameter)
        elif parameter.ndim > 1 and "embedding" not in name:
            matrices.append(parameter)
        else:
            vectors.append(parameter)
    groups = [
        {"params": matrices, "weight_decay": _WEIGHT_DECAY, "gain": 1.0},
        {"params": vectors, "weight_decay": 0.0, "gain": 1.0},
        {"params": scalars, "weight_decay": 0.0, "gain": 8.0},
    ]
    muon = Muon([{"params": blocks, "gain": 1.0}], lr=0.0, weight_decay=_WEIGHT_DECAY, dtype=muon_dtype)
    return [torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True), muon]
