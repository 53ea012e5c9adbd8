"""The size at which the network sees an upright image, its tiles, and the image once it has that size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Plan(NamedTuple):
    """The size that an image is resized to, (height, width) in pixels, and the tiles it is then cut into."""

    size_hw: tuple[int, int]
    tiles_hw: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready for the network: made on any CPU, in any thread; it can be pickled.

    Attributes:
        image: (H, W, 3) uint8, the upright image.
        pixels: (h, w, 3) uint8, the same at the size that the network sees.
        tiles_hw: (rows, columns) of the tiles that `pixels` are cut into; (1, 1) without tiles.
    """

    image: np.ndarray
    pixels: np.ndarray
    tiles_hw: tuple[int, int]

    @property
    def plan(self) -> Plan:
        """Images of one plan can go through the network together."""
        height, width = self.pixels.shape[:2]
        return Plan((height, width), self.tiles_hw)

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        height, width = self.image.shape[:2]
        return height, width


def plan_square(*, side: int, patch: int) -> Plan:
    """A square of about `side` pixels, in whole patches."""
    side = max(1, round(side / patch)) * patch
    return Plan((side, side), (1, 1))


def plan_size(image_hw: tuple[int, int], *, side: int, patch: int, tile: int | None) -> Plan:
    """The image's own proportions at the area of a square, in whole patches; larger images in tiles of that area.

    Args:
        side: of the square, in pixels.
        patch: side of a patch in pixels.
        tile: images with a longer side than this are cut into tiles of at most about so many pixels a side; None for
            no tiles.

    Returns:
        At least three patches a side.
    """
    height, width = image_hw
    if tile is None or max(image_hw) <= tile:
        return Plan(_proportional(height / width, side=side, patch=patch), (1, 1))
    rows, columns = math.ceil(height / tile), math.ceil(width / tile)
    tile_height, tile_width = _proportional((height // rows) / (width // columns), side=side, patch=patch)
    return Plan((rows * tile_height, columns * tile_width), (rows, columns))


def _proportional(aspect_ratio: float, *, side: int, patch: int) -> tuple[int, int]:
    """Height and width of that ratio (height / width) with the area of a square."""
    patches = max(1, round(side / patch))
    most = max(3, patches * patches // 3)
    rows = min(max(3, round(patches * aspect_ratio**0.5)), most)
    columns = max(3, round(patches * patches / rows))
    return rows * patch, columns * patch
