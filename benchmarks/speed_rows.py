"""The rows of `speed.py`: each measures one promise as a ratio, or as a difference, taken in one run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers import winclip_model
from benchmarks.speed_banks import bank, coreset, served_by_faiss
from benchmarks.speed_bench import CPU, LARGE, Bench, Row, at_least, at_most, bare_forward, synthetic_set
from benchmarks.speed_onnx import int8, onnx
from benchmarks.speed_process import fresh, importing, memory, ready
from patchclip import Detector, metrics
from patchclip.backbone import default_precision
from patchclip.image import resize, to_pixels
from patchclip.windows import window_indices


def predict(bench: Bench) -> Iterator[Row]:
    detector = bench.large()
    image = np.random.default_rng(0).integers(0, 256, (240, 240, 3), np.uint8)
    clip, backbone = detector.backbone.model.clip, detector.backbone
    pixels = to_pixels([image], backbone.mean, backbone.std)

    def bare() -> None:
        with torch.inference_mode():
            clip.encode_image(pixels)

    times = bench.alternate({"own": lambda: detector.predict(image), "bare": bare}, 2 * bench.repetitions)
    yield at_most(
        f"predict, dense, zero-shot, {LARGE}, batch 1, fp32, to bare encode_image",
        times["own"],
        times["bare"],
        limit=1.10,
    )


def stream(bench: Bench) -> Iterator[Row]:
    precisions = ["fp32"] + (["bf16"] if default_precision(CPU) == "bf16" else [])
    for precision in precisions:
        detector = Detector(precision=precision, device="cpu")  # type: ignore[arg-type]
        paths = bench.photographs
        seconds = {
            batch: float(np.median(bench.alternate({"": bare_forward(detector, batch)}, 3)[""])) / batch
            for batch in (1, 2, 4, 8, 16, 32)
        }
        best = min(seconds, key=lambda batch: seconds[batch])
        forward = bare_forward(detector, best)

        def bare(forward: Callable[[], Any] = forward, rounds: int = len(paths) // best) -> None:
            for _ in range(rounds):
                forward()

        def own(detector: Detector = detector, paths: Sequence[Path] = paths) -> None:
            for _ in detector.predict_batch(paths, progress=False):
                pass

        times = bench.alternate({"bare": bare, "own": own}, bench.repetitions)
        row = at_least(
            f"predict_batch of 64 JPEG 800 x 800, embedded model, {precision}, images a second to those of the bare "
            "forward on ready pixels",
            times["bare"],
            times["own"],
            0.6,
        )
        yield Row(row.what, row.value, row.target, row.hit, f"{row.detail} for 64; bare at its best batch size {best}")


def embedded(bench: Bench) -> Iterator[Row]:
    """The embedded image tower beside timm's ViT of the same width, both in fp32."""
    import timm

    backbone = Detector(precision="fp32", device="cpu").backbone
    peer = timm.create_model("vit_tiny_patch16_224").eval()
    pixels = torch.rand(16, 3, 224, 224)

    def bare() -> None:
        with torch.inference_mode():
            peer(pixels)

    times = bench.alternate({"own": lambda: backbone.encode(pixels, ()), "bare": bare}, 2 * bench.repetitions)
    yield at_least(
        "embedded image tower to timm's vit_tiny_patch16_224, images a second", times["bare"], times["own"], 0.8
    )
    millions = sum(p.numel() for p in backbone.model.clip.visual.parameters()) / 1e6
    yield Row("embedded image tower, parameters", f"{millions:.1f} M", "<= 6 M", millions <= 6, "")


def winclip(bench: Bench) -> Iterator[Row]:
    image = np.random.default_rng(0).integers(0, 256, (240, 240, 3), np.uint8)
    repetitions = 2 if bench.quick else 3
    detector = bench.large(recipe="winclip")
    pixels = to_pixels([image], detector.backbone.mean, detector.backbone.std)
    loops = {str(chunk): _window_loop(detector, pixels, chunk) for chunk in (64, 128, 256)}
    best = min(bench.alternate(loops, 1).items(), key=lambda item: float(np.median(item[1])))[0]
    functions = {"own": lambda: detector.predict(image), "bare": loops[best]}
    auto = default_precision(CPU)
    if auto != "fp32":
        quick = bench.large(auto, "winclip")
        functions["auto"] = lambda: quick.predict(image)
    with contextlib.suppress(ImportError):
        functions["anomalib"] = _anomalib_winclip(bench, pixels)
    times = bench.alternate(functions, repetitions)
    row = at_most(
        f"predict, winclip, {LARGE}, batch 1, fp32, to the windows alone", times["own"], times["bare"], limit=1.1
    )
    yield Row(row.what, row.value, row.target, row.hit, f"{row.detail}; windows at their best chunk, {best}")
    for name, precision, limit in (("own", "fp32", 1.0), ("auto", 'precision="auto"', 0.6)):
        what = f"predict, winclip, {LARGE}, {precision}, to anomalib's WinCLIP in fp32"
        if "anomalib" not in times:
            yield Row(what, "-", f"<= {limit:.2f} x", None, "anomalib is not installed here")
        elif name in times:
            yield at_most(what, times[name], times["anomalib"], limit)
        else:
            yield Row(what, "-", f"<= {limit:.2f} x", None, "this processor has no quick instructions for bf16")


def _window_loop(detector: Detector, pixels: torch.Tensor, chunk: int) -> Callable[[], Any]:
    visual: Any = detector.backbone.model.clip.visual

    def loop() -> None:
        with torch.inference_mode():
            x = visual.conv1(pixels)
            grid_hw = (x.shape[2], x.shape[3])
            x = x.flatten(2).transpose(1, 2) + visual.positional_embedding[1:]
            cls = (visual.class_embedding + visual.positional_embedding[0]).view(1, 1, -1)
            for side in (2, 3):
                sequences = x[0][window_indices(grid_hw, side)]  # (windows, tokens, D)
                for part in sequences.split(chunk):
                    tokens = torch.cat([cls.expand(len(part), -1, -1), part], 1)
                    visual.ln_post(visual.transformer(visual.ln_pre(tokens)))[:, 0] @ visual.proj

    return loop


def _anomalib_winclip(bench: Bench, pixels: torch.Tensor) -> Callable[[], Any]:
    model = winclip_model(LARGE, bench.large_weights, "surface")

    def run() -> None:
        with torch.inference_mode():
            model(pixels)

    return run


def bf16(bench: Bench) -> Iterator[Row]:
    if default_precision(CPU) != "bf16":
        yield Row(
            "bf16 to fp32, images a second", "-", ">= 1.40 x", None, "this processor has no quick instructions for bf16"
        )
        return
    images, labels = synthetic_set(24 if bench.quick else 240)
    embedded = {kind: Detector(precision=kind, device="cpu") for kind in ("fp32", "bf16")}
    large = {kind: bench.large(kind) for kind in ("fp32", "bf16")}
    for name, pair, some in (("embedded model", embedded, images[:24]), (LARGE, large, images[:4])):
        small = [resize(image, (side := pair["fp32"].backbone.image_size, side)) for image in some]
        runs = {
            kind: lambda d=detector, x=small: list(d.predict_batch(x, progress=False))
            for kind, detector in pair.items()
        }
        times = bench.alternate(runs, bench.repetitions)
        yield at_least(f"bf16 to fp32, images a second, {name}", times["fp32"], times["bf16"], 1.4)
    scores = {
        kind: np.array([result.score for result in detector.predict_batch(images, progress=False)])
        for kind, detector in embedded.items()
    }
    auroc = {kind: float(metrics.auroc(labels, values)) for kind, values in scores.items()}
    moved = abs(auroc["bf16"] - auroc["fp32"])
    detail = f"{auroc['bf16']:.4f} to {auroc['fp32']:.4f}, {len(images)} synthetic images"
    yield Row("bf16, image AUROC to that of fp32", f"{moved:.4f}", "<= 0.002", moved <= 0.002, detail)
    apart = float(np.abs(scores["bf16"] - scores["fp32"]).max())
    yield Row(
        "bf16, scores to those of fp32", f"{apart:.4f}", "<= 0.01", apart <= 0.01, "largest difference of an image"
    )


def gpu(bench: Bench) -> Iterator[Row]:
    what = f"one GPU: predict_batch, dense, {LARGE}, batch 64, bf16, images a second to those of the bare forward"
    if not torch.cuda.is_available():
        yield Row(what, "-", ">= 0.85 x", None, "no GPU here")
        return
    detector = Detector(LARGE, pretrained=bench.large_weights, precision="bf16", device="cuda")
    detector.threshold = 1.0
    images = list(np.random.default_rng(0).integers(0, 256, (128, 240, 240, 3), np.uint8))
    forward = bare_forward(detector, 64)

    def bare() -> None:
        forward()
        forward()
        torch.cuda.synchronize()

    times = bench.alternate(
        {"bare": bare, "own": lambda: list(detector.predict_batch(images, batch_size=64, progress=False))},
        bench.repetitions,
    )
    yield at_least(what, times["bare"], times["own"], 0.85)


#: Name for `--rows` -> what measures it.
ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "predict": predict,
    "stream": stream,
    "embedded": embedded,
    "winclip": winclip,
    "bank": bank,
    "faiss": served_by_faiss,
    "coreset": coreset,
    "fresh": fresh,
    "ready": ready,
    "import": importing,
    "memory": memory,
    "bf16": bf16,
    "gpu": gpu,
    "onnx": onnx,
    "int8": int8,
}
