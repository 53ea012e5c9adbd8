"""Metrics and their bootstrap intervals, against slow loops and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from accuracy.measures import METRICS, Record, bootstrap_weights, interval, replicate
from accuracy.results import Unit
from accuracy.summary import summarise
from patchclip import metrics

# --- bootstrap ----------------------------------------------------------------------------------------------------


def random_records(seed: int, count: int = 12) -> list[Record]:
    rng = np.random.default_rng(seed)
    records = []
    for index in range(count):
        label = int(index % 3 == 0)
        mask = np.zeros((12, 14), bool)
        mask[2:5, 3:9] = label
        heatmap = np.round(rng.random(mask.shape) + 0.3 * mask, 2).astype(np.float32)
        kind = ("hole", "dot")[index % 2] if label else None
        score = round(float(rng.random() + 0.4 * label), 1)
        named = ("hole", "dot", None)[rng.integers(3)]
        records.append(Record(f"{index}", label, kind, score, 0.6, named, metrics.tally(heatmap, mask)))
    return records


def test_weights_keep_both_classes() -> None:
    labels = np.array([1, 0, 0, 1, 0])
    weights = bootstrap_weights(labels, resamples=200, seed=1)
    assert weights.shape == (200, 5)
    assert (weights[:, labels == 1].sum(1) == 2).all()
    assert (weights[:, labels == 0].sum(1) == 3).all()
    assert np.array_equal(weights, bootstrap_weights(labels, resamples=200, seed=1))
    assert not np.array_equal(weights, bootstrap_weights(labels, resamples=200, seed=2))


@pytest.mark.parametrize("seed", range(5))
def test_resamples_equal_the_metrics_of_repeated_images(seed: int) -> None:
    records = random_records(seed)
    found = replicate(records, named=True, seed=seed, resamples=4)
    weights = bootstrap_weights(np.array([record.label for record in records]), resamples=4, seed=seed)
    for row, weight in enumerate([np.ones(len(records)), *weights]):
        drawn = [record for record, times in zip(records, weight, strict=True) for _ in range(int(times))]
        labels = np.array([record.label for record in drawn])
        scores = np.array([record.score for record in drawn])
        flagged = scores > 0.6
        true, false = (flagged & (labels == 1)).sum(), (flagged & (labels == 0)).sum()
        pixels = metrics.pixel_metrics([record.tally for record in drawn if record.tally])
        asked = [record for record in drawn if record.label and record.score > 0.6]
        right = [record.defect == record.kind for record in asked]
        expected = {
            "image_auroc": metrics.auroc(labels, scores),
            "image_ap": metrics.average_precision(labels, scores),
            "image_f1_max": metrics.f1_max(labels, scores)[0],
            "accuracy": (flagged == labels).mean(),
            "precision": true / flagged.sum() if flagged.any() else 0,
            "recall": true / labels.sum(),
            "f1": 2 * true / (flagged.sum() + labels.sum()),
            "false_positive_rate": false / (labels == 0).sum(),
            "name_accuracy": np.mean(right) if right else np.nan,
            **{name: pixels[name] for name in ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro")},
        }
        assert set(expected) == set(found)
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_what_is_not_there_is_nan() -> None:
    records = [replace(record, threshold=None, tally=None) for record in random_records(0)]
    found = replicate(records, named=False, resamples=3)
    defined = {name for name, values in found.items() if np.isfinite(values[0])}
    assert defined == {"image_auroc", "image_ap", "image_f1_max"}
    alone = replicate([record for record in records if not record.label], named=False, resamples=3)
    assert not any(np.isfinite(values).any() for values in alone.values())
    assert not any(np.isfinite(values).any() for values in replicate([], named=True, resamples=3).values())
    assert interval(np.array([np.nan, 1.0, 1.0])) is None
    assert interval(np.array([0.5, *np.arange(1001)])) == (25.0, 975.0)


def test_summary_by_hand() -> None:
    """Two categories, two seeds: the mean over seeds first, then over categories; spread over seeds."""

    def unit(category: str, seed: int, *values: float, shots: int = 4, requested: int | str = 4) -> Unit:
        row = {"dataset": "d", "category": category, "method": "bank", "shots": shots, "seed": seed, "images": 10}
        row |= {"anomalous": 4, "seconds_per_image": 0.1}
        replicates = {name: np.full(3, np.nan) for name in METRICS} | {"image_auroc": np.array(values)}
        replicates["false_positive_rate"] = 1 - np.array(values)
        return Unit(row, [], replicates, {}, [], [], (requested,))

    units = [unit("a", 0, 0.8, 0.7, 0.9), unit("a", 1, 0.6, 0.5, 0.7), unit("b", 0, 1, 1, 1), unit("b", 1, 0.8, 0.6, 1)]
    a, b, mean = summarise(units)
    assert [row["category"] for row in (a, b, mean)] == ["a", "b", "mean"]
    assert a["image_auroc"]["mean"] == pytest.approx(0.7)
    assert a["image_auroc"]["sd"] == pytest.approx(np.sqrt(2) / 10)
    assert a["image_auroc"]["worst"] == 0.6
    assert a["false_positive_rate"]["worst"] == pytest.approx(0.4)
    # resampled means over seeds are 0.6 and 0.8
    assert a["image_auroc"]["low"] == pytest.approx(0.605)
    assert a["image_auroc"]["high"] == pytest.approx(0.795)
    assert (a["images"], a["anomalous"], a["seeds"]) == (10, 4, 2)
    # by seed over categories 0.9 and 0.7
    assert mean["image_auroc"]["mean"] == pytest.approx(0.8)
    assert mean["image_auroc"]["sd"] == pytest.approx(np.sqrt(2) / 10)
    assert mean["image_auroc"]["worst"] == pytest.approx(0.7)
    assert (mean["images"], mean["anomalous"], mean["seeds"]) == (20, 8, 2)
    assert a["aupro"] is None
    # as many as there are, of categories of different size; and a number that one of them does not have
    every = [
        unit("a", 0, 0.9, 0.9, 0.9, shots=20, requested="all"),
        unit("b", 0, 0.7, 0.7, 0.7, shots=22, requested="all"),
    ]
    assert [(row["category"], row["shots"]) for row in summarise(every)] == [("a", 20), ("b", 22), ("mean", "all")]
    assert summarise(every)[2]["image_auroc"]["mean"] == pytest.approx(0.8)
    lone = [unit("a", 0, 1, 1, 1), unit("b", 0, 1, 1, 1), unit("a", 0, 1, 1, 1, shots=8, requested=8)]
    assert [(row["category"], row["shots"]) for row in summarise(lone)] == [("a", 4), ("b", 4), ("a", 8), ("mean", 4)]
