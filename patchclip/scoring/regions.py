"""A heatmap in pixels -> regions, and their names from taught kinds or the dense tokens; by numpy and OpenCV alone,
since an exported file has regions without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..result import BY_EXAMPLES, BY_TEXT, Region
from .kinds import DefectKinds, choose_kind, describe_regions
from .vectors import softmax, unit

#: Regions reach at least this share of the way from the median of their heatmap to its maximum, since a defect raises
#: all tokens of its image a little. Of synthetic images with a defect 11 % show a region elsewhere, without it 16 %;
#: where there are two, regions meet 87 % of the defects, without it 89 %.
_MIN_PROMINENCE = 0.25

#: The median of a heatmap is taken from about this many pixels a side.
_MEDIAN_SAMPLES = 128

#: A defect gets a name by text when its probability is at least one half, and this many times that of a blind guess. On
#: synthetic images of held-out families and fills, 76 % of regions have a name then, and 77 % of the names are right;
#: with the second bound alone 100 % and 66 % (benchmarks/CHOICES.md).
_MIN_NAME_PROBABILITY = 0.5
_MIN_NAME_ADVANTAGE = 1.5


@dataclass(frozen=True, eq=False)
class DefectNames:
    """What regions may be called.

    Attributes:
        names: K of them.
        embeddings: (K, E) float32, of any length.
        temperature: of the probabilities.
    """

    names: tuple[str, ...]
    embeddings: np.ndarray
    temperature: float


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


def named_regions(
    heatmap: np.ndarray, level: float, grids: Sequence[np.ndarray], names: DefectNames | DefectKinds | None
) -> tuple[Region, ...]:
    """The regions of a heatmap (H, W), each named by the kinds that were taught, or by the mean of its dense tokens.

    Args:
        level: see `find_regions`.
        grids: the dense tokens (gh, gw, E) float32, and for taught kinds all that they are told by, (rows, columns, D)
            float32 each.
        names: None for regions without a name.
    """
    dense = grids[0]
    found = find_regions(heatmap, level, (dense.shape[0], dense.shape[1]))
    regions = tuple(region for region, _ in found)
    if names is None or not found:
        return regions
    if isinstance(names, DefectNames):
        chosen = [_name_defect(dense[patches].mean(0), names) for _, patches in found]
        return _with_names(regions, chosen, BY_TEXT)
    shares = np.stack([patches for _, patches in found])  # (R, gh, gw)
    chosen = [choose_kind(vector, names) for vector in describe_regions(heatmap, shares, grids)]
    return _with_names(regions, chosen, BY_EXAMPLES)


def _with_names(
    regions: Sequence[Region], chosen: Sequence[tuple[str | None, float | None]], source: str
) -> tuple[Region, ...]:
    named = []
    for region, (defect, confidence) in zip(regions, chosen, strict=True):
        if defect is not None:
            region = replace(region, defect=defect, confidence=confidence, defect_source=source)
        named.append(region)
    return tuple(named)


def _name_defect(token: np.ndarray, defects: DefectNames) -> tuple[str | None, float | None]:
    """The defect that a dense token (E,) looks like, and its probability; None where no name is clearly likeliest."""
    probabilities = name_probabilities(token, defects.embeddings, defects.temperature)
    best = int(probabilities.argmax())
    confidence = float(probabilities[best])
    count = len(defects.names)
    if count > 1 and confidence < max(_MIN_NAME_PROBABILITY, _MIN_NAME_ADVANTAGE / count):
        return None, None
    return defects.names[best], confidence


def name_probabilities(token: np.ndarray, names: np.ndarray, temperature: float) -> np.ndarray:
    """Which defect a token looks like.

    Args:
        token: (E,); names: (K, E), one embedding for each defect; any length.

    Returns:
        (K,) probabilities.
    """
    return softmax(unit(names) @ unit(token) / temperature)
