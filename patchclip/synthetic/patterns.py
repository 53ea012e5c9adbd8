"""Surfaces of elements, one of which can be broken. Lengths in 1/256 of the short side.

The flaw draws from an rng of its own, so that all else of the image stays as it is without it.
"""

from __future__ import annotations

import cv2
import numpy as np

from .drawing import (
    Canvas,
    Rng,
    Size,
    axis_angle,
    coordinates,
    extent_xy,
    inner_points,
    lattice,
    over,
    random_colour,
    random_palette,
)
from .fields import Painter, plain_field, quiet_ground


def two_materials(rng: Rng) -> Painter:
    """Two grounds with a border between them, or a band."""
    first, second = quiet_ground(rng), quiet_ground(rng)
    place, angle, softness = rng.uniform(-70, 70), axis_angle(rng), rng.uniform(0.5, 6)
    curve = rng.uniform(0, 0.004) if rng.random() < 0.4 else 0.0
    band = rng.uniform(20, 90) if rng.random() < 0.4 else 1e9

    def paint(r: Rng, flaw: Rng | None, hw: Size) -> np.ndarray:
        x, y = coordinates(hw, angle + r.normal(0, 0.04), (r.uniform(-12, 12), 0))
        depth = x - place + curve * y * y
        cover = np.clip(depth / softness + 0.5, 0, 1) * np.clip((band - depth) / softness + 0.5, 0, 1)
        return over(first(r, hw), cover.astype(np.float32), second(r, hw))

    return paint


def grid(rng: Rng) -> Painter:
    """Tiles, bricks, cells with busbars; the flaw interrupts a line."""
    pitch, width, ground = rng.uniform(24, 140, 2), rng.uniform(1, 8), quiet_ground(rng)
    colour, opacity, brick = random_colour(rng), np.float32(rng.uniform(0.3, 1)), rng.random() < 0.3
    bars = int(rng.integers(0, 4))

    def paint(r: Rng, flaw: Rng | None, hw: Size) -> np.ndarray:
        image, canvas, extent = ground(r, hw), Canvas(hw), extent_xy(hw)
        offset = r.uniform(0, pitch)
        lines = []
        for row, y in enumerate(np.arange(offset[1] - pitch[1], extent[1] + pitch[1], pitch[1])):
            shift = pitch[0] / 2 if brick and row % 2 else 0.0
            for x in np.arange(offset[0] - pitch[0] - shift, extent[0] + pitch[0], pitch[0]):
                lines.append((x, y, x + pitch[0], y))
                lines += [(bar, y, bar, y + pitch[1]) for bar in x + pitch[0] * np.arange(bars + 1) / (bars + 1)]
        segments = np.array(lines).reshape(-1, 2, 2)
        inner = inner_points(segments.mean(1), extent, 15)
        broken = flaw.choice(inner) if flaw is not None and len(inner) else -1
        for index, (start, end) in enumerate(segments):
            if flaw is not None and index == broken:
                stop = flaw.uniform(0, 0.4)
                go = flaw.uniform(stop + 0.3, 1)
                canvas.line(start, start + stop * (end - start), width)
                canvas.line(start + go * (end - start), end, width)
            else:
                canvas.line(start, end, width)
        return over(image, opacity * canvas.coverage, colour)

    return paint


def dots(rng: Rng) -> Painter:
    """Perforated sheets and printed dots; the flaw drops, resizes, moves or halves one."""
    pitch = rng.uniform(14, 60)
    radius, shape, ground, colour = (
        pitch * rng.uniform(0.12, 0.42),
        rng.integers(3),
        quiet_ground(rng),
        random_colour(rng),
    )
    triangular, opacity = bool(rng.random() < 0.5), np.float32(rng.uniform(0.4, 1))
    angle = rng.uniform(0, 0.8) if rng.random() < 0.5 else 0.0

    def paint(r: Rng, flaw: Rng | None, hw: Size) -> np.ndarray:
        image, canvas, extent = ground(r, hw), Canvas(hw), extent_xy(hw)
        points = lattice(extent, pitch, angle, r.uniform(0, pitch, 2), triangular)
        inner = inner_points(points, extent, radius + 4)
        broken = flaw.choice(inner) if flaw is not None and len(inner) else -1
        for index, point in enumerate(points):
            size = radius
            if flaw is not None and index == broken:
                mode = flaw.integers(4)
                if mode == 0:
                    continue
                if mode == 1:
                    size = radius * flaw.choice([0.45, 0.6, 1.4])
                elif mode == 2:
                    point = point + pitch * flaw.choice([-0.3, 0.3], 2)
                else:
                    turn = flaw.uniform(0, 6.28) + np.linspace(0, np.pi, 24)
                    canvas.polygon(point + size * np.stack([np.cos(turn), np.sin(turn)], -1))
                    continue
            if shape == 0:
                canvas.disc(point, size)
            elif shape == 1:
                canvas.polygon(point + size * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]))
            else:
                canvas.disc(point, size, width=size / 4)
        return over(image, opacity * canvas.coverage, colour)

    return paint


def circuit(rng: Rng) -> Painter:
    """Tracks and pads; the layout belongs to the product, the flaw opens a track or joins copper to it."""
    ground, copper, pad_colour = quiet_ground(rng), random_colour(rng), random_colour(rng)
    width, pitch, opacity = rng.uniform(2, 6), int(rng.integers(10, 24)), np.float32(rng.uniform(0.5, 1))
    layout = int(rng.integers(1 << 31))
    tracks, pads = int(rng.integers(8, 30)), int(rng.integers(4, 40))

    def paint(r: Rng, flaw: Rng | None, hw: Size) -> np.ndarray:
        image, canvas, holes, extent = ground(r, hw), Canvas(hw), Canvas(hw), extent_xy(hw)
        fixed, shift = np.random.default_rng(layout), r.uniform(-3, 3, 2)
        segments = []
        steps = np.array([(1, 0), (0, 1), (1, 1), (-1, 0), (0, -1), (1, -1)])
        for _ in range(tracks):
            point = fixed.integers(0, np.maximum(extent // pitch, 1)) * pitch + shift
            for _ in range(fixed.integers(2, 6)):
                end = point + steps[fixed.integers(6)] * fixed.integers(1, 7) * pitch
                canvas.line(point, end, width)
                segments.append((point, end))
                point = end
        if flaw is not None:
            middles = np.mean(segments, axis=1)
            inner = inner_points(middles, extent, 12)
            if len(inner):
                spot = middles[flaw.choice(inner)] + flaw.uniform(-width / 2, width / 2, 2)
                value = 0 if flaw.random() < 0.6 else 255
                canvas.disc(spot, width * flaw.uniform(0.9, 1.9) + 1, value)
        for _ in range(pads):
            holes.disc(fixed.integers(0, np.maximum(extent // pitch, 1)) * pitch + shift, width + 2)
        return over(over(image, opacity * canvas.coverage, copper), holes.coverage, pad_colour)

    return paint


def object(rng: Rng) -> Painter:
    """A part on a background: disc, hexagon, gear, pill, square or blob; the flaw breaks its rim or its hole."""
    kind, size, ground, fill, palette = (
        rng.integers(6),
        rng.uniform(60, 112),
        quiet_ground(rng),
        plain_field(rng),
        random_palette(rng),
    )
    rim_colour, rim, hole, hole_colour = (
        random_colour(rng),
        rng.uniform(2, 14),
        rng.uniform(0.2, 0.6),
        random_colour(rng),
    )
    teeth, shiny, aspect = int(rng.integers(5, 16)), rng.random() < 0.5, rng.uniform(0.35, 0.8)
    wander, turn = rng.uniform(0, 10), rng.choice([0.0, 0.1, 3.14])
    holed = hole > 0.3 and kind in (0, 1, 2, 4)

    def outline() -> np.ndarray:
        t = np.linspace(0, 2 * np.pi, 160, endpoint=False)
        radius = np.full_like(t, size)
        if kind == 1:
            radius = 0.85 * size / np.maximum(np.cos((t + np.pi / 6) % (np.pi / 3) - np.pi / 6), 0.3)
        elif kind == 2:
            radius = size * (1 + 0.12 * np.sign(np.sin(teeth * t)))
        elif kind == 4:
            radius = 0.8 * size / np.maximum(np.abs(np.cos(t)), np.abs(np.sin(t)))
        elif kind == 5:
            radius = size * (1 + 0.05 * np.sin(3 * t) + 0.05 * np.sin(5 * t + 1))
        return np.stack([radius * np.cos(t), radius * np.sin(t) * (aspect if kind == 3 else 1)], 1)

    def paint(r: Rng, flaw: Rng | None, hw: Size) -> np.ndarray:
        image, extent = ground(r, hw), extent_xy(hw)
        centre = extent / 2 + r.uniform(-wander, wander, 2)
        angle = r.uniform(-turn, turn)
        cos, sin = np.cos(angle), np.sin(angle)
        points = outline() @ np.array([[cos, sin], [-sin, cos]]) + centre
        mode = -1 if flaw is None else int(flaw.integers(3 if holed else 1))
        body = Canvas(hw)
        body.polygon(points)
        edge = Canvas(hw)
        edge.outline(points, rim / 2)
        if flaw is not None and mode == 0:
            bite = points[flaw.integers(len(points))], flaw.uniform(6, 26)
            body.disc(*bite, value=0)
            edge.disc(*bite, value=0)
        image = over(image, body.coverage, palette(fill(r, hw)))
        if rim > 5:
            image = over(image, 0.7 * edge.coverage, rim_colour)
        if holed and mode != 2:
            bore = Canvas(hw)
            astray = size * flaw.choice([-0.2, 0.2], 2) if flaw is not None and mode == 1 else np.zeros(2)
            bore.disc(centre + astray, size * (hole - 0.1))
            image = over(image, bore.coverage, hole_colour)
        if shiny:
            glint = Canvas(hw)
            glint.disc(centre - 0.3 * size, 0.2 * size)
            soft = cv2.GaussianBlur(glint.coverage, (0, 0), 0.12 * size * glint.scale)
            image = image + 0.25 * soft[..., None]
        return np.clip(image, 0, 1).astype(np.float32)

    return paint


def herringbone(rng: Rng) -> Painter:
    """Rows of slanted bars; the flaw turns one the other way or drops it."""
    length, slope, ground, colour = rng.uniform(14, 40), rng.uniform(0.5, 1.1), quiet_ground(rng), random_colour(rng)
    width, opacity = length * rng.uniform(0.15, 0.4), np.float32(rng.uniform(0.4, 1))

    def paint(r: Rng, flaw: Rng | None, hw: Size) -> np.ndarray:
        image, canvas, extent = ground(r, hw), Canvas(hw), extent_xy(hw)
        offset = r.uniform(0, length, 2)
        columns, rows = np.arange(-1, extent[0] / length + 1), np.arange(-1, extent[1] / length * 1.6 + 2)
        grid = np.stack(np.meshgrid(columns, rows, indexing="ij"), -1).reshape(-1, 2)
        points = grid * (length, length / 1.6) + offset
        sign = np.where(grid[:, 0] % 2 == 0, 1.0, -1.0)
        inner = inner_points(points, extent, length)
        if flaw is not None and len(inner):
            broken = flaw.choice(inner)
            if flaw.random() < 0.5:
                sign[broken] *= -1
            else:
                points, sign = np.delete(points, broken, 0), np.delete(sign, broken)
        for point, side in zip(points, sign, strict=True):
            half = np.array([0.5, 0.5 * slope * side]) * length
            canvas.line(point - half, point + half, width)
        return over(image, opacity * canvas.coverage, colour)

    return paint


def hexagons(rng: Rng) -> Painter:
    """Honeycomb; the flaw fills or drops a cell's outline."""
    pitch, width, ground, colour = rng.uniform(22, 60), rng.uniform(1, 5), quiet_ground(rng), random_colour(rng)
    opacity = np.float32(rng.uniform(0.4, 1))
    corners = np.stack([np.cos(k := np.arange(6) * np.pi / 3 + np.pi / 6), np.sin(k)], 1)

    def paint(r: Rng, flaw: Rng | None, hw: Size) -> np.ndarray:
        image, canvas, extent = ground(r, hw), Canvas(hw), extent_xy(hw)
        points = lattice(extent, pitch, 0.0, r.uniform(0, pitch, 2), True)
        inner = inner_points(points, extent, pitch * 0.6)
        for point in points:
            canvas.outline(point + 0.577 * pitch * corners, width)
        if flaw is not None and len(inner):
            point = points[flaw.choice(inner)]
            if flaw.random() < 0.5:
                canvas.polygon(point + 0.577 * pitch * corners)
            else:
                canvas.disc(point, pitch * 0.62, value=0)
        return over(image, opacity * canvas.coverage, colour)

    return paint
