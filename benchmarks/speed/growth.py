"""How cost grows with image size, tokens, bank size and batch; and where the time of one `predict` goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from internals import PatchBank
from patchclip import Detector
from speed.bench import Bench
from timing import bare_forward, time_parts

#: (size, seconds) each.
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """Seconds against one kind of size."""

    title: str
    x_label: str
    curves: Mapping[str, Points]


def profile_predict(bench: Bench) -> dict[str, dict[str, float]]:
    """ "zero-shot" and "4 normal images" -> median seconds of each part of `predict`, and of all of it."""
    zero_shot = Detector(precision="fp32", device="cpu")
    detectors = {"zero-shot": zero_shot, "4 normal images": bench.few_shot("fp32")}
    defective = bench.photographs[1]
    profile = {}
    for name, detector in detectors.items():
        detector.threshold = 0.9 * detector.predict(defective).score  # so that there are regions
        parts = time_parts(detector, defective, repetitions=4 * bench.repetitions, clock=bench.clock)
        profile[name] = {**parts, "all": sum(parts.values())}
    return profile


def measure_growth(bench: Bench) -> list[Panel]:
    return [
        Panel("predict, embedded model", "side of the image in pixels", {"predict": _by_image_side(bench)}),
        Panel("predict, image_size 112 to 672", "tokens", {"predict": _by_tokens(bench)}),
        Panel("225 queries x 384", "vectors in the bank", {"PatchBank.nearest": _by_bank(bench)}),
        Panel("an image of a batch, 224 x 224", "batch", _by_batch(bench)),
    ]


def _median(bench: Bench, function: Callable[[], Any]) -> float:
    return float(np.median(bench.alternate({"": function}, 3)[""]))


def _make_detector(image_size: int | None = None) -> Detector:
    detector = Detector(precision="fp32", device="cpu", image_size=image_size)
    detector.threshold = 1.0  # no regions
    return detector


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _by_image_side(bench: Bench) -> Points:
    detector = _make_detector()
    points = []
    for side in (224, 400, 800, 1600) if bench.quick else (224, 400, 800, 1600, 3200):
        image = _noise(side, side, 3)
        points.append((float(side), _median(bench, lambda image=image: detector.predict(image))))  # type: ignore[misc]
    return points


def _by_tokens(bench: Bench) -> Points:
    points = []
    for side in (112, 224, 448) if bench.quick else (112, 160, 224, 320, 448, 672):
        detector, image = _make_detector(side), _noise(side, side, 3)
        seconds = _median(bench, lambda detector=detector, image=image: detector.predict(image))  # type: ignore[misc]
        points.append(((side / 16) ** 2, seconds))
    return points


def _by_bank(bench: Bench) -> Points:
    queries = _unit_vectors(225, seed=0)
    points = []
    for count in (1_000, 10_000, 100_000) if bench.quick else (1_000, 10_000, 100_000, 1_000_000):
        stored = PatchBank(_unit_vectors(count, seed=1))
        points.append((float(count), _median(bench, lambda stored=stored: stored.nearest(queries))))  # type: ignore[misc]
    return points


def _unit_vectors(count: int, *, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, 384, generator=torch.Generator().manual_seed(seed)), dim=1)


def _by_batch(bench: Bench) -> dict[str, Points]:
    detector = _make_detector()
    curves: dict[str, Points] = {"predict_batch": [], "bare forward": []}
    for batch in (1, 2, 4, 8, 16, 32):
        images = list(_noise(batch, 224, 224, 3))

        def predict(images: list[np.ndarray] = images, batch: int = batch) -> None:
            list(detector.predict_batch(images, batch_size=batch, progress=False))

        curves["predict_batch"].append((float(batch), _median(bench, predict) / batch))
        curves["bare forward"].append((float(batch), _median(bench, bare_forward(detector, batch)) / batch))
    return curves


# --- the plot -----------------------------------------------------------------------------------------------------


def plot_growth(panels: Sequence[Panel], path: Path) -> None:
    """Milliseconds against size, both axes logarithmic where the range is wide."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(1, len(panels), figsize=(4 * len(panels), 3.4), layout="constrained")
    for axis, panel in zip(axes, panels, strict=True):
        _draw_curves(axis, panel.curves)
        axis.set(title=panel.title, xlabel=panel.x_label, ylabel="ms", xscale="log")
        points = [point for curve in panel.curves.values() for point in curve]
        seconds = [value for _, value in points]
        if max(seconds) > 5 * min(seconds):
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
        else:
            axis.set_ylim(bottom=0)
        sizes = sorted({size for size, _ in points})
        axis.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_minor_locator(ticker.NullLocator())
        axis.grid(visible=True, alpha=0.25)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_curves(axis: Any, curves: Mapping[str, Points]) -> None:
    for name, points in curves.items():
        sizes = [size for size, _ in points]
        milliseconds = [1000 * seconds for _, seconds in points]
        axis.plot(sizes, milliseconds, "o-", label=name)
    if len(curves) > 1:
        axis.legend()
