"""Scores of test images -> a row of metrics with 95 % bootstrap intervals, and means over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from patchclip import metrics

RESAMPLES = 1000

#: What a row has beside the keys that identify it, in the order of tables.
METRICS = (
    "image_auroc",
    "image_ap",
    "image_f1_max",
    "accuracy",
    "precision",
    "recall",
    "f1",
    "false_positive_rate",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "aupro",
    "name_accuracy",
)


@dataclass(frozen=True)
class Record:
    """What one method said of one test image.

    Attributes:
        path: of the image; label: 1 anomalous; kind: of the defect, as the data set names it.
        score, threshold: higher = more anomalous, anomalous above the threshold; None where the method has none.
        defect: the name the method gave; None for none.
        tally: the heatmap's pixels counted against the mask; None without a heatmap or a usable mask.
        similarity: to normal and to anomalous images, of methods that have them.
    """

    path: str
    label: int
    kind: str | None
    score: float
    threshold: float | None
    defect: str | None = None
    tally: metrics.Tally | None = None
    similarity: tuple[float, float] | None = None


def bootstrap_weights(labels: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each image is drawn: (resamples, images) float64.

    Normal and anomalous images are drawn apart, so that every sample has as many of both as the test set. The same
    labels get the same draws: methods are compared on the same resamples.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((resamples, len(labels)))
    for label in (0, 1):
        members = np.flatnonzero(labels == label)
        if len(members):
            weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), resamples)
    return weights


def replicate(
    records: Sequence[Record], *, named: bool, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, np.ndarray]:
    """Every metric on the test set itself and on its resamples.

    Args:
        named: whether the data set names at least two kinds of defect.
        seed: of the draws; the same for all methods on one category.

    Returns:
        metric -> (1 + resamples,), the test set's own value first; NaN where a metric is not defined.
    """
    if not records:
        return {name: np.full(1 + resamples, np.nan) for name in METRICS}
    labels = np.array([record.label for record in records])
    scores = np.array([record.score for record in records])
    weights = bootstrap_weights(labels, resamples=resamples, seed=seed)
    weights = np.concatenate([np.ones((1, len(labels))), weights])
    out = _image_areas(labels, scores, weights)
    out |= _pixel_areas(records, weights)
    decided = [record.score > record.threshold for record in records if record.threshold is not None]
    flagged = np.array(decided)
    if len(decided) == len(records):
        out |= _decisions(labels, flagged, weights)
    if named and len(decided) == len(records):
        asked = np.array([bool(record.kind) and flag for record, flag in zip(records, flagged, strict=True)])
        right = np.array([record.defect == record.kind for record in records])
        with np.errstate(invalid="ignore"):
            out["name_accuracy"] = (weights @ (asked & right)) / (weights @ asked)
    return {name: out.get(name, np.full(len(weights), np.nan)) for name in METRICS}


def _image_areas(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(scores[order]) != 0]))
    normal = np.add.reduceat(weights[:, order] * (labels[order] == 0), starts, axis=1)
    defect = np.add.reduceat(weights[:, order] * (labels[order] == 1), starts, axis=1)
    areas = metrics.ranking_areas(normal, defect)
    areas["auroc"][0] = metrics.auroc(labels, scores)
    areas["ap"][0] = metrics.average_precision(labels, scores)
    return {f"image_{name}": values for name, values in areas.items()}


def _decisions(labels: np.ndarray, flagged: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, precision, recall, F1 and false-positive rate; precision is 0 where nothing is flagged."""
    true, false = weights @ (flagged & (labels == 1)), weights @ (flagged & (labels == 0))
    positives, negatives = weights @ (labels == 1), weights @ (labels == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(true + false > 0, true / (true + false), 0)
        return {
            "accuracy": (true + negatives - false) / (positives + negatives),
            "precision": np.where(positives > 0, precision, np.nan),
            "recall": true / positives,
            "f1": np.where(positives > 0, 2 * true / (true + false + positives), np.nan),
            "false_positive_rate": false / negatives,
        }


def _pixel_areas(records: Sequence[Record], weights: np.ndarray) -> dict[str, np.ndarray]:
    places = [place for place, record in enumerate(records) if record.tally is not None]
    tallies = [record.tally for record in records if record.tally is not None]
    if not any(tally.regions for tally in tallies):
        return {}
    own = metrics.pixel_metrics(tallies)
    coarse = metrics.coarsen(tallies)
    drawn = weights[1:, places]
    resampled = metrics.PixelCounts(
        drawn @ coarse.normal, drawn @ coarse.defect, drawn @ coarse.overlap, drawn @ coarse.regions
    )
    areas = metrics.pixel_areas(resampled)
    return {name: np.concatenate([[own[name]], values]) for name, values in areas.items()}


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """95 % of the resamples lie in it; None where the metric is not defined."""
    resampled = values[1:]
    if not np.isfinite(values[0]) or not np.isfinite(resampled).any():
        return None
    low, high = np.nanpercentile(resampled, (2.5, 97.5))
    return float(low), float(high)


def summarise(units: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds of each category, method and number of shots, and over the categories of each data set.

    Args:
        units: with "row" and "replicates", of `units.run_task`, and "asked", of its `Task`.

    Returns:
        Rows with dataset, category ("mean" over several, where all of them have figures for the shots that were asked
        for), method, shots (as asked, of a mean), seeds, images, and for each metric a dict of
        mean, sd (over seeds; None for one) and low, high (95 % over images, of the mean); None where not defined.
    """
    groups: dict[tuple[str, str, str, int], list[dict[str, Any]]] = {}
    for unit in units:
        row = unit["row"]
        groups.setdefault((row["dataset"], row["category"], row["method"], row["shots"]), []).append(unit)
    rows: list[dict[str, Any]] = []
    averages: dict[tuple[str, str, int | str], list[tuple[list[dict[str, Any]], dict[str, np.ndarray]]]] = {}
    for (dataset, category, method, shots), members in groups.items():
        values = {name: np.stack([unit["replicates"][name] for unit in members]) for name in METRICS}  # (seeds, 1 + R)
        rows.append(_summary_row(members, dataset, category, method, shots, values))
        for asked in members[0]["asked"]:
            averages.setdefault((dataset, method, asked), []).append((members, values))
    for (dataset, method, asked), parts in averages.items():
        categories = {category for name, category, *_ in groups if name == dataset}
        if not 1 < len(categories) == len(parts):
            continue
        seeds = min(len(members) for members, _ in parts)
        values = {name: np.stack([part[name][:seeds] for _, part in parts]).mean(0) for name in METRICS}
        everyone = [unit for members, _ in parts for unit in members]
        rows.append(_summary_row(everyone, dataset, "mean", method, asked, values) | {"seeds": seeds})
    return rows


def _summary_row(
    units: Sequence[dict[str, Any]],
    dataset: str,
    category: str,
    method: str,
    shots: int | str,
    values: dict[str, np.ndarray],
) -> dict[str, Any]:
    first_seed = min(unit["row"]["seed"] for unit in units)
    once = [unit["row"] for unit in units if unit["row"]["seed"] == first_seed]
    out: dict[str, Any] = {
        "dataset": dataset,
        "category": category,
        "method": method,
        "shots": shots,
        "seeds": len({unit["row"]["seed"] for unit in units}),
        "images": sum(row["images"] for row in once),
        "anomalous": sum(row["anomalous"] for row in once),
        "seconds_per_image": float(np.mean([unit["row"]["seconds_per_image"] for unit in units])),
    }
    for name, per_seed in values.items():
        mean = per_seed.mean(0)
        bounds = interval(mean)
        if bounds is None:
            out[name] = None
            continue
        spread = float(per_seed[:, 0].std(ddof=1)) if len(per_seed) > 1 else None
        out[name] = {"mean": float(mean[0]), "sd": spread, "low": bounds[0], "high": bounds[1]}
    return out
