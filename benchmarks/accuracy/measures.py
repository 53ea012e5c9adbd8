"""Predictions of test images -> every metric, on the test set itself and on bootstrap samples of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from patchclip import metrics

RESAMPLES = 1000

#: In the order of the rows of metrics.json.
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

#: The best value of these is the lowest.
LOWER_IS_BETTER = ("false_positive_rate",)


@dataclass(frozen=True)
class Record:
    """The prediction of one test image beside the truth.

    Attributes:
        path: of the image; label: 1 anomalous; kind: of the defect, as the data set names it.
        score, threshold, defect, similarity: see `Prediction`.
        tally: the heatmap's pixels counted against the mask; None without a heatmap or a usable mask.
        elapsed_s: of the prediction, decoding included.
    """

    path: str
    label: int
    kind: str | None
    score: float
    threshold: float | None
    defect: str | None = None
    tally: metrics.Tally | None = None
    similarity: tuple[float, float] | None = None
    elapsed_s: float = 0.0


def bootstrap_weights(labels: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each image is drawn: (resamples, images) float64.

    Normal and anomalous images are drawn apart, so that every sample has as many of both as the test set. The same
    labels get the same draws: methods are compared on the same resamples.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((resamples, len(labels)))
    for label in (0, 1):
        members = np.flatnonzero(labels == label)
        count = len(members)
        if count:
            weights[:, members] = rng.multinomial(count, np.full(count, 1 / count), resamples)
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
    drawn = bootstrap_weights(labels, resamples=resamples, seed=seed)
    weights = np.concatenate([np.ones((1, len(labels))), drawn])  # (1 + resamples, images)
    values = _image_areas(labels, scores, weights) | _pixel_areas(records, weights)
    thresholds = [record.threshold for record in records if record.threshold is not None]
    if len(thresholds) == len(records):
        flagged = scores > np.array(thresholds)
        values |= _decisions(labels, flagged, weights)
        if named:
            values["name_accuracy"] = _name_accuracy(records, flagged, weights)
    undefined = np.full(len(weights), np.nan)
    return {name: values.get(name, undefined) for name in METRICS}


def _image_areas(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    order = np.argsort(-scores, kind="stable")
    new_score = np.diff(scores[order]) != 0
    starts = np.flatnonzero(np.concatenate([[True], new_score]))  # of each run of equal scores
    normal = np.add.reduceat(weights[:, order] * (labels[order] == 0), starts, axis=1)
    defect = np.add.reduceat(weights[:, order] * (labels[order] == 1), starts, axis=1)
    areas = metrics.ranking_areas(normal, defect)
    areas["auroc"][0] = metrics.auroc(labels, scores)
    areas["ap"][0] = metrics.average_precision(labels, scores)
    return {f"image_{name}": values for name, values in areas.items()}


def _pixel_areas(records: Sequence[Record], weights: np.ndarray) -> dict[str, np.ndarray]:
    indices = [index for index, record in enumerate(records) if record.tally is not None]
    tallies = [record.tally for record in records if record.tally is not None]
    if not any(tally.regions for tally in tallies):
        return {}
    whole = metrics.pixel_metrics(tallies)
    coarse = metrics.coarsen(tallies)
    drawn = weights[1:, indices]
    resampled = metrics.PixelCounts(
        drawn @ coarse.normal, drawn @ coarse.defect, drawn @ coarse.overlap, drawn @ coarse.regions
    )
    areas = metrics.pixel_areas(resampled)
    return {name: np.concatenate([[whole[name]], values]) for name, values in areas.items()}


def _decisions(labels: np.ndarray, flagged: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, precision, recall, F1 and false-positive rate; precision is 0 where nothing is flagged."""
    true = weights @ (flagged & (labels == 1))
    false = weights @ (flagged & (labels == 0))
    positives = weights @ (labels == 1)
    negatives = weights @ (labels == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(true + false > 0, true / (true + false), 0)
        return {
            "accuracy": (true + negatives - false) / (positives + negatives),
            "precision": np.where(positives > 0, precision, np.nan),
            "recall": true / positives,
            "f1": np.where(positives > 0, 2 * true / (true + false + positives), np.nan),
            "false_positive_rate": false / negatives,
        }


def _name_accuracy(records: Sequence[Record], flagged: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Among flagged images of a named kind of defect: how many were given that name."""
    named = np.array([bool(record.kind) for record in records]) & flagged
    right = np.array([record.defect == record.kind for record in records])
    with np.errstate(invalid="ignore"):
        return (weights @ (named & right)) / (weights @ named)


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """95 % of the resamples lie in it; None where the metric is not defined."""
    resampled = values[1:]
    if not np.isfinite(values[0]) or not np.isfinite(resampled).any():
        return None
    low, high = np.nanpercentile(resampled, (2.5, 97.5))
    return float(low), float(high)
