"""The records of a task -> its row of metrics.json, its lines of scores.csv and its curves."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accuracy.measures import METRICS, Record, interval, replicate
from accuracy.plan import Task
from patchclip import metrics

#: Points of a curve in the report.
_CURVE_POINTS = 160

#: A larger error of the pixel metrics, by counting on bins, is reported.
_REPORTED_BINNING_ERROR = 1e-3


def replicate_task(task: Task, records: Sequence[Record]) -> dict[str, np.ndarray]:
    """`measures.replicate`, with the same resamples for every method on a category."""
    category = task.category
    seed = zlib.crc32(f"{category.dataset}/{category.name}".encode())
    return replicate(records, named=bool(category.kinds), seed=seed)


def make_row(
    task: Task,
    records: Sequence[Record],
    replicates: Mapping[str, np.ndarray],
    *,
    references: int,
    seconds_per_image: float,
    fit_seconds: float,
    notes: Mapping[str, object],
) -> dict[str, Any]:
    """One of "rows" of metrics.json.

    Args:
        references: images that were fitted on; notes: of the method, after its fit.
    """
    category = task.category
    tallies = [record.tally for record in records if record.tally is not None]
    row: dict[str, Any] = {
        "dataset": category.dataset,
        "category": category.name,
        "layout": category.layout,
        "method": task.method,
        "shots": task.shots,
        "seed": task.seed,
        "references": references,
        "images": len(records),
        "anomalous": sum(record.label for record in records),
        "unreadable": len(category.test) - len(records),
        "images_with_pixels": len(tallies),
        "threshold": records[0].threshold if records else None,
        "seconds_per_image": seconds_per_image,
        "fit_seconds": fit_seconds,
    }
    for name in METRICS:
        row[name] = _finite(replicates[name][0])
        bounds = interval(replicates[name])
        row[f"{name}_95"] = None if bounds is None else list(bounds)
    for key, value in notes.items():
        row.setdefault(key, value)
    if category.kinds:
        row["by_kind"] = _by_kind(records)
    if any(tally.regions for tally in tallies):
        row["pixel_binning_error"] = metrics.pixel_metrics(tallies)["binning_error"]
    return row


def check_binning(task: Task, row: Mapping[str, Any]) -> list[str]:
    """A remark where the pixel metrics are not as exact as they look."""
    error = row.get("pixel_binning_error", 0.0)
    if error <= _REPORTED_BINNING_ERROR:
        return []
    return [f"{task.title}: many pixels share a score; pixel_auroc is known to within {error:.4f}"]


def _by_kind(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Image AUROC of each kind of defect against all normal images."""
    normal = [record.score for record in records if record.label == 0]
    by_kind = {}
    for kind in sorted({record.kind for record in records if record.kind}):
        scores = [record.score for record in records if record.kind == kind]
        labels = np.array([0] * len(normal) + [1] * len(scores))
        area = metrics.auroc(labels, np.array(normal + scores))
        by_kind[kind] = {"images": len(scores), "image_auroc": _finite(area)}
    return by_kind


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def make_scores(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What scores.csv, the histograms and the course's tables say of each image."""
    return [
        {
            "path": record.path,
            "label": record.label,
            "kind": record.kind,
            "score": record.score,
            "threshold": record.threshold,
            "defect": record.defect,
            "similarity": record.similarity,
            "elapsed_s": record.elapsed_s,
        }
        for record in records
    ]


# --- curves -------------------------------------------------------------------------------------------------------


def make_curves(records: Sequence[Record]) -> dict[str, list[list[float]]]:
    """ "roc" of images and "pro" of pixels, where they are defined: lists of x and of y, thinned."""
    labels = np.array([record.label for record in records])
    scores = np.array([record.score for record in records])
    curves = {}
    if 0 < labels.sum() < len(labels):
        _, rank = np.unique(-scores, return_inverse=True)  # highest score first
        curves["roc"] = thin(np.bincount(rank, labels == 0), np.bincount(rank, labels == 1))
    tallies = [record.tally for record in records if record.tally is not None]
    if any(tally.regions for tally in tallies):
        counts = metrics.merge(tallies)
        curves["pro"] = thin(counts.normal[0], counts.overlap[0], limit=metrics.PRO_LIMIT)
    return curves


def thin(x: np.ndarray, y: np.ndarray, *, limit: float = 1.0) -> list[list[float]]:
    """Counts by score, highest first -> at most `_CURVE_POINTS` points of the cumulated curve from (0, 0) on.

    The points are even along the curve's length, so that a steep rise keeps its shape.

    Args:
        x, y: counts for the two axes, (n,) each; limit: of the share of x.
    """
    across = np.concatenate([[0], x.cumsum() / max(x.sum(), 1e-300)])
    up = np.concatenate([[0], y.cumsum() / max(y.sum(), 1e-300)])
    within = int(np.searchsorted(across, limit, side="right"))
    across, up = across[: within + 1], up[: within + 1]
    steps = np.diff(across) / limit + np.diff(up)
    length = np.concatenate([[0], steps.cumsum()])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], _CURVE_POINTS)))
    return [np.round(across[kept], 5).tolist(), np.round(up[kept], 5).tolist()]
