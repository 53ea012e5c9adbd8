"""An exported file and its detector on the same images: differences of heatmaps, scores and verdicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ImageError
from ..images.load import load_image
from ..images.prepare import resize
from ..printable import printable
from .console import Console

if TYPE_CHECKING:
    from ..detector import Detector

_MOST_NAMED = 5


@dataclass
class Comparison:
    """Of an exported file with its detector.

    Attributes:
        scores: |difference| of each image.
        heatmaps: largest |difference| of each image that has the size of the file's heatmap.
        flipped: images whose verdicts differ, with both scores.
        unreadable: why, one line each.
    """

    threshold: float = 0.0
    scores: list[float] = field(default_factory=list)
    heatmaps: list[float] = field(default_factory=list)
    flipped: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def compare(detector: Detector, path: Path, images: Sequence[str], console: Console) -> Comparison:
    """Run both on each image: the file by onnxruntime, on images resized as by the program in docs/deployment.md."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    details = json.loads(session.get_modelmeta().custom_metadata_map["patchclip"])
    size_hw = tuple(details["input"]["size_hw"])
    comparison = Comparison(threshold=details["threshold"])
    with console.progress("verify", total=len(images)) as bar:
        for name in images:
            bar.update()
            try:
                image = load_image(name)
                result = detector.predict(image)
            except ImageError as error:
                comparison.unreadable.append(str(error))
                continue
            small = resize(image, size_hw, details["input"]["interpolation"], with_pillow=True)
            pixels = small.transpose(2, 0, 1)[None].astype(np.float32) / 255  # (1, 3, h, w)
            heatmap, score = session.run(["heatmap", "score"], {"image": pixels})
            comparison.scores.append(abs(float(score[0]) - result.score))
            if result.heatmap.shape == heatmap[0].shape:
                comparison.heatmaps.append(float(np.abs(heatmap[0] - result.heatmap).max()))
            if (float(score[0]) > details["threshold"]) != result.is_anomalous:
                flip = f"{printable(name)}: detector {result.score:.4f}, file {float(score[0]):.4f}"
                comparison.flipped.append(flip)
    return comparison


def describe(comparison: Comparison) -> list[str]:
    """Lines for a person."""
    count = len(comparison.scores)
    lines = [f"compared on {count} image{'s' * (count != 1)}, threshold {comparison.threshold:.4f}"]
    if comparison.scores:
        lines.append(f"largest difference of scores    {max(comparison.scores):.5f}")
    if comparison.heatmaps:
        lines.append(f"largest difference of heatmaps  {max(comparison.heatmaps):.5f}")
    others = count - len(comparison.heatmaps)
    if others:
        lines.append(f"{others} of another size than the file's heatmap: their scores alone are compared")
    lines.append(f"verdicts that differ            {len(comparison.flipped)} of {count}")
    lines += [f"  {flip}" for flip in comparison.flipped[:_MOST_NAMED]]
    lines += [f"unreadable: {message}" for message in comparison.unreadable[:_MOST_NAMED]]
    return lines
