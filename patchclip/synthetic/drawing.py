"""What surfaces are drawn with: noise, coordinates, a canvas, colours. Lengths in 1/256 of the short side."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Rng = np.random.Generator
Size = tuple[int, int]

_FIXED_POINT_BITS = 3  # cv2 draws with 1/8 pixel precision


def fractal_noise(
    rng: Rng, size_hw: Size, *, cells: float, octaves: int, gain: float = 0.55, stretch: float = 1.0
) -> np.ndarray:
    """Sum of octaves of smoothed noise: (H, W) float32, mean about 0; `cells` across the short side at first."""
    height, width = size_hw
    out = np.zeros(size_hw, np.float32)
    amplitude, frequency = 1.0, cells / min(size_hw)
    for _ in range(octaves):
        grid_h = int(np.clip(frequency / stretch * height, 2, height))
        grid_w = int(np.clip(frequency * stretch * width, 2, width))
        coarse = rng.standard_normal((grid_h, grid_w), dtype=np.float32)
        smooth = cv2.INTER_CUBIC if min(grid_h, grid_w) < 64 else cv2.INTER_LINEAR
        out += amplitude * cv2.resize(coarse, (width, height), interpolation=smooth)
        amplitude *= gain
        frequency *= 2
        if frequency > 1:
            break
    return out


def unit_range(values: np.ndarray) -> np.ndarray:
    """Its 1st and 99th percentile become 0 and 1."""
    low, high = np.percentile(values[::4, ::4], (1, 99))
    return np.clip((values - low) / (high - low + 1e-6), 0, 1)


def largest_channel(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W), several times faster than `max(-1)`."""
    return np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])


def pixels_per_unit(size_hw: Size) -> float:
    """Pixels in one unit of length."""
    return min(size_hw) / 256


def coordinates(size_hw: Size, angle: float, shift: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Rotated and shifted coordinates in units, origin at the middle: two (H, W) float32."""
    height, width = size_hw
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = (x - width / 2) / pixels_per_unit(size_hw), (y - height / 2) / pixels_per_unit(size_hw)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin + np.float32(shift[0]), -x * sin + y * cos + np.float32(shift[1])


def white_noise(rng: Rng, size_hw: Size) -> np.ndarray:
    """(H, W) float32, deviation 1."""
    return rng.standard_normal(size_hw, dtype=np.float32)


def axis_angle(rng: Rng) -> float:
    """Along an axis more often than not."""
    return float(rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]))


def nearest_seed(rng: Rng, size_hw: Size, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the nearest of `count` random points per square, in units, and which one: (H, W) each."""
    height, width = size_hw
    count = max(2, round(count * height * width / min(size_hw) ** 2))
    marks = np.full(size_hw, 255, np.uint8)
    marks[rng.integers(0, height, count), rng.integers(0, width, count)] = 0
    distance, label = cv2.distanceTransformWithLabels(marks, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    return distance / pixels_per_unit(size_hw), label


def fixed_point(points: np.ndarray, scale: float) -> np.ndarray:
    """Points in units -> cv2's fixed-point pixels."""
    return np.round(np.asarray(points) * scale * (1 << _FIXED_POINT_BITS)).astype(np.int32)


class Canvas:
    """An (H, W) coverage mask to draw on in units, anti-aliased."""

    def __init__(self, size_hw: Size):
        self.pixels = np.zeros(size_hw, np.uint8)
        self.scale = pixels_per_unit(size_hw)

    def line(self, start: np.ndarray, end: np.ndarray, width: float, value: int = 255) -> None:
        """A straight line."""
        a, b = fixed_point(np.array([start, end]), self.scale)
        thickness = max(1, round(width * self.scale))
        cv2.line(self.pixels, a.tolist(), b.tolist(), value, thickness, cv2.LINE_AA, _FIXED_POINT_BITS)

    def polygon(self, points: np.ndarray, value: int = 255) -> None:
        """A filled polygon, points (K, 2)."""
        cv2.fillPoly(self.pixels, [fixed_point(points, self.scale)], value, cv2.LINE_AA, _FIXED_POINT_BITS)

    def outline(self, points: np.ndarray, width: float) -> None:
        """The border of a polygon."""
        thickness = max(1, round(width * self.scale))
        fixed = [fixed_point(points, self.scale)]
        cv2.polylines(self.pixels, fixed, True, 255, thickness, cv2.LINE_AA, _FIXED_POINT_BITS)

    def disc(self, centre: np.ndarray, radius: float, value: int = 255, width: float | None = None) -> None:
        """A filled circle, or a ring of that width."""
        thickness = -1 if width is None else max(1, round(width * self.scale))
        (centre_fixed,) = fixed_point(np.array([centre]), self.scale)
        radius_fixed = max(1, round(radius * self.scale * (1 << _FIXED_POINT_BITS)))
        args = (centre_fixed.tolist(), radius_fixed, value, thickness, cv2.LINE_AA, _FIXED_POINT_BITS)
        cv2.circle(self.pixels, *args)

    @property
    def coverage(self) -> np.ndarray:
        """(H, W) float32 in [0, 1]."""
        return self.pixels.astype(np.float32) / 255


def over(image: np.ndarray, coverage: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Paint a colour over the image: coverage (H, W), colour (3,) or (H, W, 3)."""
    return image + coverage[..., None] * (colour - image)


def extent_xy(hw: Size) -> np.ndarray:
    """Width and height of the image in units."""
    return np.array([hw[1], hw[0]]) / pixels_per_unit(hw)


def inner_points(points: np.ndarray, extent_xy: np.ndarray, margin: float) -> np.ndarray:
    """Indices of the points at least `margin` inside the image."""
    return np.flatnonzero(((points > margin) & (points < extent_xy - margin)).all(1))


def lattice(extent: np.ndarray, pitch: float, angle: float, offset: np.ndarray, triangular: bool) -> np.ndarray:
    """Points (N, 2) of a rotated lattice that covers the image."""
    reach = int(np.ceil(extent.max() / pitch)) + 2
    j, i = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    points = np.stack([i + 0.5 * (triangular & (j % 2 == 1)), j * (0.87 if triangular else 1.0)], -1) * pitch
    cos, sin = np.cos(angle), np.sin(angle)
    points = (points.reshape(-1, 2) + offset) @ np.array([[cos, sin], [-sin, cos]]) + extent / 2
    return points[((points > -pitch) & (points < extent + pitch)).all(1)]


def random_colour(rng: Rng) -> np.ndarray:
    """(3,) float32 in [0, 1]; grey in four cases of ten."""
    if rng.random() < 0.4:
        return np.full(3, rng.random(), np.float32)
    hsv = np.array([[[rng.random() * 179, rng.random() ** 0.7 * 230, 30 + rng.random() * 225]]]).astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32) / 255


def random_palette(rng: Rng) -> Callable[[np.ndarray], np.ndarray]:
    """A map from [0, 1] to colours between two ends."""
    if rng.random() < 0.45:
        start = np.full(3, rng.random(), np.float32)
        step = (0.06 + 0.6 * rng.random()) * (1 if start[0] < 0.5 else -1)
        end = np.clip(start + step, 0, 1)
    else:
        start = random_colour(rng)
        end = start + (0.1 + 0.9 * rng.random() ** 1.3) * (random_colour(rng) - start)
        if np.abs(end - start).max() < 0.06:
            end = np.clip(start + 0.15 * np.sign(0.5 - start.mean()), 0, 1)
    gamma = np.float32(np.exp(rng.normal(0, 0.35)))
    start, end = start.astype(np.float32), end.astype(np.float32)
    return lambda values: start + (end - start) * (np.clip(values, 0, 1) ** gamma)[..., None]
