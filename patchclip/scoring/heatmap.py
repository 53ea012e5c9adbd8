"""Maps on the grid of patches -> heatmaps in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import torch
from torch.nn import functional as F

#: Smoothing happens on a grid this many times finer than the patches, before the last step to the image's size: the
#: same picture as smoothing at full size, at a cost that does not grow with the image.
_FINE = 4

#: A Gaussian of fewer cells changes no value by more than rounding does, and its weights may underflow.
_MIN_SIGMA = 0.1


def to_heatmaps(maps: torch.Tensor, size_hw: tuple[int, int], smoothing: float) -> torch.Tensor:
    """Gaussian smoothing, and bilinear interpolation to the image's size.

    Args:
        maps: (B, gh, gw).
        size_hw: height and width of the upright images.
        smoothing: sigma in tokens; 0 for none.

    Returns:
        (B, H, W) float32 within the range of each map, on the maps' device.
    """
    return enlarge(smooth(maps, smoothing), size_hw)


def enlarge(fine: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
    """(B, 1, rows, columns) of `smooth` -> (B, H, W)."""
    return F.interpolate(fine, size_hw, mode="bilinear")[:, 0]


def separate_heatmaps(maps: torch.Tensor, sizes_hw: Sequence[tuple[int, int]], smoothing: float) -> list[torch.Tensor]:
    """As `to_heatmaps`, within 1e-5 of it, for images of several sizes: B of (H, W), each in memory of its own.

    On a CPU the last step is OpenCV's, which takes a fifth of the time of torch's.
    """
    fine = smooth(maps, smoothing)  # (B, 1, rows, columns)
    heatmaps = []
    for single, (height, width) in zip(fine, sizes_hw, strict=True):
        if fine.device.type == "cpu":
            resized = cv2.resize(single[0].numpy(), (width, height), interpolation=cv2.INTER_LINEAR)
            heatmaps.append(torch.from_numpy(resized))
        else:
            heatmaps.append(F.interpolate(single[None], (height, width), mode="bilinear")[0, 0])
    return heatmaps


def smooth(maps: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Separable Gaussian with replicated borders on a finer grid: (B, gh, gw) -> (B, 1, rows, columns)."""
    maps = maps[:, None].float()
    if smoothing == 0:
        return maps
    fine = F.interpolate(maps, (maps.shape[2] * _FINE, maps.shape[3] * _FINE), mode="bilinear")
    sigma = smoothing * _FINE
    if sigma < _MIN_SIGMA:
        return fine
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=fine.dtype, device=fine.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(fine, (radius,) * 4, mode="replicate")
    smoothed = F.conv2d(padded, kernel.view(1, 1, 1, -1))
    return F.conv2d(smoothed, kernel.view(1, 1, -1, 1))
