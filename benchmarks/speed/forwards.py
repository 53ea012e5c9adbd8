"""Rows about predictions beside the bare forward of the same network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import internals
from patchclip import Detector
from speed.bench import LARGE, Bench, Row, at_least, at_most, fastest, with_detail
from timing import CPU, alternate, bare_forward, wall_clock


def predict(bench: Bench) -> Iterator[Row]:
    detector = bench.large()
    image = np.random.default_rng(0).integers(0, 256, (240, 240, 3), np.uint8)
    functions = {"predict": lambda: detector.predict(image), "bare": bare_forward(detector, 1)}
    times = bench.alternate(functions, 2 * bench.repetitions)
    what = f"predict, dense, zero-shot, {LARGE}, batch 1, fp32, to bare encode_image"
    yield at_most(what, times["predict"], times["bare"], limit=1.10)


def few_shot(bench: Bench) -> Iterator[Row]:
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    for precision in _precisions():
        detector = bench.few_shot(precision)
        detector.threshold = 1.0  # no regions
        functions: dict[str, Callable[[], Any]] = {
            "predict": partial(detector.predict, image),
            "bare": bare_forward(detector, 1),
        }
        times = bench.alternate(functions, 4 * bench.repetitions)
        what = f"predict, 4 normal images, embedded model, batch 1, {precision}, to the bare forward"
        yield at_most(what, times["predict"], times["bare"], limit=2.5)


def _precisions() -> list[Literal["fp32", "bf16"]]:
    """Those that processors like this one use."""
    return ["fp32", "bf16"] if internals.default_precision(CPU) == "bf16" else ["fp32"]


def stream(bench: Bench) -> Iterator[Row]:
    paths = bench.photographs
    for precision in _precisions():
        detector = Detector(precision=precision, device="cpu")
        seconds = {}  # of an image, by batch size
        for batch in (1, 2, 4, 8, 16, 32):
            times = bench.alternate({"bare": bare_forward(detector, batch)}, 3)
            seconds[str(batch)] = times["bare"] / batch
        best = int(fastest(seconds))
        functions = {
            "bare": partial(_repeat, bare_forward(detector, best), len(paths) // best),
            "stream": partial(_predict_all, detector, paths),
        }
        times = bench.alternate(functions)
        row = at_least(
            f"predict_batch of 64 JPEG 800 x 800, embedded model, {precision}, images a second to those of the bare "
            "forward on ready pixels",
            times["bare"],
            times["stream"],
            0.6,
        )
        yield with_detail(row, f" for 64; bare at its best batch size {best}")


def _repeat(function: Callable[[], Any], count: int) -> None:
    for _ in range(count):
        function()


def _predict_all(detector: Detector, images: Sequence[Path | np.ndarray], **options: Any) -> None:
    for _ in detector.predict_batch(images, progress=False, **options):
        pass


def embedded(bench: Bench) -> Iterator[Row]:
    """The embedded image tower beside timm's ViT of the same width, both in fp32."""
    import timm

    detector = Detector(precision="fp32", device="cpu")
    peer = timm.create_model("vit_tiny_patch16_224").eval()
    pixels = torch.rand(16, 3, 224, 224)

    @torch.inference_mode()
    def peer_forward() -> None:
        peer(pixels)

    functions = {"timm": peer_forward, "patchclip": lambda: internals.forward(detector, pixels)}
    times = bench.alternate(functions, 2 * bench.repetitions)
    what = "embedded image tower to timm's vit_tiny_patch16_224, images a second"
    yield at_least(what, times["timm"], times["patchclip"], 0.8)
    parameters = sum(parameter.numel() for parameter in internals.image_tower(detector).parameters())
    millions = parameters / 1e6
    yield Row("embedded image tower, parameters", f"{millions:.1f} M", "<= 6 M", millions <= 6, "")


def gpu(bench: Bench) -> Iterator[Row]:
    what = f"one GPU: predict_batch, dense, {LARGE}, batch 64, bf16, images a second to those of the bare forward"
    if not torch.cuda.is_available():
        yield Row(what, "-", ">= 0.85 x", None, "no GPU here")
        return
    detector = bench.large(precision="bf16", device="cuda")
    images = list(np.random.default_rng(0).integers(0, 256, (128, 240, 240, 3), np.uint8))
    functions = {
        "bare": partial(_repeat, bare_forward(detector, 64), 2),
        "stream": partial(_predict_all, detector, images, batch_size=64),
    }
    clock = wall_clock(internals.device_of(detector))
    times = alternate(functions, clock=clock, rounds=bench.repetitions)
    yield at_least(what, times["bare"], times["stream"], 0.85)
