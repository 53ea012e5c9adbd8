"""What `Detector.rank` returns: the images of a batch in the order of how odd each is among the others; no verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .errors import ImageError
from .images.load import ImageLike, load_image
from .scoring.heatmap import separate_heatmaps
from .scoring.regions import find_regions, median_and_half_maximum
from .stored import StoredFeatures
from .threshold import most_of

if TYPE_CHECKING:
    from PIL import Image

#: Boxes are found on a heatmap whose longer side has at most so many pixels: it has no finer detail than a few a patch.
_BOX_SIDE = 256


@dataclass(frozen=True, eq=False, kw_only=True)
class RankedImage:
    """One image of a `Ranking`. Its score depends on the other images of the batch; it has no verdict.

    Attributes:
        index: among the images that were given, from 0.
        path: the file, or "image 3" for an image in memory.
        score: in [0, 1], higher = less like the other images: the maximum of the heatmap. nan where it is unreadable.
        rank: 1 for the most anomalous; None where it is unreadable.
        share_below: of the readable images, those with a lower score; nan where it is unreadable.
        error: why it is unreadable, else None.
        image_hw: height and width of the upright image; None where it is unreadable.
        source: the image as it was given: it is not kept otherwise, and `overlay` reads it again.
    """

    index: int
    path: str
    score: float
    rank: int | None
    share_below: float
    error: ImageError | None
    image_hw: tuple[int, int] | None
    source: ImageLike | StoredFeatures = field(repr=False)
    _map: torch.Tensor | None = field(repr=False)  # (gh, gw) float32 on the CPU
    _smoothing: float = field(repr=False)
    _colour_level: float = field(repr=False)
    _max_pixels: int = field(repr=False)

    @property
    def patch_map(self) -> torch.Tensor:
        """(gh, gw) float32 in [0, 1] on the CPU: how odd each patch is.

        Raises:
            ImageError: the image is unreadable.
        """
        if self._map is None:
            raise self.error or ImageError(f"{self.path} is unreadable")
        return self._map

    @property
    def heatmap(self) -> np.ndarray:
        """(H, W) float32 in [0, 1], pixels of the upright image, on one scale for all images of the batch; made anew
        each time.

        Raises:
            ImageError: the image is unreadable.
        """
        if self._map is None or self.image_hw is None:
            raise self.error or ImageError(f"{self.path} is unreadable")
        [heatmap] = separate_heatmaps(self._map[None], [self.image_hw], self._smoothing)
        return heatmap.numpy()

    @cached_property
    def box_xyxy(self) -> tuple[int, int, int, int] | None:
        """Where it is oddest: the box around what lies above half of the way from the heatmap's median to its maximum,
        at the maximum, to about 1/256 of the image's longer side. Every readable image has one, normal images too. None
        where it is unreadable or flat."""
        if self._map is None or self.image_hw is None:
            return None
        height, width = self.image_hw
        shrink = min(1.0, _BOX_SIDE / max(height, width))
        small_hw = (math.ceil(height * shrink), math.ceil(width * shrink))
        [small] = separate_heatmaps(self._map[None], [small_hw], self._smoothing)
        heatmap = small.numpy()
        _, level = median_and_half_maximum(heatmap)
        grid_hw = (self._map.shape[0], self._map.shape[1])
        found = find_regions(heatmap, level, grid_hw)
        if not found:
            return None
        left, top, right, bottom = found[0][0].box_xyxy
        small_height, small_width = small_hw
        return (
            left * width // small_width,
            top * height // small_height,
            math.ceil(right * width / small_width),
            math.ceil(bottom * height / small_height),
        )

    def overlay(self, *, max_side: int = 1024) -> Image.Image:
        """The image with the heatmap over it and a box where it is oddest. It is read again from `source`.

        Colours are on one scale for all images of the batch, anchored to the suggested cut, or to the score that a
        tenth of the images exceed where there is none.

        Args:
            max_side: the picture is shrunk so that its longer side has at most so many pixels.

        Raises:
            ImageError: the image is unreadable, or no longer what was ranked.
        """
        from . import viz

        heatmap = self.heatmap
        source = self.source.filename if isinstance(self.source, StoredFeatures) else self.source
        image = load_image(source, max_pixels=self._max_pixels)
        if image.shape[:2] != self.image_hw:
            raise ImageError(f"{self.path} has another size than when it was ranked: rank it again")
        labels = []
        if self.box_xyxy is not None:
            labels.append((self.box_xyxy, f"{self.score:.3f}"))
        return viz.overlay(image, heatmap, self._colour_level, labels, max_side=max_side)


@dataclass(frozen=True)
class SuggestedCut:
    """Where the scores of a batch part; a suggestion to look at, no threshold.

    Attributes:
        score: between the two groups; anomalous_count: images above it.
        confidence: see `scoring.gap.find_gap`, in [0, 1].
    """

    score: float
    anomalous_count: int
    confidence: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Ranking:
    """A batch of images, each scored by how unlike the others it is.

    It is a ranking and no verdict: a score depends on what else is in the batch, half of the images are in its upper
    half whether or not one shows a defect, and what most images show counts as normal.

    Attributes:
        items: in the order that the images were given in.
        suggested_cut: where the scores part; None where there is no gap.
        cue_weights: cue -> weight in the heatmaps, together 1.
    """

    items: tuple[RankedImage, ...] = field(repr=False)
    suggested_cut: SuggestedCut | None
    cue_weights: Mapping[str, float]

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def scores(self) -> np.ndarray:
        """(N,) float64 in [0, 1], higher = more anomalous, in the order that the images were given in; nan where one is
        unreadable."""
        return np.array([item.score for item in self.items], np.float64)

    @property
    def errors(self) -> dict[int, ImageError]:
        """Index of each unreadable image -> why."""
        return {item.index: item.error for item in self.items if item.error is not None}

    def most_anomalous(self, count: int) -> list[RankedImage]:
        """So many readable images, or as many as there are, the most anomalous first."""
        return self._by_rank()[:count]

    def most_normal(self, count: int) -> list[ImageLike | StoredFeatures]:
        """So many images as they were given (paths, arrays), the most normal first, to `Detector.fit` on.

        An image that is simply plain is among them before one with all that the product can show: take many.
        """
        ordered = self._by_rank()[::-1]
        return [item.source for item in ordered[:count]]

    def find_odd_patches(self, at_most_anomalous: float) -> tuple[list[ImageLike | StoredFeatures], list[torch.Tensor]]:
        """The readable images as they were given, and of each the patches that are odd: (gh, gw) bool.

        These are patches of the most anomalous images that are odder than the oddest patch of half of the others. With
        the oddest patch of all the others as the limit, much of a faint defect stays (docs/ranking.md).

        Args:
            at_most_anomalous: share in [0, 1) of the images, rounded up, that are among the most anomalous.
        """
        ordered = self._by_rank()
        anomalous_count = most_of(at_most_anomalous, len(ordered))
        level = float(np.median([float(item.patch_map.max()) for item in ordered[anomalous_count:]]))
        anomalous = {item.index for item in ordered[:anomalous_count]}
        readable = [item for item in self.items if item.error is None]
        odd_patches = []
        for item in readable:
            is_odd = item.patch_map > level
            odd_patches.append(is_odd if item.index in anomalous else torch.zeros_like(is_odd))
        return [item.source for item in readable], odd_patches

    def table(self) -> list[dict[str, Any]]:
        """A row for each image, the most anomalous first and unreadable ones last, for `csv.DictWriter` or JSON.

        Keys: path, rank, score, share_below, left, top, right, bottom (of `RankedImage.box_xyxy`) and error; None where
        there is no value.
        """
        unreadable = [item for item in self.items if item.error is not None]
        rows = []
        for item in [*self._by_rank(), *unreadable]:
            is_readable = item.error is None
            left, top, right, bottom = item.box_xyxy or (None, None, None, None)
            row = {
                "path": item.path,
                "rank": item.rank,
                "score": item.score if is_readable else None,
                "share_below": item.share_below if is_readable else None,
                "left": left,
                "top": top,
                "right": right,
                "bottom": bottom,
                "error": None if is_readable else str(item.error),
            }
            rows.append(row)
        return rows

    def _by_rank(self) -> list[RankedImage]:
        readable = [item for item in self.items if item.rank is not None]
        return sorted(readable, key=lambda item: item.rank or 0)
