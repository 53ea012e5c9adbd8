"""How long a prediction takes, its parts, and the memory it needs, beside the bare forward of the same network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import internals
from accuracy.methods.base import Method
from patchclip import Detector
from timing import Clock, alternate, bare_forward, measure_memory, time_parts, wall_clock

BATCHES = (1, 8, 32)


def measure_latency(
    method: Method, bare: Detector, paths: Sequence[Path], *, seconds: float, batches: Sequence[int] = BATCHES
) -> list[dict[str, Any]]:
    """One row for each batch size.

    Args:
        method: fitted.
        bare: whose network alone is timed in turn with the method.
        paths: images on disk, used over and over; decoding counts.
        seconds: to spend on each batch size, roughly; three repetitions at least.

    Returns:
        batch, repetitions, median_s and p95_s of a whole batch, images_per_second, bare_forward_s, ratio
        (median_s / bare_forward_s), peak_memory_mb; and at batch 1 for patchclip's methods parts_s, where "rest"
        is what no part covers.
    """
    device = internals.device_of(bare)
    clock = wall_clock(device)
    rows = []
    for batch in batches:
        images = [paths[index % len(paths)] for index in range(batch)]
        functions: dict[str, Callable[[], None]] = {
            "predict": partial(_predict, method, images),
            "bare": _fastest_forward(bare, batch, clock),
        }
        with measure_memory(device) as memory:
            times = alternate(functions, clock=clock, seconds=seconds)
        median_s = float(np.median(times["predict"]))
        bare_s = float(np.median(times["bare"]))
        repetitions = len(times["predict"])
        row: dict[str, Any] = {
            "batch": batch,
            "repetitions": repetitions,
            "median_s": median_s,
            "p95_s": float(np.percentile(times["predict"], 95)),
            "images_per_second": batch / median_s,
            "bare_forward_s": bare_s,
            "ratio": median_s / bare_s,
            "peak_memory_mb": memory.peak_mb,
        }
        if batch == 1 and method.detector is not None:
            timed = min(20, repetitions)
            row["parts_s"] = time_parts(method.detector, images[0], repetitions=timed, clock=clock)
        rows.append(row)
    return rows


def _predict(method: Method, batch: Sequence[Path]) -> None:
    for _ in method.predict(batch, batch_size=len(batch)):
        pass


def _fastest_forward(detector: Detector, batch: int, clock: Clock) -> Callable[[], None]:
    """The bare forward by open_clip, or by patchclip where that is faster.

    On some processors the attention that open_clip calls is several times slower in bfloat16.
    """
    side = internals.square_side(detector)
    pixels = torch.randn(batch, 3, side, side, device=internals.device_of(detector))
    candidates: dict[str, Callable[[], None]] = {
        "open_clip": bare_forward(detector, batch),
        "patchclip": lambda: internals.forward(detector, pixels),
    }
    times = alternate(candidates, clock=clock)
    fastest = min(candidates, key=lambda name: float(times[name].min()))
    return candidates[fastest]
