"""Antialiased resizing by numpy, for a machine without torch: the pixels of `prepare.resize`, but that a few in a
million differ by one step of 255.

The weights are rounded to 16 bits, and rows are rounded before columns are summed, as torch does with bytes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

#: Pixels of the output that are computed by one product with a matrix: more would multiply more zeros.
_BAND = 16

#: Weights are rounded to multiples of a power of two, of at most so many bits, the largest to 15 bits.
_MOST_WEIGHT_BITS = 22
_WEIGHT_LIMIT = 2**15

#: Free parameter of the bicubic filter, as in Pillow and torch with antialiasing.
_CUBIC = -0.5


class _Band(NamedTuple):
    """Outputs, the inputs that they are sums of, and the weights (outputs, inputs) float32."""

    outputs: slice
    inputs: slice
    weights: np.ndarray


def resample(image: np.ndarray, size_hw: tuple[int, int], interpolation: str) -> np.ndarray:
    """(H, W, 3) uint8 -> (h, w, 3) uint8.

    Args:
        interpolation: "bicubic" or "bilinear".
    """
    height, width = image.shape[:2]
    if (height, width) == size_hw:
        return image
    row_bands = _bands(height, size_hw[0], interpolation)
    column_bands = _bands(width, size_hw[1], interpolation)
    small = np.empty((*size_hw, 3), np.uint8)
    for channel, plane in enumerate(cv2.split(image)):
        values = plane.astype(np.float32)
        if width != size_hw[1]:
            narrow = np.empty((height, size_hw[1]), np.float32)
            for band in column_bands:
                np.matmul(values[:, band.inputs], band.weights.T, out=narrow[:, band.outputs])
            values = _round(narrow)
        if height != size_hw[0]:
            short = np.empty(size_hw, np.float32)
            for band in row_bands:
                np.matmul(band.weights, values[band.inputs], out=short[band.outputs])
            values = _round(short)
        small[..., channel] = values
    return small


def _round(values: np.ndarray) -> np.ndarray:
    """To whole numbers from 0 to 255, in place."""
    values += 0.5
    np.floor(values, out=values)
    return np.clip(values, 0, 255, out=values)


@lru_cache(maxsize=16)
def _bands(size: int, new_size: int, interpolation: str) -> tuple[_Band, ...]:
    """The weights of one axis."""
    first, stop, weights = _weights(size, new_size, interpolation)
    bands = []
    for start in range(0, new_size, _BAND):
        end = min(start + _BAND, new_size)
        inputs = slice(int(first[start]), int(stop[end - 1]))
        matrix = np.zeros((end - start, inputs.stop - inputs.start), np.float32)
        for index in range(start, end):
            count = stop[index] - first[index]
            offset = first[index] - inputs.start
            matrix[index - start, offset : offset + count] = weights[index, :count]
        bands.append(_Band(slice(start, end), inputs, matrix))
    return tuple(bands)


def _weights(size: int, new_size: int, interpolation: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each of `new_size` pixels: the first of its pixels among `size`, the one after the last, and its weights."""
    scale = size / new_size
    stretch = max(scale, 1.0)
    radius = (1.0 if interpolation == "bilinear" else 2.0) * stretch
    middles = scale * (np.arange(new_size) + 0.5)
    first = np.maximum((middles - radius + 0.5).astype(np.int64), 0)
    stop = np.minimum((middles + radius + 0.5).astype(np.int64), size)
    positions = first[:, None] + np.arange((stop - first).max())  # (new_size, taps)
    distances = np.abs((positions - middles[:, None] + 0.5) / stretch)
    weights = np.maximum(0, 1 - distances) if interpolation == "bilinear" else _cubic(distances)
    weights[positions >= stop[:, None]] = 0
    weights /= weights.sum(1, keepdims=True)
    bits = 0
    while bits < _MOST_WEIGHT_BITS and int(0.5 + weights.max() * 2 ** (bits + 1)) < _WEIGHT_LIMIT:
        bits += 1
    whole = np.trunc(weights * 2**bits + np.copysign(0.5, weights))
    return first, stop, whole / 2**bits


def _cubic(distances: np.ndarray) -> np.ndarray:
    """The bicubic filter (Keys 1981) of distances >= 0."""
    near = ((_CUBIC + 2) * distances - (_CUBIC + 3)) * distances**2 + 1
    far = (((distances - 5) * distances + 8) * distances - 4) * _CUBIC
    return np.where(distances < 1, near, np.where(distances < 2, far, 0.0))
