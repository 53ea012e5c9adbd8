"""Patches that stay out of the banks, since a ranking of unlabelled images holds them for odd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from ..images.augment import rotated_and_flipped

#: A cell of a bank's grid is odd where more than this share of it is: the cells of a finer grid at the edge of an odd
#: patch are, since half of each lies in it, a quarter at a corner.
_LEAST_ODD_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """What a ranking of the images tells, where nobody has looked at them.

    Attributes:
        odd_patches: of each image, (gh, gw) bool on the CPU: the patches that stay out of the banks.
        at_most_anomalous: share of the images that may show a defect: the threshold may leave out so many.
    """

    odd_patches: Sequence[torch.Tensor]
    at_most_anomalous: float


def odd_shares_of_copies(
    odd_patches: torch.Tensor, image_hw: tuple[int, int], *, rotations: int, flips: bool
) -> list[np.ndarray]:
    """The patches (gh, gw) bool in pixels, of an image and of its turned copies: (H, W) float32 in [0, 1] each."""
    height, width = image_hw
    pixels = cv2.resize(odd_patches.numpy().astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_NEAREST)
    copies = rotated_and_flipped(cv2.merge([pixels] * 3), rotations=rotations, flips=flips)
    return [copy[..., 0].astype(np.float32) / 255 for copy in copies]


def leave_out_odd(grid: torch.Tensor, odd_share: np.ndarray) -> torch.Tensor:
    """The vectors (N, D) of a grid (rows, columns, D) where little is odd.

    Args:
        odd_share: (H, W) float32 in [0, 1], of the whole image at any size.
    """
    rows, columns, _ = grid.shape
    cells = cv2.resize(odd_share, (columns, rows), interpolation=cv2.INTER_AREA)
    is_kept = torch.from_numpy(cells <= _LEAST_ODD_SHARE).to(grid.device)
    return grid[is_kept]
