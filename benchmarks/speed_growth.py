"""How cost grows with image size, tokens, bank size and batch; and where the time of one `predict` goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.latency import time_parts
from benchmarks.speed_bench import Bench, bare_forward
from patchclip import Detector
from patchclip.bank import PatchBank

#: Title of a panel -> (label of its x axis, curve -> list of (x, seconds)).
Growth = dict[str, tuple[str, dict[str, list[tuple[float, float]]]]]


def profile_predict(bench: Bench) -> list[tuple[str, float]]:
    """Median seconds of each part of `predict`, and of all of it."""
    detector = Detector(precision="fp32", device="cpu")
    detector.threshold = 0.9 * detector.predict(bench.photographs[1]).score  # so that there are regions
    parts = time_parts(detector, bench.photographs[1], repetitions=4 * bench.repetitions, clock=bench.clock)
    return [*parts.items(), ("all", sum(parts.values()))]


def measure_growth(bench: Bench) -> Growth:
    """Seconds against size, one panel for each kind of size."""
    rng = np.random.default_rng(0)
    detector = Detector(precision="fp32", device="cpu")
    detector.threshold = 1.0

    def median(function: Callable[[], Any]) -> float:
        return float(np.median(bench.alternate({"": function}, 3)[""]))

    def predict(detector: Detector, side: int) -> float:
        image = rng.integers(0, 256, (side, side, 3), np.uint8)
        return median(lambda: detector.predict(image))

    sides = (224, 400, 800, 1600) if bench.quick else (224, 400, 800, 1600, 3200)
    by_image = [(float(side), predict(detector, side)) for side in sides]
    by_tokens = []
    for side in (112, 224, 448) if bench.quick else (112, 160, 224, 320, 448, 672):
        larger = Detector(precision="fp32", device="cpu", image_size=side)
        larger.threshold = 1.0
        by_tokens.append(((side / 16) ** 2, predict(larger, side)))
    queries = F.normalize(torch.randn(225, 384, generator=torch.Generator().manual_seed(0)), dim=1)
    by_bank = []
    for count in (1_000, 10_000, 100_000) if bench.quick else (1_000, 10_000, 100_000, 1_000_000):
        stored = PatchBank(F.normalize(torch.randn(count, 384, generator=torch.Generator().manual_seed(1)), dim=1))
        by_bank.append((float(count), median(lambda stored=stored: stored.nearest(queries))))  # type: ignore[misc]
    by_batch: dict[str, list[tuple[float, float]]] = {"predict_batch": [], "bare forward": []}
    for batch in (1, 2, 4, 8, 16, 32):
        images = list(rng.integers(0, 256, (batch, 224, 224, 3), np.uint8))
        own = median(
            lambda images=images, batch=batch: list(  # type: ignore[misc]
                detector.predict_batch(images, batch_size=batch, progress=False)
            )
        )
        by_batch["predict_batch"].append((float(batch), own / batch))
        by_batch["bare forward"].append((float(batch), median(bare_forward(detector, batch)) / batch))
    return {
        "predict, embedded model": ("side of the image in pixels", {"predict": by_image}),
        "predict, image_size 112 to 672": ("tokens", {"predict": by_tokens}),
        "225 queries x 384": ("vectors in the bank", {"PatchBank.nearest": by_bank}),
        "an image of a batch, 224 x 224": ("batch", by_batch),
    }


def plot_growth(growth: Growth, path: Path) -> None:
    """Four panels, milliseconds against size, both axes logarithmic where the range is wide."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(1, len(growth), figsize=(4 * len(growth), 3.4), layout="constrained")
    for axis, (title, (label, curves)) in zip(axes, growth.items(), strict=True):
        _draw(axis, curves)
        axis.set(title=title, xlabel=label, ylabel="ms", xscale="log")
        seconds = [value for points in curves.values() for _, value in points]
        if max(seconds) > 5 * min(seconds):
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
        else:
            axis.set_ylim(bottom=0)
        sizes = sorted({x for points in curves.values() for x, _ in points})
        axis.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_minor_locator(ticker.NullLocator())
        axis.grid(visible=True, alpha=0.25)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw(axis: Any, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    for name, points in curves.items():
        axis.plot([x for x, _ in points], [1000 * seconds for _, seconds in points], "o-", label=name)
    if len(curves) > 1:
        axis.legend()
