"""How long a prediction takes, its parts, and the memory it needs, beside the bare forward of the same backbone."""

from __future__ import annotations

import contextlib
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import patchclip.backbone
import patchclip.bank
import patchclip.detector
import patchclip.features
from patchclip import Detector

from .methods import Method
from .speed_bench import bare_tower

BATCHES = (1, 8, 32)

#: What of `Detector.predict` counts as which part: (where it is looked up, its name there, part).
_PARTS = (
    (patchclip.detector, "load_image", "decode"),
    (patchclip.features, "resize", "resize"),
    (patchclip.backbone.Backbone, "encode", "forward"),
    (patchclip.backbone.Backbone, "encode_windows", "windows"),
    (patchclip.features, "text_map", "text"),
    (patchclip.features, "anomaly_probability", "text"),
    (patchclip.features, "describe_texture", "texture"),
    (patchclip.features, "describe_imagenet", "imagenet"),
    (patchclip.bank.PatchBank, "nearest", "bank"),
    (patchclip.detector, "separate_heatmaps", "heatmap"),
    (patchclip.detector, "find_blobs", "heatmap"),
)


def measure_latency(
    method: Method, bare: Detector, paths: Sequence[Path], *, seconds: float, batches: Sequence[int] = BATCHES
) -> list[dict[str, Any]]:
    """One row for each batch size.

    Args:
        method: fitted.
        bare: whose network alone is timed in turn with the method (`_bare_forward`).
        paths: images on disk, used over and over; decoding counts.
        seconds: to spend on each batch size, about; three repetitions at least.

    Returns:
        batch, repetitions, median_s and p95_s of a whole batch, images_per_second, bare_forward_s, ratio
        (median_s / bare_forward_s), peak_memory_mb; and at batch 1 for patchclip's own methods parts_s, where "rest"
        is what no part covers.
    """
    rows = []
    for batch in batches:
        images = [paths[k % len(paths)] for k in range(batch)]
        forward = _bare_forward(bare, batch)

        def predict(images: Sequence[Path] = images, batch: int = batch) -> None:
            for _ in method.predict(images, batch_size=batch):
                pass

        with _peak_memory(bare.backbone.device) as peak:
            own, plain = _alternate(predict, forward, seconds, bare.backbone.device)
        row: dict[str, Any] = {
            "batch": batch,
            "repetitions": len(own),
            "median_s": float(np.median(own)),
            "p95_s": float(np.percentile(own, 95)),
            "images_per_second": batch / float(np.median(own)),
            "bare_forward_s": float(np.median(plain)),
            "ratio": float(np.median(own) / np.median(plain)),
            "peak_memory_mb": peak[0],
        }
        if batch == 1 and method.detector is not None:
            row["parts_s"] = time_parts(method.detector, images[0], repetitions=max(3, min(20, len(own))))
        rows.append(row)
    return rows


def time_parts(
    detector: Detector, path: Path, *, repetitions: int, clock: Callable[[], float] | None = None
) -> dict[str, float]:
    """Median seconds of each part of `predict`, by timing the functions that it calls while it runs.

    Args:
        clock: None is the time that passes, work on the detector's device included.
    """
    now = clock or functools.partial(_now, detector.backbone.device)
    runs: list[dict[str, float]] = []
    spent: dict[str, float] = defaultdict(float)
    depth = 0

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            if depth:  # inside another part
                return function(*args, **kwargs)
            depth += 1
            start = now()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] += now() - start
                depth -= 1

        return call

    with contextlib.ExitStack() as stack:
        for owner, name, part in _PARTS:
            stack.enter_context(mock.patch.object(owner, name, timed(getattr(owner, name), part)))
        for _ in range(repetitions + 1):
            spent.clear()
            start = now()
            detector.predict(path)
            total = now() - start
            runs.append(dict(spent) | {"rest": total - sum(spent.values())})
    names = dict.fromkeys([part for _, _, part in _PARTS] + ["rest"])
    return {
        name: float(np.median([run.get(name, 0.0) for run in runs[1:]]))
        for name in names
        if any(name in r for r in runs)
    }


def _bare_forward(detector: Detector, batch: int) -> Callable[[], None]:
    """The network alone, at its own size and in the detector's precision.

    open_clip's own image tower, or patchclip's forward of the same network where that is faster: on some processors
    the attention that open_clip calls is several times slower in bfloat16.
    """
    backbone = detector.backbone
    visual, kind = bare_tower(detector)
    pixels = torch.randn(batch, 3, backbone.image_size, backbone.image_size, device=backbone.device)
    rounded = pixels.to(kind)

    @torch.inference_mode()
    def plain() -> None:
        visual(rounded)

    def own() -> None:
        backbone.encode(pixels)

    plain_s, own_s = (min(times) for times in _alternate(plain, own, 0, backbone.device))
    return plain if plain_s <= own_s else own


def _alternate(
    first: Callable[[], None], second: Callable[[], None], seconds: float, device: torch.device
) -> tuple[list[float], list[float]]:
    """Both once for warm-up, then in turn until the time is up, so that a busy moment meets both."""
    first()
    second()
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while len(times[0]) < 3 or time.perf_counter() < end:
        for function, own in zip((first, second), times, strict=True):
            start = _now(device)
            function()
            own.append(_now(device) - start)
    return times


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextlib.contextmanager
def _peak_memory(device: torch.device) -> Iterator[list[float]]:
    """Most memory in use inside, in MB: of the GPU, else of the process (since its start where Linux cannot tell)."""
    peak: list[float] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    try:
        yield peak
    finally:
        if device.type == "cuda":
            peak.append(torch.cuda.max_memory_allocated(device) / 2**20)
        else:
            peak.append(_resident_peak_mb())


def _resident_peak_mb() -> float:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
