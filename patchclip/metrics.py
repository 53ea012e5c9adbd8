"""Metrics of anomaly detection and localisation. Higher scores mean more anomalous.

Everything counts ties as one step, so that a constant score is worth nothing (AUROC 0.5). A value that is not defined,
because one of the two classes is missing, is NaN.

Pixels are counted, not sorted: `tally` reduces an image to counts on at most 32,768 logarithmic bins, some hundred
kilobytes whatever its size, and tallies of many images add up. `pixel_metrics` reports the most that this can have
cost, a few millionths as a rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import MissingDependencyError

#: Upper limit of the false-positive rate that AUPRO is integrated to.
PRO_LIMIT = 0.3

#: Bits of the float32 mantissa that tell bins apart at first: 2**14 bins from each power of two to the next. An image
#: that fills few of them gets finer ones, an image that fills more than so many gets coarser ones.
_FIRST_BITS = 14
_ALL_BITS = 23
_MOST_BINS = 1 << 15


def _checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels).ravel().astype(bool), np.asarray(scores, np.float64).ravel()
    if labels.shape != scores.shape:
        raise ValueError(f"expected one score for each label, got {labels.size} labels and {scores.size} scores")
    if not np.isfinite(scores).all():
        raise ValueError(f"expected finite scores, got {np.count_nonzero(~np.isfinite(scores))} NaN or infinite ones")
    return labels, scores


def scikit_learn() -> Any:
    """Its metrics.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        from sklearn import metrics
    except ImportError as error:
        raise MissingDependencyError(f'metrics need scikit-learn ({error}): pip install "patchclip[bench]"') from error
    return metrics


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half; NaN where only one class is present.

    Args:
        labels: bool or 0/1, any shape; scores: the same shape.
    """
    labels, scores = _checked(labels, scores)
    return float(scikit_learn().roc_auc_score(labels, scores)) if 0 < labels.sum() < labels.size else float("nan")


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall curve as a step function; NaN where no label is positive."""
    labels, scores = _checked(labels, scores)
    return float(scikit_learn().average_precision_score(labels, scores)) if labels.any() else float("nan")


def f1_max(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """The highest F1 of any threshold, and the smallest score that it still calls anomalous; NaN without positives.

    Args:
        labels: bool or 0/1, any shape; scores: the same shape.
    """
    labels, scores = _checked(labels, scores)
    if not labels.any():
        return float("nan"), float("nan")
    values, place = np.unique(-scores, return_inverse=True)  # highest score first
    defect = np.bincount(place, labels)
    normal = np.bincount(place, ~labels)
    f1 = _f1(normal.cumsum(), defect.cumsum())
    best = int(f1.argmax())
    return float(f1[best]), float(-values[best])


def aupro(masks: Sequence[np.ndarray], heatmaps: Sequence[np.ndarray], *, limit: float = PRO_LIMIT) -> float:
    """Area under the per-region overlap curve up to a false-positive rate, divided by that rate.

    At each threshold: the mean, over all connected regions (8-neighbourhood) of all masks, of the part of the region
    that is above it, against the part of all normal pixels that is (MVTec-AD, Bergmann et al. 2021). Exact.

    Args:
        masks: bool (H, W) each; heatmaps: float32 (H, W) each, not negative.
        limit: of the false-positive rate, in (0, 1].

    Returns:
        In [0, 1]; NaN without a region or without a normal pixel.
    """
    tallies = [tally(heatmap, mask, exact=True) for mask, heatmap in zip(masks, heatmaps, strict=True)]
    return pixel_metrics(tallies, limit=limit)["aupro"]


@dataclass(frozen=True)
class Tally:
    """The pixels of one image, or of several, counted by score.

    Attributes:
        bits: of the float32 mantissa that tell bins apart.
        normal_bins: (K,) uint32 ascending, bins in which normal pixels lie; normal: (K,) int64, how many.
        defect_bins: (L,) the same of defect pixels; defect: (L,) how many.
        overlap: (L,) float64, each defect pixel counted as 1 / area of its region.
        regions: number of connected regions.
    """

    bits: int
    normal_bins: np.ndarray
    normal: np.ndarray
    defect_bins: np.ndarray
    defect: np.ndarray
    overlap: np.ndarray
    regions: int


def tally(heatmap: np.ndarray, mask: np.ndarray, *, exact: bool = False) -> Tally:
    """Count the pixels of one image.

    Args:
        heatmap: (H, W) float32, not negative, higher = more anomalous.
        mask: (H, W) bool, true on defects.
        exact: keep every float32 apart, however many there are.

    Raises:
        ValueError: shapes differ, or a value is negative, NaN or infinite.
    """
    if heatmap.shape != mask.shape or heatmap.ndim != 2:
        raise ValueError(f"expected a heatmap and a mask of one shape (H, W), got {heatmap.shape} and {mask.shape}")
    values = np.ascontiguousarray(heatmap, np.float32)
    if not (np.isfinite(values).all() and values.min(initial=0) >= 0):
        raise ValueError("expected finite heatmap values of 0 or more: NaN, infinite or negative ones are there")
    values = values + np.float32(0)  # -0 becomes 0
    mask = mask.astype(bool)
    share, regions = np.zeros(0), 0
    if mask.any():
        import cv2

        count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
        inside = labels[mask]
        share, regions = 1 / np.bincount(inside)[inside], count - 1

    def counted(bits: int) -> Tally:
        bins = values.view(np.uint32) >> (_ALL_BITS - bits)  # ordered as the values
        return Tally(bits, *_count(bins[~mask], None)[:2], *_count(bins[mask], share), regions)

    if exact:
        return counted(_ALL_BITS)
    found = counted(_FIRST_BITS)
    room = _MOST_BINS // max(len(found.normal_bins), len(found.defect_bins), 1)
    if room > 1:
        return counted(min(_ALL_BITS, _FIRST_BITS + room.bit_length() - 1))
    while max(len(found.normal_bins), len(found.defect_bins)) > _MOST_BINS:
        found = _coarser(found, found.bits - 1)
    return found


def _count(bins: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Occupied bins, ascending; how many are in each; the sum of their weights."""
    if bins.size == 0:
        return bins, np.zeros(0, np.int64), np.zeros(0)
    low = int(bins.min())
    width = int(bins.max()) - low + 1
    if width > max(4 * bins.size, 1 << 22):  # too sparse to count in place
        occupied, place, counts = np.unique(bins, return_inverse=True, return_counts=True)
        return occupied, counts, np.zeros(0) if weights is None else np.bincount(place, weights)
    offsets = bins - np.uint32(low)
    counts = np.bincount(offsets, minlength=width)
    occupied = np.flatnonzero(counts)
    sums = np.zeros(0) if weights is None else np.bincount(offsets, weights, minlength=width)[occupied]
    return (occupied + low).astype(np.uint32), counts[occupied], sums


def _coarser(one: Tally, bits: int) -> Tally:
    """The same pixels on wider bins."""
    if bits == one.bits:
        return one
    normal_bins, normal, _ = _join_bins(one.normal_bins >> (one.bits - bits), one.normal, one.normal)
    return Tally(
        bits,
        normal_bins,
        normal,
        *_join_bins(one.defect_bins >> (one.bits - bits), one.defect, one.overlap),
        one.regions,
    )


def _join_bins(bins: np.ndarray, counts: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equal neighbours added up."""
    if bins.size == 0:
        return bins, counts, sums
    starts = np.flatnonzero(np.concatenate([[True], np.diff(bins) > 0]))
    return bins[starts], np.add.reduceat(counts, starts), np.add.reduceat(sums, starts)


def _aligned(tallies: Sequence[Tally]) -> tuple[list[Tally], np.ndarray]:
    """Tallies on the widest of their bins, and all bins that occur, ascending.

    Raises:
        ValueError: there are none.
    """
    if not tallies:
        raise ValueError("expected the tally of at least one image")
    bits = min(one.bits for one in tallies)
    same = [_coarser(one, bits) for one in tallies]
    return same, np.unique(np.concatenate([part for one in same for part in (one.normal_bins, one.defect_bins)]))


@dataclass(frozen=True)
class PixelCounts:
    """Tallies on common bins, highest score first.

    Attributes:
        normal, defect, overlap: (images, K) float64.
        regions: (images,) float64.
    """

    normal: np.ndarray
    defect: np.ndarray
    overlap: np.ndarray
    regions: np.ndarray


def merge(tallies: Sequence[Tally]) -> PixelCounts:
    """The sum of all tallies, as one image: every array has a first axis of length 1."""
    same, bins = _aligned(tallies)
    normal, defect, overlap = (np.zeros(len(bins)) for _ in range(3))
    for one in same:
        normal[np.searchsorted(bins, one.normal_bins)] += one.normal
        place = np.searchsorted(bins, one.defect_bins)
        defect[place] += one.defect
        overlap[place] += one.overlap
    total = np.array([float(sum(one.regions for one in same))])
    return PixelCounts(normal[None, ::-1], defect[None, ::-1], overlap[None, ::-1], total)


def coarsen(tallies: Sequence[Tally], bins: int = 1024) -> PixelCounts:
    """Each image on the same few bins, about equally many normal and defect pixels in each: for resampling images."""
    same, edges = _aligned(tallies)
    both = merge(same)
    weight = both.normal[0, ::-1] / max(both.normal.sum(), 1) + both.defect[0, ::-1] / max(both.defect.sum(), 1)
    group = np.minimum((weight.cumsum() / weight.sum() * bins).astype(int), bins - 1)
    normal, defect, overlap = (np.zeros((len(same), bins)) for _ in range(3))
    for row, one in enumerate(same):
        place = group[np.searchsorted(edges, one.normal_bins)]
        normal[row] = np.bincount(place, one.normal, bins)[::-1]
        place = group[np.searchsorted(edges, one.defect_bins)]
        defect[row] = np.bincount(place, one.defect, bins)[::-1]
        overlap[row] = np.bincount(place, one.overlap, bins)[::-1]
    return PixelCounts(normal, defect, overlap, np.array([float(one.regions) for one in same]))


def pixel_metrics(tallies: Sequence[Tally], *, limit: float = PRO_LIMIT) -> dict[str, float]:
    """Over all pixels of all images.

    Args:
        tallies: of images, see `tally`; at least one.
        limit: of the false-positive rate for AUPRO, in (0, 1].

    Returns:
        pixel_auroc, pixel_ap, pixel_f1_max, aupro; and binning_error, the most that bins can have moved pixel_auroc.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"expected a limit of the false-positive rate in (0, 1], got {limit}")
    counts = merge(tallies)
    areas = pixel_areas(counts, limit=limit)
    ties = (counts.normal * counts.defect).sum() / 2
    possible = counts.normal.sum() * counts.defect.sum()
    error = float(ties / possible) if possible else float("nan")
    return {name: float(value[0]) for name, value in areas.items()} | {"binning_error": error}


def pixel_areas(counts: PixelCounts, *, limit: float = PRO_LIMIT) -> dict[str, np.ndarray]:
    """pixel_auroc, pixel_ap, pixel_f1_max and aupro of each row of counts: (rows,) each."""
    areas = ranking_areas(counts.normal, counts.defect)
    with np.errstate(invalid="ignore", divide="ignore"):
        false_positives = counts.normal.cumsum(1) / counts.normal.sum(1, keepdims=True)
        overlap = counts.overlap.cumsum(1) / counts.regions[:, None]
    names = {"auroc": "pixel_auroc", "ap": "pixel_ap", "f1_max": "pixel_f1_max"}
    return {new: areas[old] for old, new in names.items()} | {"aupro": area_up_to(false_positives, overlap, limit)}


def ranking_areas(normal: np.ndarray, defect: np.ndarray) -> dict[str, np.ndarray]:
    """auroc, ap and f1_max from counts by score, highest first: (rows, K) each -> (rows,) each."""
    false, true = normal.cumsum(1), defect.cumsum(1)  # (rows, K)
    negatives, positives = normal.sum(1), defect.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        # a defect outranks the normal ones below it, and half of those in its own bin
        wins = (defect * (negatives[:, None] - false + normal / 2)).sum(1) / (negatives * positives)
        precision = np.where(true + false > 0, true / (true + false), 0)
        ap = (defect * precision).sum(1) / positives
    best = np.where(positives > 0, _f1(false, true).max(1, initial=0), np.nan)
    return {"auroc": wins, "ap": ap, "f1_max": best}


def _f1(false: np.ndarray, true: np.ndarray) -> np.ndarray:
    """F1 at every threshold, from cumulated counts along the last axis."""
    return 2 * true / np.maximum(true + false + true[..., -1:], 1e-300)


def area_up_to(x: np.ndarray, y: np.ndarray, limit: float) -> np.ndarray:
    """Area under curves that start at (0, 0), by trapezoids up to x = limit, divided by the limit.

    Args:
        x, y: (rows, K), not falling.

    Returns:
        (rows,); NaN where x or y is.
    """
    start = np.zeros((len(x), 1))
    x, y = np.concatenate([start, x], 1), np.concatenate([start, y], 1)
    width = np.diff(x)
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = np.clip((limit - x[:, :-1]) / np.where(width > 0, width, 1), 0, 1)  # part of each step before it
        inside = np.where(x[:, :-1] > limit, 0, np.where(width > 0, inside, 1))
        reached = y[:, :-1] + inside * np.diff(y)
    return (inside * width * (y[:, :-1] + reached) / 2).sum(1) / limit
