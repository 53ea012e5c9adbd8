"""Metrics of anomaly detection and localisation. Higher scores mean more anomalous.

Equal scores count as one step, so that a constant score is worth nothing (AUROC 0.5). A value that is not defined,
because one of the two classes is missing, is NaN.

`tally` reduces the pixels of an image to counts on at most 32,768 logarithmic bins, some hundred kilobytes whatever
its size, and tallies of many images add up. `pixel_metrics` reports how far this can have moved pixel AUROC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

#: Upper limit of the false-positive rate that AUPRO is integrated to.
PRO_LIMIT = 0.3

_MANTISSA_BITS = 23  # of a float32
_MAX_BINS = 1 << 15  # that one image may fill


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half; NaN where only one class is present.

    Args:
        labels: bool or 0/1, any shape; scores: the same shape.

    Raises:
        ValueError: sizes differ, or a score is NaN or infinite.
    """
    _, normal, defect = _count_by_score(labels, scores)
    return float(ranking_areas(normal, defect)["auroc"][0])


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall curve as a step function; NaN where no label is positive.

    Arguments and errors as of `auroc`.
    """
    _, normal, defect = _count_by_score(labels, scores)
    return float(ranking_areas(normal, defect)["ap"][0])


def f1_max(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """The highest F1 of any threshold, and the smallest score that it still calls anomalous; NaN without positives.

    Arguments and errors as of `auroc`.
    """
    descending, normal, defect = _count_by_score(labels, scores)
    if not defect.any():
        return float("nan"), float("nan")
    f1 = _f1(normal.cumsum(1), defect.cumsum(1))[0]
    best = int(f1.argmax())
    return float(f1[best]), float(descending[best])


def _count_by_score(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The K different scores, highest first: (K,); how many normal and anomalous ones have each: (1, K) float64."""
    labels = np.asarray(labels).ravel().astype(bool)
    scores = np.asarray(scores, np.float64).ravel()
    if labels.shape != scores.shape:
        raise ValueError(f"expected one score for each label, got {labels.size} labels and {scores.size} scores")
    if not np.isfinite(scores).all():
        raise ValueError(f"expected finite scores, got {np.count_nonzero(~np.isfinite(scores))} NaN or infinite ones")
    negated, index = np.unique(-scores, return_inverse=True)
    normal = np.bincount(index, ~labels)
    defect = np.bincount(index, labels)
    return -negated, normal[None], defect[None]


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
    found = {name: float(values[0]) for name, values in pixel_areas(counts, limit=limit).items()}
    tied_pairs = (counts.normal * counts.defect).sum()
    pairs = counts.normal.sum() * counts.defect.sum()
    found["binning_error"] = float(tied_pairs / pairs / 2) if pairs else float("nan")
    return found


@dataclass(frozen=True)
class Tally:
    """The pixels of one image, or of several, counted by score.

    A bin is the exponent and the first `bits` bits of the mantissa of a float32, read as an integer: ordered as the
    values are, and 2**bits bins from each power of two to the next.

    Attributes:
        bits: of the 23 of the mantissa.
        normal_bins: (K,) uint32 ascending, bins in which normal pixels lie; normal: (K,) int64, how many in each.
        defect_bins, defect: (L,) the same of defect pixels.
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
    """Count the pixels of one image, on the narrowest bins of which it fills at most 32,768.

    Args:
        heatmap: (H, W) float32, not negative, higher = more anomalous.
        mask: (H, W) bool, true on defects.
        exact: a separate bin for every float32, however many there are.

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
    codes = values.view(np.uint32)
    shift = 0 if exact else _smallest_shift(codes)
    bins = codes >> shift
    normal_bins, normal = np.unique(bins[~mask], return_counts=True)
    defect_bins, index, defect = np.unique(bins[mask], return_inverse=True, return_counts=True)
    shares, regions = _region_shares(mask)
    overlap = np.bincount(index, shares, len(defect_bins))
    return Tally(_MANTISSA_BITS - shift, normal_bins, normal, defect_bins, defect, overlap, regions)


def _smallest_shift(codes: np.ndarray) -> int:
    """How many low bits to drop so that at most `_MAX_BINS` different codes are left."""
    ascending = np.sort(codes, axis=None)
    shift = 0
    while np.count_nonzero(np.diff(ascending >> shift)) >= _MAX_BINS:
        shift += 1
    return shift


def _region_shares(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """1 / area of its region, for each pixel of `mask[mask]`; and the number of regions."""
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    labels = labels[mask]
    return 1 / np.bincount(labels)[labels], count - 1


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
    tallies, bins = _on_common_bins(tallies)
    columns = np.arange(len(bins))[::-1]  # highest score first
    return _count_by_column(tallies, bins, columns, rows=[0] * len(tallies))


def coarsen(tallies: Sequence[Tally], bins: int = 1024) -> PixelCounts:
    """Each image on the same few bins, with similar numbers of normal and of defect pixels in each: for resampling."""
    tallies, fine_bins = _on_common_bins(tallies)
    total = merge(tallies)
    weights = total.normal[0] / max(total.normal.sum(), 1) + total.defect[0] / max(total.defect.sum(), 1)
    below = weights[::-1].cumsum() / weights.sum()  # lowest score first
    columns = bins - 1 - np.minimum((below * bins).astype(int), bins - 1)
    return _count_by_column(tallies, fine_bins, columns, rows=range(len(tallies)))


def _on_common_bins(tallies: Sequence[Tally]) -> tuple[list[Tally], np.ndarray]:
    """Tallies on the widest of their bins, where a bin may occur twice in one; and all bins that occur, ascending.

    Raises:
        ValueError: there are none.
    """
    if not tallies:
        raise ValueError("expected the tally of at least one image")
    bits = min(one.bits for one in tallies)
    widened = []
    for one in tallies:
        normal_bins = one.normal_bins >> (one.bits - bits)
        defect_bins = one.defect_bins >> (one.bits - bits)
        widened.append(replace(one, bits=bits, normal_bins=normal_bins, defect_bins=defect_bins))
    occupied = [bins for one in widened for bins in (one.normal_bins, one.defect_bins)]
    return widened, np.unique(np.concatenate(occupied))


def _count_by_column(
    tallies: Sequence[Tally], bins: np.ndarray, columns: np.ndarray, *, rows: Sequence[int]
) -> PixelCounts:
    """Add each tally to its row; columns[k] is where to count the pixels of bins[k]."""
    shape = (max(rows) + 1, int(columns.max()) + 1)
    counts = PixelCounts(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape[0]))
    for row, one in zip(rows, tallies, strict=True):
        normal_columns = columns[np.searchsorted(bins, one.normal_bins)]
        defect_columns = columns[np.searchsorted(bins, one.defect_bins)]
        np.add.at(counts.normal[row], normal_columns, one.normal)
        np.add.at(counts.defect[row], defect_columns, one.defect)
        np.add.at(counts.overlap[row], defect_columns, one.overlap)
        counts.regions[row] += one.regions
    return counts


def pixel_areas(counts: PixelCounts, *, limit: float = PRO_LIMIT) -> dict[str, np.ndarray]:
    """pixel_auroc, pixel_ap, pixel_f1_max and aupro of each row of counts: (rows,) each."""
    areas = {f"pixel_{name}": values for name, values in ranking_areas(counts.normal, counts.defect).items()}
    with np.errstate(invalid="ignore", divide="ignore"):
        false_positives = counts.normal.cumsum(1) / counts.normal.sum(1, keepdims=True)
        overlap = counts.overlap.cumsum(1) / counts.regions[:, None]
    areas["aupro"] = area_up_to(false_positives, overlap, limit)
    return areas


def ranking_areas(normal: np.ndarray, defect: np.ndarray) -> dict[str, np.ndarray]:
    """auroc, ap and f1_max from counts by score, highest first: (rows, K) each -> (rows,) each."""
    false, true = normal.cumsum(1), defect.cumsum(1)  # (rows, K)
    negatives, positives = normal.sum(1), defect.sum(1)
    # an anomalous one outranks the normal ones with lower scores, and half of those with the same score
    outranked = negatives[:, None] - false + normal / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc = (defect * outranked).sum(1) / (negatives * positives)
        precision = np.where(true + false > 0, true / (true + false), 0)
        ap = (defect * precision).sum(1) / positives
    best_f1 = _f1(false, true).max(1, initial=0)
    return {"auroc": auroc, "ap": ap, "f1_max": np.where(positives > 0, best_f1, np.nan)}


def _f1(false: np.ndarray, true: np.ndarray) -> np.ndarray:
    """F1 at every threshold, from cumulated counts along the last axis."""
    return 2 * true / np.maximum(true + false + true[..., -1:], 1e-300)


def area_up_to(x: np.ndarray, y: np.ndarray, limit: float) -> np.ndarray:
    """Area under curves that start at (0, 0), by trapezoids up to x = limit, divided by the limit.

    Args:
        x: (rows, K), not falling; y: the same shape.
        limit: of x.

    Returns:
        (rows,); NaN where x or y is.
    """
    x = np.pad(x, ((0, 0), (1, 0)))
    y = np.pad(y, ((0, 0), (1, 0)))
    width = np.diff(x)
    used = np.diff(np.minimum(x, limit))  # the part of each width that is below the limit
    fraction = np.divide(used, width, out=np.zeros_like(width), where=width > 0)
    mean_height = y[:, :-1] + fraction * np.diff(y) / 2
    return (used * mean_height).sum(1) / limit
