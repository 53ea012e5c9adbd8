"""An upright image -> what the network sees: its size, its tiles, its pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F


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


def resize(image: np.ndarray, size_hw: tuple[int, int], interpolation: str, *, with_pillow: bool) -> np.ndarray:
    """(H, W, 3) uint8 -> (h, w, 3) uint8, antialiased, as open_clip's own preprocessing does.

    Args:
        interpolation: "bicubic" or "bilinear".
        with_pillow: exactly as there; else by torch, which is within one step of 255 of it and five times as fast.
    """
    if image.shape[:2] == size_hw:
        return image
    if with_pillow:
        method = Image.Resampling.BILINEAR if interpolation == "bilinear" else Image.Resampling.BICUBIC
        return np.asarray(Image.fromarray(image).resize(size_hw[::-1], method))
    writable = np.require(image, requirements="W")  # torch warns of others
    pixels = torch.from_numpy(writable).permute(2, 0, 1)[None]  # (1, 3, H, W)
    small = F.interpolate(pixels, size_hw, mode=interpolation, antialias=True)
    return small[0].permute(1, 2, 0).numpy()


def to_rgb(images: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
    """B images (h, w, 3) uint8 of one size -> (B, 3, h, w) float32 in [0, 1]."""
    stacked = torch.from_numpy(np.stack(images)).to(device)
    return stacked.permute(0, 3, 1, 2).float() / 255


def cut_tiles(rgb: torch.Tensor, tiles_hw: tuple[int, int]) -> torch.Tensor:
    """(B, 3, h, w) -> (B * tiles, 3, h / rows, w / columns), the tiles of an image row by row."""
    rows, columns = tiles_hw
    batch, channels, height, width = rgb.shape
    tiles = rgb.view(batch, channels, rows, height // rows, columns, width // columns)
    return tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def join_tiles(tiles: torch.Tensor, tiles_hw: tuple[int, int]) -> torch.Tensor:
    """(B * tiles, gh, gw, ...) -> (B, rows * gh, columns * gw, ...): the inverse of `cut_tiles` on the grid."""
    rows, columns = tiles_hw
    grid = tiles.unflatten(0, (-1, rows, columns))  # (B, rows, columns, gh, gw, ...)
    return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)
