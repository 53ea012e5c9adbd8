"""What a recipe takes from images of one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True, eq=False)
class Features:
    """Of B images on one grid of patches.

    Attributes:
        dense: (B, gh, gw, E) text-aligned tokens; regions are named by them.
        text: (B, gh, gw) text map; None where no cue wants it.
        p_image: (B,) probability that [CLS] gives to the anomalous state; recipe "winclip" with text only.
        vectors: bank -> (B, rows, columns, D) float32, on the grid, on a finer one ("imagenet"), or of windows.
    """

    dense: torch.Tensor
    text: torch.Tensor | None = None
    p_image: torch.Tensor | None = None
    vectors: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.dense.shape[1], self.dense.shape[2]

    def select(self, index: int) -> Features:
        """One image of the batch, as a batch of one."""
        return self.map(lambda batch: batch[index : index + 1])

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Features:
        """`function` of each tensor."""
        return Features(
            dense=function(self.dense),
            text=None if self.text is None else function(self.text),
            p_image=None if self.p_image is None else function(self.p_image),
            vectors={name: function(grid) for name, grid in self.vectors.items()},
        )


def concatenate(parts: Sequence[Features]) -> Features:
    """Batches one after another, as one."""
    if len(parts) == 1:
        return parts[0]
    texts = [part.text for part in parts if part.text is not None]
    return Features(
        dense=torch.cat([part.dense for part in parts]),
        text=torch.cat(texts) if texts else None,
        vectors={name: torch.cat([part.vectors[name] for part in parts]) for name in parts[0].vectors},
    )
