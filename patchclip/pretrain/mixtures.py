"""More products than `patchclip.synthetic` has families: any motif on any lattice, surfaces bent, surfaces mixed."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from ..synthetic.drawing import Canvas, Rng, Size, extent_xy, fractal_noise, inner_points, over, random_colour
from ..synthetic.fields import Painter, quiet_ground
from ..synthetic.surfaces import FAMILIES, HELD_OUT, Surface, finish_surface

_WORDS = ("surface", "pattern", "texture", "panel", "tile", "textile")
_TRAINED = tuple(name for name in FAMILIES if name not in HELD_OUT)
#: Bent, an object would be another object.
_BENDABLE = tuple(name for name in _TRAINED if name != "object")


def sample_mixture(rng: Rng) -> Surface:
    """Draw a product."""
    kind = rng.choice(["motifs", "bent", "mixed"], p=(0.5, 0.25, 0.25))
    if kind == "motifs":
        return finish_surface(rng, "motifs", _WORDS, True, _motifs(rng))
    family = str(rng.choice(_BENDABLE if kind == "bent" else _TRAINED))
    make, words, has_pattern = FAMILIES[family]
    painter = make(rng)
    if kind == "bent":
        painter = _bent(rng, painter)
    else:
        make_other, _, _ = FAMILIES[str(rng.choice(_BENDABLE))]
        painter = _mixed(rng, painter, make_other(rng))
    return finish_surface(rng, family, words, has_pattern, painter)


def _bent(rng: Rng, painter: Painter) -> Painter:
    """The same surface, its lines bent: alike in all images, or in each image differently."""
    reach, cells = rng.uniform(3, 16), 2 ** rng.uniform(1, 3.5)
    seed = int(rng.integers(1 << 31)) if rng.random() < 0.5 else None

    def paint(r: Rng, flaw: Rng | None, hw: Size) -> np.ndarray:
        image = painter(r, flaw, hw).astype(np.float32)
        bend = r if seed is None else np.random.default_rng(seed)
        scale = np.float32(reach * min(hw) / 256)
        y, x = np.mgrid[0 : hw[0], 0 : hw[1]].astype(np.float32)
        x += scale * fractal_noise(bend, hw, cells=cells, octaves=2)
        y += scale * fractal_noise(bend, hw, cells=cells, octaves=2)
        return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    return paint


def _mixed(rng: Rng, painter: Painter, other: Painter) -> Painter:
    """Two surfaces in one: laid over each other, multiplied, or side by side in patches."""
    mode, share = rng.integers(3), np.float32(rng.uniform(0.15, 0.5))
    cells, border = 2 ** rng.uniform(0.5, 3), rng.uniform(-0.4, 0.4)
    sharpness = np.float32(rng.uniform(2, 20))

    def paint(r: Rng, flaw: Rng | None, hw: Size) -> np.ndarray:
        first = painter(r, flaw, hw)
        second = other(r, None, hw)
        if mode == 0:
            return first + share * (second - first)
        if mode == 1:
            return first * (1 - share + share * second)
        noise = fractal_noise(r, hw, cells=cells, octaves=3)
        cover = np.clip((noise - border) * sharpness + 0.5, 0, 1)
        return over(first, cover * (0.5 + share), second)

    return paint


def _motifs(rng: Rng) -> Painter:
    """One motif of a few strokes and areas on a lattice, rows and columns turned or mirrored; the flaw drops, turns,
    resizes, moves or halves one. Lengths in 1/256 of the short side."""
    ground, pitch = quiet_ground(rng), float(np.exp(rng.uniform(np.log(16), np.log(100))))
    shapes = [_shape(rng) for _ in range(rng.integers(1, 4))]
    size, opacity = pitch * rng.uniform(0.45, 1.25), np.float32(rng.uniform(0.3, 1))
    colours = [random_colour(rng) for _ in shapes] if rng.random() < 0.3 else [random_colour(rng)] * len(shapes)
    angle = rng.uniform(0, np.pi) if rng.random() < 0.4 else 0.0
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    basis = pitch * np.array([[1, 0], [rng.choice([0, 0.5, rng.uniform(0, 1)]), rng.uniform(0.6, 1.5)]]) @ turn
    row_turn, column_turn = rng.choice([0, 0, 90, 180, rng.uniform(0, 360)], 2)
    mirrored = rng.random() < 0.3  # every second column
    shift, sway = (pitch, 0.0) if rng.random() < 0.6 else (rng.uniform(0, 4), rng.uniform(0, 0.03) * pitch)

    def paint(r: Rng, flaw: Rng | None, hw: Size) -> np.ndarray:
        image, extent = ground(r, hw), extent_xy(hw)
        canvases = [Canvas(hw) for _ in shapes]
        reach = int(np.ceil(2.5 * extent.max() / pitch)) + 2
        rows, columns = (grid.ravel() for grid in np.mgrid[-reach : reach + 1, -reach : reach + 1])
        points = extent / 2 + r.uniform(-shift, shift, 2) + np.stack([columns, rows], 1) @ basis
        points += r.uniform(-sway, sway, points.shape)
        seen = ((points > -pitch) & (points < extent + pitch)).all(1)
        points, rows, columns = points[seen], rows[seen], columns[seen]
        turns = row_turn * (rows % 2) + column_turn * (columns % 2)
        inner = inner_points(points, extent, 0.5 * size)
        broken = flaw.choice(inner) if flaw is not None and len(inner) else -1
        for index, point in enumerate(points):
            drawn, scale, height, degrees = len(shapes), size, 1.0, turns[index]
            if flaw is not None and index == broken:
                mode = flaw.integers(5)
                if mode == 0:
                    drawn = int(flaw.integers(len(shapes)))  # some of its parts are missing, or all
                elif mode == 1:
                    degrees = degrees + flaw.choice([-1, 1]) * flaw.uniform(25, 155)
                elif mode == 2:
                    scale = size * flaw.choice([0.45, 0.65, 1.4])
                elif mode == 3:
                    point = point + 0.35 * pitch * flaw.choice([-1, 1], 2)
                else:
                    height = 0.4
            radians = np.deg2rad(degrees)
            cos, sin = np.cos(radians), np.sin(radians)
            move = np.array([[cos, sin], [-sin, cos]])
            if mirrored and columns[index] % 2:
                move = np.diag([-1, 1]) @ move
            for canvas, (kind, outline, width) in zip(canvases[:drawn], shapes, strict=False):
                corners = point + scale * (outline * (1, height)) @ move
                if kind == "area":
                    canvas.polygon(corners)
                elif kind == "ring":
                    canvas.outline(corners, width * pitch)
                else:
                    for start, end in pairwise(corners):
                        canvas.line(start, end, width * pitch)
        for canvas, colour in zip(canvases, colours, strict=True):
            image = over(image, opacity * canvas.coverage, colour)
        return image

    return paint


def _shape(rng: Rng) -> tuple[str, np.ndarray, float]:
    """A part of a motif: how it is drawn, its corners (K, 2) in [-0.5, 0.5], the width of its line, of the pitch."""
    kind = str(rng.choice(["area", "ring", "line"]))
    centre, radius = rng.uniform(-0.25, 0.25, 2), rng.uniform(0.1, 0.5)
    if kind == "line":
        steps, heading = int(rng.integers(1, 5)), rng.uniform(0, 2 * np.pi)
        headings = heading + np.cumsum(rng.normal(0, rng.choice([0.0, 0.5, 1.2]), steps))
        moves = np.stack([np.cos(headings), np.sin(headings)], 1) * 2 * radius / steps
        corners = np.concatenate([[[0, 0]], np.cumsum(moves, 0)])
        corners = corners - corners.mean(0) + centre
    else:
        count = int(rng.choice([3, 4, 5, 8, 24]))
        around = 2 * np.pi * (np.arange(count) + rng.random()) / count
        flat = np.array([1, rng.uniform(0.3, 1)])
        corners = centre + radius * rng.uniform(0.5, 1) * flat * np.stack([np.cos(around), np.sin(around)], 1)
    return kind, np.clip(corners, -0.5, 0.5), float(rng.uniform(0.02, 0.12))
