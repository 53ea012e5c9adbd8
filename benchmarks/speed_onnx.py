"""Rows of `speed.py` about the ONNX files that `Detector.export` writes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed_bench import Bench, Row, spread, synthetic_set
from patchclip import Detector, metrics
from patchclip.image import resize


@dataclass(frozen=True)
class _Exported:
    """A fitted embedded model, and 216 images of 224 x 224 to try its exports on.

    Attributes:
        ready: the images as onnxruntime wants them, (216, 3, 224, 224).
    """

    detector: Detector
    images: list[np.ndarray]
    labels: np.ndarray
    ready: np.ndarray

    def session(self, path: Path, **options: Any) -> Callable[..., list[np.ndarray]]:
        """Export to that file; the function that runs it: (names of outputs, images)."""
        import onnxruntime

        self.detector.export(path, **options)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        return lambda names, images: session.run(names, {"image": images})


def _fit_for_export() -> _Exported | None:
    """None without the packages."""
    if not all(find_spec(package) for package in ("onnxruntime", "onnxscript")):
        return None
    images, labels = synthetic_set(216)
    small = [resize(image, (224, 224)) for image in images]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # eight images: the threshold is extrapolated
        detector = Detector(precision="fp32", device="cpu").fit(small[0:16:2], progress=False)
    detector.threshold = 1.0  # onnxruntime finds no regions either
    return _Exported(detector, small, labels, np.stack(small).transpose(0, 3, 1, 2).astype(np.float32) / 255)


def onnx(bench: Bench) -> Iterator[Row]:
    what = "ONNX, heatmaps to torch's, embedded model fitted with 8 images, largest difference over 20"
    exported = _fit_for_export()
    if exported is None:
        yield Row(what, "-", "<= 0.001", None, 'not installed here: pip install "patchclip[onnx]"')
        return
    path = bench.folder / "detector.onnx"
    run, detector = exported.session(path), exported.detector
    (heatmaps,) = run(["heatmap"], exported.ready[20:40])
    expected = np.stack([result.heatmap for result in detector.predict_batch(exported.images[20:40], progress=False)])
    apart = float(np.abs(heatmaps - expected).max())
    yield Row(what, f"{apart:.1e}", "<= 0.001", apart <= 1e-3, f"{path.stat().st_size / 2**20:.1f} MB file")
    times = bench.alternate(
        {"own": lambda: run(None, exported.ready[:1]), "bare": lambda: detector.predict(exported.images[20])},
        2 * bench.repetitions,
    )
    ratio, detail = spread(times["own"], times["bare"])
    yield Row("ONNX, time of onnxruntime to that of predict, batch 1", f"{ratio:.2f} x", "told", None, detail)


def int8(bench: Bench) -> Iterator[Row]:
    what = "ONNX in int8, loss of image AUROC"
    exported = _fit_for_export()
    if exported is None:
        yield Row(what, "-", "<= 0.01", None, 'not installed here: pip install "patchclip[onnx]"')
        return
    paths = [bench.folder / name for name in ("float.onnx", "int8.onnx")]
    whole, rounded = exported.session(paths[0]), exported.session(paths[1], int8_images=exported.images[0:16:2])
    labels, parts = exported.labels[16:], np.split(exported.ready[16:], 10)  # all distances of a part are held at once
    aurocs = [
        metrics.auroc(labels > 0, np.concatenate([run(["score"], part)[0] for part in parts]))
        for run in (whole, rounded)
    ]
    loss = aurocs[0] - aurocs[1]
    times = bench.alternate(
        {"own": lambda: rounded(None, exported.ready[:1]), "bare": lambda: whole(None, exported.ready[:1])},
        2 * bench.repetitions,
    )
    ratio, detail = spread(times["own"], times["bare"])
    size = paths[1].stat().st_size / paths[0].stat().st_size
    yield Row(
        what,
        f"{loss:.4f}",
        "<= 0.01",
        loss <= 0.01,
        f"{aurocs[0]:.4f} to {aurocs[1]:.4f}, {len(labels)} synthetic images; {ratio:.2f} x the time, "
        f"{size:.2f} x the file; {detail}",
    )
