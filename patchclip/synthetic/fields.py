"""Surfaces without elements: scalar fields under a palette. Lengths in 1/256 of the short side.

A family draws the constants of one product from an rng; the field it returns paints one image of it.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from .drawing import (
    Canvas,
    Rng,
    Size,
    axis_angle,
    coordinates,
    fractal_noise,
    nearest_seed,
    random_colour,
    random_palette,
    unit_range,
    white_noise,
)

#: (rng of the image, rng of the flaw or None, size_hw) -> (H, W, 3) float32 in [0, 1]
Painter = Callable[[Rng, "Rng | None", Size], np.ndarray]
PainterFamily = Callable[[Rng], Painter]
#: (rng of the image, size_hw) -> (H, W) float32 in [0, 1]
Field = Callable[[Rng, Size], np.ndarray]
FieldFamily = Callable[[Rng], Field]


def clouds(rng: Rng) -> Field:
    """Fractal noise."""
    cells, octaves, gain = 2 ** rng.uniform(1, 6), int(rng.integers(1, 6)), rng.uniform(0.3, 0.9)
    stretch = np.exp(rng.normal(0, 0.35))
    return lambda r, hw: unit_range(fractal_noise(r, hw, cells=cells, octaves=octaves, gain=gain, stretch=stretch))


def cells(rng: Rng) -> Field:
    """Voronoi cells, their borders or both."""
    count, mode, tones = int(2 ** rng.uniform(4.5, 10)), rng.integers(4), rng.random(8).astype(np.float32)

    def field(r: Rng, hw: Size) -> np.ndarray:
        distance, label = nearest_seed(r, hw, count)
        if mode == 0:
            return unit_range(distance)
        edge = cv2.morphologyEx(label.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3)))
        edge = cv2.GaussianBlur((edge > 0).astype(np.float32), (0, 0), 1.0)
        tone = tones[label * 7919 % 8]
        return (1 - edge, tone, np.clip(tone * 0.6 + 0.4 - 0.5 * edge, 0, 1))[mode - 1]

    return field


def fabric(rng: Rng) -> Field:
    """Woven threads."""
    pitch = rng.uniform(4, 22)
    pitch_y = pitch * np.exp(rng.normal(0, 0.2))
    angle = rng.uniform(0, np.pi) if rng.random() < 0.6 else 0.0
    weave, wobble, grain = rng.integers(4), rng.uniform(0, 2), rng.uniform(0, 0.35)

    def field(r: Rng, hw: Size) -> np.ndarray:
        x, y = coordinates(hw, angle + r.normal(0, 0.03), tuple(r.uniform(0, 99, 2)))
        if wobble > 0.4:
            x = x + wobble * fractal_noise(r, hw, cells=3, octaves=2)
            y = y + wobble * fractal_noise(r, hw, cells=3, octaves=2)
        warp, weft = np.sin(2 * np.pi * x / pitch), np.sin(2 * np.pi * y / pitch_y)
        if weave == 0:
            value = warp * weft
        elif weave == 1:
            over = np.sin(np.pi * x / pitch) * np.sin(np.pi * y / pitch_y) > 0
            value = np.where(over, np.abs(warp), np.abs(weft))
        elif weave == 2:
            value = np.maximum(warp, weft)
        else:
            value = np.sin(2 * np.pi * (x / pitch + np.floor(y / pitch_y) / 3))
        return np.clip(0.5 + 0.4 * value + grain * white_noise(r, hw), 0, 1)

    return field


def wood(rng: Rng) -> Field:
    """Growth rings and fibres."""
    rings, angle, wave, grain = rng.uniform(0.03, 0.25), axis_angle(rng), rng.uniform(2, 20), rng.uniform(0.1, 0.5)

    def field(r: Rng, hw: Size) -> np.ndarray:
        turn = angle + r.normal(0, 0.04)
        x, y = coordinates(hw, turn, (0, r.uniform(0, 500)))
        y = y + wave * fractal_noise(r, hw, cells=4, octaves=1)
        ring = 0.5 + 0.5 * np.sin(rings * 2 * y + 1.5 * np.sin(0.05 * y))
        table = r.standard_normal((24, 2048), dtype=np.float32)  # long thin fibres
        fibre = cv2.remap(table, y * 2 % 2048, x / 40 % 24, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        return np.clip(ring * (1 - grain) + grain * (0.5 + 0.3 * fibre), 0, 1)

    return field


def brushed(rng: Rng) -> Field:
    """Streaks in one direction."""
    length, angle = 2 ** rng.uniform(3, 7), axis_angle(rng)
    contrast, cloud = rng.uniform(0.03, 0.25), rng.uniform(0, 0.3)

    def field(r: Rng, hw: Size) -> np.ndarray:
        x, y = coordinates(hw, angle, (600, 600))
        table = r.standard_normal((1300, 1300), dtype=np.float32)
        kernel = max(1, round(length))
        table = cv2.blur(table, (kernel, 1)) * np.float32(np.sqrt(kernel))
        streak = cv2.remap(table, x % 1299, y % 1299, cv2.INTER_LINEAR)
        return np.clip(0.5 + contrast * streak + cloud * fractal_noise(r, hw, cells=2, octaves=2), 0, 1)

    return field


def concrete(rng: Rng) -> Field:
    """Clouds, grain and pores."""
    cloud, grain, pores = rng.uniform(0.05, 0.3), rng.uniform(0.02, 0.2), int(rng.integers(0, 120))
    largest, sign = rng.uniform(1, 4), rng.choice([-0.3, 0.3])

    def field(r: Rng, hw: Size) -> np.ndarray:
        value = 0.5 + cloud / 2 * fractal_noise(r, hw, cells=6, octaves=5, gain=0.6) + grain * white_noise(r, hw)
        canvas = Canvas(hw)
        for _ in range(pores):
            canvas.disc(r.uniform(0, 1, 2) * (hw[1], hw[0]) / canvas.scale, r.uniform(0.5, largest))
        return np.clip(value + sign * canvas.coverage, 0, 1)

    return field


def speckle(rng: Rng) -> Field:
    """Grain, blurred or sparse."""
    sigma, sparse, amount = rng.uniform(0.4, 4), rng.random() < 0.5, rng.uniform(0.05, 0.4)

    def field(r: Rng, hw: Size) -> np.ndarray:
        value = white_noise(r, hw)
        if sigma > 0.5:
            value = cv2.GaussianBlur(value, (0, 0), sigma) * np.float32(sigma * 3)
        if sparse:
            value = (value > 1.2).astype(np.float32) * 2 - 0.5
        return np.clip(0.5 + amount * value, 0, 1)

    return field


def smooth(rng: Rng) -> Field:
    """Nearly plain."""
    cloud, grain = rng.uniform(0, 0.25), rng.uniform(0, 0.06)
    return lambda r, hw: np.clip(
        0.5 + cloud * fractal_noise(r, hw, cells=2, octaves=1) + grain * white_noise(r, hw), 0, 1
    )


def leather(rng: Rng) -> Field:
    """Small soft cells."""
    count, amount, sigma = int(2 ** rng.uniform(7, 11)), rng.uniform(0.2, 0.8), rng.uniform(0.6, 2)

    def field(r: Rng, hw: Size) -> np.ndarray:
        grain = cv2.GaussianBlur(nearest_seed(r, hw, count)[0], (0, 0), sigma)
        clouds = unit_range(fractal_noise(r, hw, cells=4, octaves=4))
        return np.clip((1 - amount) * clouds + amount * unit_range(grain), 0, 1)

    return field


def marble(rng: Rng) -> Field:
    """Veins."""
    cells, turbulence, sharpness = rng.uniform(1, 4), rng.uniform(1, 4), rng.uniform(0.5, 3)

    def field(r: Rng, hw: Size) -> np.ndarray:
        x, y = coordinates(hw, r.uniform(0, np.pi), (0, 0))
        noise = fractal_noise(r, hw, cells=4, octaves=5, gain=0.5)
        return (1 - np.abs(np.sin(cells * x / 40 + y / 90 + turbulence * noise))) ** np.float32(sharpness)

    return field


_PLAIN: tuple[FieldFamily, ...] = (clouds, concrete, speckle, smooth, brushed, smooth)


def plain_field(rng: Rng) -> Field:
    """One of the quiet families."""
    return _PLAIN[rng.integers(len(_PLAIN))](rng)


def stripes(rng: Rng) -> Field:
    """Bars on a quiet field."""
    pitch, duty, angle = rng.uniform(8, 70), rng.uniform(0.05, 0.7), axis_angle(rng)
    softness, strength, ground = rng.uniform(0.5, 3), rng.uniform(0.3, 0.9), plain_field(rng)

    def field(r: Rng, hw: Size) -> np.ndarray:
        x, _ = coordinates(hw, angle + r.normal(0, 0.02), (r.uniform(0, 99), 0))
        from_middle = np.abs(x % pitch - pitch / 2)
        bar = np.clip((duty * pitch / 2 - from_middle) / softness + 0.5, 0, 1)
        return np.clip(ground(r, hw) * (1 - strength) + strength * bar, 0, 1)

    return field


def rings(rng: Rng) -> Field:
    """Turned metal: streaks around a centre."""
    contrast, pitch = rng.uniform(0.05, 0.3), rng.uniform(1, 6)
    centre = rng.uniform(-60, 60, 2)

    def field(r: Rng, hw: Size) -> np.ndarray:
        x, y = coordinates(hw, 0, tuple(centre + r.normal(0, 2, 2)))
        radius = np.hypot(x, y)
        table = r.standard_normal((1, 1024), dtype=np.float32)
        groove = cv2.remap(table, radius / np.float32(pitch) * 2 % 1023, np.zeros_like(radius), cv2.INTER_LINEAR)
        sheen = np.cos(2 * np.arctan2(y, x) + r.uniform(0, 6.28))
        return np.clip(0.5 + contrast * groove + 0.15 * sheen, 0, 1)

    return field


def field_painter(family: FieldFamily) -> PainterFamily:
    """A field family under a random palette, now and then mixed with a second field."""

    def make(rng: Rng) -> Painter:
        field, palette = family(rng), random_palette(rng)
        second, share = (plain_field(rng), rng.uniform(0.1, 0.4)) if rng.random() < 0.3 else (None, 0.0)

        def paint(r: Rng, flaw: Rng | None, hw: Size) -> np.ndarray:
            value = field(r, hw)
            if second is not None:
                value = value * (1 - share) + share * second(r, hw)
            return palette(value).astype(np.float32)

        return paint

    return make


def quiet_ground(rng: Rng) -> Callable[[Rng, Size], np.ndarray]:
    """A quiet background for families that draw on it."""
    field, palette, base, share = (
        plain_field(rng),
        random_palette(rng),
        random_colour(rng),
        np.float32(rng.uniform(0.1, 0.6)),
    )
    return lambda r, hw: base * (1 - share) + share * palette(field(r, hw))
