"""Rows about recipe winclip: beside its windows alone, and beside anomalib's WinCLIP."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

import internals
from anomalib_models import winclip_model
from patchclip import Detector
from speed.bench import LARGE, Bench, Row, at_most, fastest, with_detail
from timing import CPU

#: Sides of the paper's windows, in tokens.
_SIDES = (2, 3)


def winclip(bench: Bench) -> Iterator[Row]:
    image = np.random.default_rng(0).integers(0, 256, (240, 240, 3), np.uint8)
    detector = bench.large(recipe="winclip")
    pixels = internals.normalise(detector, internals.square_rgb(detector, [image]))
    loops = {str(chunk): partial(_run_windows, detector, pixels, chunk) for chunk in (64, 128, 256)}
    best = fastest(bench.alternate(loops, 1))
    functions: dict[str, Callable[[], object]] = {"fp32": lambda: detector.predict(image), "windows": loops[best]}
    if internals.default_precision(CPU) != "fp32":
        rounded = bench.large(precision="auto", recipe="winclip")
        functions["auto"] = lambda: rounded.predict(image)
    with contextlib.suppress(ImportError):
        peer = winclip_model(LARGE, bench.large_weights, "surface")
        functions["anomalib"] = torch.inference_mode()(lambda: peer(pixels))
    times = bench.alternate(functions, 2 if bench.quick else 3)
    what = f"predict, winclip, {LARGE}, batch 1, fp32, to the windows alone"
    row = at_most(what, times["fp32"], times["windows"], limit=1.1)
    yield with_detail(row, f"; windows at their best chunk, {best}")
    for name, precision, limit in (("fp32", "fp32", 1.0), ("auto", 'precision="auto"', 0.6)):
        what = f"predict, winclip, {LARGE}, {precision}, to anomalib's WinCLIP in fp32"
        if "anomalib" not in times:
            yield Row(what, "-", f"<= {limit:.2f} x", None, "anomalib is not installed here")
        elif name in times:
            yield at_most(what, times[name], times["anomalib"], limit)
        else:
            yield Row(what, "-", f"<= {limit:.2f} x", None, "this processor has no quick instructions for bf16")


@torch.inference_mode()
def _run_windows(detector: Detector, pixels: torch.Tensor, chunk: int) -> None:
    """Each window as a sequence of its own through open_clip's transformer, and nothing else.

    Args:
        pixels: (1, 3, h, w), normalised; chunk: windows that go through at once.
    """
    tower = internals.image_tower(detector)
    x = tower.conv1(pixels)  # (1, D, gh, gw)
    grid_hw = (x.shape[2], x.shape[3])
    x = x.flatten(2).transpose(1, 2) + tower.positional_embedding[1:]  # (1, N, D)
    cls = (tower.class_embedding + tower.positional_embedding[0]).view(1, 1, -1)
    for side in _SIDES:
        windows = x[0][internals.window_indices(grid_hw, side)]  # (windows, tokens, D)
        for part in windows.split(chunk):
            sequences = torch.cat([cls.expand(len(part), -1, -1), part], 1)
            tower.ln_post(tower.transformer(tower.ln_pre(sequences)))[:, 0] @ tower.proj
