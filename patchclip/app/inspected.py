"""An image that was inspected: what the network found in it, and the verdict at the present threshold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .. import viz
from .photos import Photo, shrink

if TYPE_CHECKING:
    from ..detector import Detector
    from ..inference import Measured
    from ..result import Result

#: Longer side in pixels of the image that is kept, and of the heatmap, whose detail is some tokens wide: regions of
#: fifty images are found in 40 ms. A hundred images take 250 MB.
VIEW_SIDE = 800
HEATMAP_SIDE = 320

Box = tuple[int, int, int, int]


class Inspected:
    """An image with its verdict, which follows the threshold without the network.

    Args:
        photo: usable or not.

    Attributes:
        result: at the threshold of the last `judge`; its image, heatmap and boxes are small, see `HEATMAP_SIDE`. None
            where the image cannot be used.
        image_hw: of the upright image in its file.
    """

    def __init__(self, photo: Photo):
        self.photo = photo
        self.result: Result | None = None
        self.image_hw = (0, 0)
        self._measured: Measured | None = None
        self._image = np.zeros((0, 0, 3), np.uint8)
        self._small_heatmap = np.zeros((0, 0), np.float32)

    @property
    def problem(self) -> str | None:
        """Why there is no result, in words."""
        return self.photo.problem

    @property
    def score(self) -> float:
        """Higher is less like the normal images; nan where the image cannot be used."""
        return math.nan if self.result is None else self.result.score

    @property
    def is_anomalous(self) -> bool:
        """False for an image that cannot be used too."""
        return self.result is not None and self.result.is_anomalous

    def measure(self, measured: Measured, detector: Detector) -> None:
        """Keep what the network found, and judge it."""
        self.image_hw = (measured.image.shape[0], measured.image.shape[1])
        self._image = shrink(measured.image, VIEW_SIDE)
        self._measured = measured.shrunk(HEATMAP_SIDE)
        if self.photo.thumbnail is not None:
            self._small_heatmap = _resize(self._measured.heatmap.numpy(), self.photo.thumbnail)
        self.judge(detector)

    def judge(self, detector: Detector) -> None:
        """Verdict, regions and names at the detector's present threshold."""
        if self._measured is not None:
            self.result = detector.judge(self._measured)

    def boxes_xyxy(self) -> list[Box]:
        """Of the regions, in pixels of the upright image in the file; the strongest region first."""
        if self.result is None:
            return []
        height, width = self.image_hw
        scale_down, scale_across = height / self.result.image.shape[0], width / self.result.image.shape[1]
        boxes = []
        for region in self.result.regions:
            left, top, right, bottom = region.box_xyxy
            box = (
                math.floor(left * scale_across),
                math.floor(top * scale_down),
                min(width, math.ceil(right * scale_across)),
                min(height, math.ceil(bottom * scale_down)),
            )
            boxes.append(box)
        return boxes

    def view(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The image and the same with its heatmap over it, (h, w, 3) uint8 each, in the colours of the library."""
        if self.result is None:
            return None
        return self._image, _blend(self.result, self._image, _resize(self.result.heatmap, self._image))

    def thumbnail(self) -> np.ndarray | None:
        """(h, w, 3) uint8, coloured like the view; None where the image cannot be used."""
        small = self.photo.thumbnail
        if self.result is None or small is None:
            return None
        return _blend(self.result, small, self._small_heatmap)


def _resize(heatmap: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(H, W) float32, of the height and width of the image."""
    height, width = image.shape[:2]
    interpolation = cv2.INTER_AREA if height < heatmap.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(heatmap, (width, height), interpolation=interpolation))


def _blend(result: Result, image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    clear, half = result.colour_anchors
    return viz.blend(image, np.maximum(heatmap - clear, 0), half - clear)
