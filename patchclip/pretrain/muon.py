"""Muon (Jordan 2024), with its products in a precision that the machine is quick at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, for matrices: the steps of `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`.

    That one always multiplies in bfloat16, which takes 16 times as long as in float32 on a processor without
    instructions for it; this one multiplies in `dtype`, matrices of one shape at once.
    """

    def __init__(
        self, params: Iterable[nn.Parameter] | Iterable[dict], lr: float, weight_decay: float, dtype: torch.dtype
    ):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step along the gradients."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[torch.Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault(parameter.shape, []).append(parameter)
            for shape, matrices in alike.items():
                updates = []
                for matrix in matrices:
                    gradient, state = cast(torch.Tensor, matrix.grad), self.state[matrix]
                    if not state:
                        state["momentum"] = torch.zeros_like(matrix)
                    state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
                    updates.append(gradient.lerp(state["momentum"], _MOMENTUM))
                steps = orthogonalised(torch.stack(updates).to(self._dtype)).float()
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, list(steps), alpha=-0.2 * max(shape) ** 0.5 * group["lr"])


def orthogonalised(matrices: torch.Tensor) -> torch.Tensor:
    """(n, rows, columns) -> the same, singular values brought close to 1 by Newton and Schulz's iteration."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if matrices.shape[1] <= matrices.shape[2] else wide.mT
