"""Rows about the ONNX files that `Detector.export` writes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

import internals
from patchclip import Detector, metrics
from speed.bench import Bench, Row, spread, synthetic_set

#: Of the synthetic images, the first ones are to fit on and to calibrate int8 with: the normal ones of them.
_FITTED = slice(0, 16, 2)

_MISSING = 'not installed here: pip install "patchclip[onnx]"'


@dataclass(frozen=True)
class _Fitted:
    """A fitted embedded model, and synthetic images to try its exports on.

    Attributes:
        images: 216 of (224, 224, 3) uint8; labels: (216,), 1 anomalous.
        inputs: the images as onnxruntime wants them, (216, 3, 224, 224) float32.
    """

    detector: Detector
    images: list[np.ndarray]
    labels: np.ndarray
    inputs: np.ndarray


def _fit() -> _Fitted | None:
    """None without the packages."""
    if not all(find_spec(package) for package in ("onnxruntime", "onnxscript")):
        return None
    images, labels = synthetic_set(216)
    detector = Detector(precision="fp32", device="cpu")
    small = internals.resize_to_square(detector, images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # eight images: the threshold is extrapolated
        detector.fit(small[_FITTED], progress=False)
    detector.threshold = 1.0  # onnxruntime finds no regions either
    inputs = np.stack(small).transpose(0, 3, 1, 2).astype(np.float32) / 255
    return _Fitted(detector, small, labels, inputs)


class _Exported:
    """A file that the detector is exported to, and its session."""

    def __init__(self, detector: Detector, path: Path, **options: Any):
        import onnxruntime

        detector.export(path, **options)
        self.bytes = path.stat().st_size
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])

    def run(self, outputs: Sequence[str] | None, images: np.ndarray) -> list[np.ndarray]:
        """None is all outputs."""
        return self._session.run(outputs, {"image": images})


def onnx(bench: Bench) -> Iterator[Row]:
    what = "ONNX, heatmaps to torch's, embedded model fitted with 8 images, largest difference over 20"
    fitted = _fit()
    if fitted is None:
        yield Row(what, "-", "<= 0.001", None, _MISSING)
        return
    detector = fitted.detector
    exported = _Exported(detector, bench.folder / "detector.onnx")
    (heatmaps,) = exported.run(["heatmap"], fitted.inputs[20:40])
    results = detector.predict_batch(fitted.images[20:40], progress=False)
    expected = np.stack([result.heatmap for result in results])
    apart = float(np.abs(heatmaps - expected).max())
    yield Row(what, f"{apart:.1e}", "<= 0.001", apart <= 1e-3, f"{exported.bytes / 2**20:.1f} MB file")
    functions: dict[str, Callable[[], object]] = {
        "onnx": lambda: exported.run(None, fitted.inputs[:1]),
        "predict": lambda: detector.predict(fitted.images[20]),
    }
    times = bench.alternate(functions, 2 * bench.repetitions)
    ratio, detail = spread(times["onnx"], times["predict"])
    yield Row("ONNX, time of onnxruntime to that of predict, batch 1", f"{ratio:.2f} x", "told", None, detail)


def int8(bench: Bench) -> Iterator[Row]:
    what = "ONNX in int8, loss of image AUROC"
    fitted = _fit()
    if fitted is None:
        yield Row(what, "-", "<= 0.01", None, _MISSING)
        return
    exact = _Exported(fitted.detector, bench.folder / "float.onnx")
    rounded = _Exported(fitted.detector, bench.folder / "int8.onnx", int8_images=fitted.images[_FITTED])
    auroc, rounded_auroc = _auroc(exact, fitted), _auroc(rounded, fitted)
    loss = auroc - rounded_auroc
    functions = {
        "int8": lambda: rounded.run(None, fitted.inputs[:1]),
        "float": lambda: exact.run(None, fitted.inputs[:1]),
    }
    times = bench.alternate(functions, 2 * bench.repetitions)
    ratio, detail = spread(times["int8"], times["float"])
    yield Row(
        what,
        f"{loss:.4f}",
        "<= 0.01",
        loss <= 0.01,
        f"{auroc:.4f} to {rounded_auroc:.4f}, {len(fitted.labels) - 16} synthetic images; {ratio:.2f} x the time, "
        f"{rounded.bytes / exact.bytes:.2f} x the file; {detail}",
    )


def _auroc(exported: _Exported, fitted: _Fitted) -> float:
    """Of the images that the detector was not fitted with."""
    parts = np.split(fitted.inputs[16:], 10)  # all distances of a part are held at once
    scores = np.concatenate([exported.run(["score"], part)[0] for part in parts])
    return float(metrics.auroc(fitted.labels[16:] > 0, scores))
