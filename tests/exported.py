"""What exported files give, compared with the detector they came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from patchclip import Detector


def as_input(images: Sequence[np.ndarray]) -> np.ndarray:
    """(H, W, 3) uint8 each -> (B, 3, H, W) float32 in [0, 1]."""
    return np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255


def run(path: Path, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": as_input(images)})


def prepared_pixels(detector: Detector, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [detector.prepare(image).pixels for image in images]


def assert_agree(detector: Detector, outputs: Sequence[np.ndarray], images: Sequence[np.ndarray]) -> None:
    heatmaps, scores = outputs[:2]
    results = list(detector.predict_batch(images, progress=False))
    assert heatmaps.shape == (len(images), *results[0].heatmap.shape)
    assert heatmaps.dtype == np.float32
    np.testing.assert_allclose(heatmaps, np.stack([result.heatmap for result in results]), atol=1e-3, rtol=0)
    np.testing.assert_allclose(scores, [result.score for result in results], atol=1e-3, rtol=0)
    names = [result.class_name for result in results]
    found = [detector.classes_[index] for index in outputs[2]] if detector.classes_ else [None] * len(images)
    assert found == names
