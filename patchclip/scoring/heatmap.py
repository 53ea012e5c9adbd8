"""Maps on the grid of patches -> heatmaps in pixels -> regions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from ..result import Region

#: Smoothing happens on a grid this many times finer than the patches, before the last step to the image's size: the
#: same picture as smoothing at full size, at a cost that does not grow with the image.
_FINE = 4

#: Regions reach at least this share of the way from the median of their heatmap to its maximum, since a defect raises
#: all tokens of its image a little. Of synthetic images with a defect 11 % show a region elsewhere, without it 16 %;
#: where there are two, regions meet 87 % of the defects, without it 89 %.
_MIN_PROMINENCE = 0.25

#: The median of a heatmap is taken from about this many pixels a side.
_MEDIAN_SAMPLES = 128


def to_heatmaps(maps: torch.Tensor, size_hw: tuple[int, int], smoothing: float) -> torch.Tensor:
    """Gaussian smoothing, and bilinear interpolation to the image's size.

    Args:
        maps: (B, gh, gw).
        size_hw: height and width of the upright images.
        smoothing: sigma in tokens; 0 for none.

    Returns:
        (B, H, W) float32 within the range of each map, on the maps' device.
    """
    return F.interpolate(_smooth(maps, smoothing), size_hw, mode="bilinear")[:, 0]


def separate_heatmaps(maps: torch.Tensor, sizes_hw: Sequence[tuple[int, int]], smoothing: float) -> list[torch.Tensor]:
    """As `to_heatmaps`, within 1e-5 of it, for images of several sizes: B of (H, W), each in memory of its own.

    On a CPU the last step is OpenCV's, which takes a fifth of the time of torch's.
    """
    fine = _smooth(maps, smoothing)  # (B, 1, rows, columns)
    heatmaps = []
    for single, (height, width) in zip(fine, sizes_hw, strict=True):
        if fine.device.type == "cpu":
            resized = cv2.resize(single[0].numpy(), (width, height), interpolation=cv2.INTER_LINEAR)
            heatmaps.append(torch.from_numpy(resized))
        else:
            heatmaps.append(F.interpolate(single[None], (height, width), mode="bilinear")[0, 0])
    return heatmaps


def _smooth(maps: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Separable Gaussian with replicated borders on a finer grid: (B, gh, gw) -> (B, 1, rows, columns)."""
    maps = maps[:, None].float()
    if smoothing == 0:
        return maps
    fine = F.interpolate(maps, (maps.shape[2] * _FINE, maps.shape[3] * _FINE), mode="bilinear")
    sigma = smoothing * _FINE
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=fine.dtype, device=fine.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(fine, (radius,) * 4, mode="replicate")
    smoothed = F.conv2d(padded, kernel.view(1, 1, 1, -1))
    return F.conv2d(smoothed, kernel.view(1, 1, -1, 1))


def median_and_half_maximum(heatmap: np.ndarray) -> tuple[float, float]:
    """The median of (H, W), of a sample of its values where they are many, and the value half of the way from there to
    the maximum."""
    step = max(1, min(heatmap.shape) // _MEDIAN_SAMPLES)
    median = float(np.median(heatmap[::step, ::step]))
    return median, 0.5 * (median + float(heatmap.max()))


def find_regions(heatmap: np.ndarray, threshold: float, grid_hw: tuple[int, int]) -> list[tuple[Region, np.ndarray]]:
    """Connected pieces (8-neighbourhood) of the heatmap that lie above the threshold and are prominent: at least a
    quarter of the way from its median to its maximum.

    Args:
        heatmap: (H, W) float32.
        threshold: on the heatmap's scale.
        grid_hw: of the patches.

    Returns:
        Highest first: the region, without a name, and its patches as (gh, gw) bool: those whose middle lies in it, and
        the one under its highest point.
    """
    height, width = heatmap.shape
    gh, gw = grid_hw
    middle_rows = ((np.arange(gh) + 0.5) * height / gh).astype(int)
    middle_columns = ((np.arange(gw) + 0.5) * width / gw).astype(int)
    median = float(np.median(heatmap[np.ix_(middle_rows, middle_columns)]))
    prominent = median + _MIN_PROMINENCE * (float(heatmap.max()) - median)
    if threshold >= prominent:
        # a float64, because numpy would round a plain number to float32 and the score is compared unrounded
        above = heatmap > np.float64(threshold)
    else:
        above = heatmap >= prominent
    # what is above lies in a small part of a large image, and only that is labelled
    crop_left, crop_top, crop_width, crop_height = cv2.boundingRect(above.view(np.uint8))
    crop = (slice(crop_top, crop_top + crop_height), slice(crop_left, crop_left + crop_width))
    if crop_width == 0:
        return []
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above[crop].view(np.uint8), connectivity=8)
    rows_in_crop = (middle_rows >= crop_top) & (middle_rows < crop_top + crop_height)
    columns_in_crop = (middle_columns >= crop_left) & (middle_columns < crop_left + crop_width)
    labels_at_middles = np.zeros(grid_hw, np.int32)
    labels_at_middles[np.ix_(rows_in_crop, columns_in_crop)] = labels[
        np.ix_(middle_rows[rows_in_crop] - crop_top, middle_columns[columns_in_crop] - crop_left)
    ]
    found = []
    for label in range(1, count):  # 0 is the background
        left, top, box_width, box_height, area = stats[label].tolist()
        box = (slice(top, top + box_height), slice(left, left + box_width))
        inside = (labels[box] == label).view(np.uint8)
        _, score, _, (peak_column, peak_row) = cv2.minMaxLoc(heatmap[crop][box], inside)
        left, top = left + crop_left, top + crop_top
        patches = labels_at_middles == label
        patches[(top + peak_row) * gh // height, (left + peak_column) * gw // width] = True
        region = Region((left, top, left + box_width, top + box_height), area, score, None, None)
        found.append((region, patches))
    return sorted(found, key=lambda pair: -pair[0].score)
