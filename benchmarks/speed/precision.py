"""Rows about bfloat16 beside float32: speed, and what it does to scores."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

import internals
from patchclip import Detector, metrics
from speed.bench import LARGE, Bench, Row, at_least, synthetic_set
from timing import CPU


def bf16(bench: Bench) -> Iterator[Row]:
    if internals.default_precision(CPU) != "bf16":
        detail = "this processor has no quick instructions for bf16"
        yield Row("bf16 to fp32, images a second", "-", ">= 1.40 x", None, detail)
        return
    images, labels = synthetic_set(24 if bench.quick else 240)
    exact, rounded = Detector(precision="fp32", device="cpu"), Detector(precision="bf16", device="cpu")
    yield _speed_row(bench, "embedded model", exact, rounded, images[:24])
    yield _speed_row(bench, LARGE, bench.large(precision="fp32"), bench.large(precision="bf16"), images[:4])

    scores = _scores(exact, images)
    rounded_scores = _scores(rounded, images)
    auroc = float(metrics.auroc(labels, scores))
    rounded_auroc = float(metrics.auroc(labels, rounded_scores))
    moved = abs(rounded_auroc - auroc)
    detail = f"{rounded_auroc:.4f} to {auroc:.4f}, {len(images)} synthetic images"
    yield Row("bf16, image AUROC to that of fp32", f"{moved:.4f}", "<= 0.002", moved <= 0.002, detail)
    apart = float(np.abs(rounded_scores - scores).max())
    detail = "largest difference of an image"
    yield Row("bf16, scores to those of fp32", f"{apart:.4f}", "<= 0.01", apart <= 0.01, detail)


def _speed_row(bench: Bench, name: str, exact: Detector, rounded: Detector, images: list[np.ndarray]) -> Row:
    small = internals.resize_to_square(exact, images)
    times = bench.alternate({"fp32": partial(_scores, exact, small), "bf16": partial(_scores, rounded, small)})
    return at_least(f"bf16 to fp32, images a second, {name}", times["fp32"], times["bf16"], 1.4)


def _scores(detector: Detector, images: list[np.ndarray]) -> np.ndarray:
    return np.array([result.score for result in detector.predict_batch(images, progress=False)])
