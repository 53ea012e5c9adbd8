"""An exported file and its detector on the same images: differences of heatmaps, scores and verdicts, and the times."""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from .errors import ImageError
from .images.load import ImageLike, describe, load_image, require_several
from .result import Result
from .runtime import load

#: Scores may differ by so much, and verdicts where the detector's score is no further from the threshold.
MARGIN = 1e-3


@dataclass
class Verification:
    """How an exported file compares with its detector.

    Attributes:
        threshold: of both.
        scores, heatmaps: largest |difference| for each image.
        flipped: images whose verdicts differ though the detector's score is further than `MARGIN` from the threshold,
            with both scores.
        flipped_within_margin: how many others have verdicts that differ.
        unreadable: why an image was not compared, one line each.
        detector_s, file_s: seconds of `predict` for each image, decoding left out.
    """

    threshold: float
    scores: list[float] = field(default_factory=list)
    heatmaps: list[float] = field(default_factory=list)
    flipped: list[str] = field(default_factory=list)
    flipped_within_margin: int = 0
    unreadable: list[str] = field(default_factory=list)
    detector_s: list[float] = field(default_factory=list)
    file_s: list[float] = field(default_factory=list)

    @property
    def median_s(self) -> tuple[float, float]:
        """Median seconds of the detector and of the file; the first image of each warms up where there are several."""
        detector_s, file_s = (times[1:] or times for times in (self.detector_s, self.file_s))
        return statistics.median(detector_s), statistics.median(file_s)

    def add(self, name: str, expected: Result, found: Result) -> None:
        """Compare the results of one image."""
        self.scores.append(abs(found.score - expected.score))
        self.heatmaps.append(float(np.abs(found.heatmap - expected.heatmap).max()))
        if found.is_anomalous == expected.is_anomalous:
            return
        if abs(expected.score - self.threshold) <= MARGIN:
            self.flipped_within_margin += 1
        else:
            self.flipped.append(f"{name}: detector {expected.score:.4f}, file {found.score:.4f}")


def verify(
    predict: Callable[[ImageLike], Result], path: str | os.PathLike[str], images: Sequence[ImageLike], *, threads: int
) -> Verification:
    """Run both on each image, one after the other.

    Args:
        predict: of the detector that the file at `path` was exported from.
        threads: of the file's graph.

    Raises:
        ValueError: one image in place of several.
        MissingDependencyError: without onnxruntime.
    """
    require_several(images)
    exported = load(path, threads=threads)
    verification = Verification(threshold=exported.threshold)
    for name, image in _readable(images, verification, exported.max_pixels):
        begun = time.perf_counter()
        expected = predict(image)
        between = time.perf_counter()
        try:
            found = exported.predict(image)
        except ImageError as error:  # other proportions
            verification.unreadable.append(str(error).replace(describe(image), name, 1))
            continue
        verification.file_s.append(time.perf_counter() - between)
        verification.detector_s.append(between - begun)
        verification.add(name, expected, found)
    if verification.flipped:
        warnings.warn(
            f"{path}: the exported file gives other verdicts on {len(verification.flipped)} of "
            f"{len(verification.scores)} images, such as {verification.flipped[0]}",
            stacklevel=3,
        )
    return verification


def _readable(
    images: Sequence[ImageLike], verification: Verification, max_pixels: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and upright image of those that can be read."""
    for image in images:
        try:
            yield describe(image), load_image(image, max_pixels=max_pixels)
        except ImageError as error:
            verification.unreadable.append(str(error))
