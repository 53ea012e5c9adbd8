"""Procedural surfaces: endless products, each of which can be photographed again and again.

`sample_surface(rng)` draws a product: a family, a word for it and every constant that all its images share
(palette, pitch, fixtures, camera). `surface.render(seed, size_hw)` is one image of it before the camera;
`surface.render_broken(seed, flaw_seed, size_hw)` is the very same image with one element of its pattern missing,
moved or malformed, and the mask of what that changed. `surface.photograph(images, seed)` adds light, blur and noise.

Families in `HELD_OUT` are never drawn for training: they are what validation and the benchmark look at.
Lengths in this file are in units of 1/256 of the short side of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from . import fields, patterns
from .drawing import (
    Canvas,
    Rng,
    Size,
    axis_angle,
    coordinates,
    extent_xy,
    fractal_noise,
    largest_channel,
    over,
    random_colour,
    white_noise,
)
from .fields import Painter, PainterFamily


@dataclass(frozen=True)
class Surface:
    """One product: what all its images share.

    Attributes:
        family: key of `FAMILIES`.
        name: a word for it, as a caption would use ("woven fabric").
        has_pattern: whether `render_broken` can break an element of it.
    """

    family: str
    name: str
    has_pattern: bool
    _paint: Painter
    _camera: Callable[[np.ndarray, Rng], np.ndarray]

    def render(self, seed: int, size_hw: Size = (256, 256)) -> np.ndarray:
        """One flawless image: (H, W, 3) float32 RGB in [0, 1], before the camera."""
        return self._paint(np.random.default_rng(seed), None, size_hw).astype(np.float32)

    def render_broken(self, seed: int, flaw_seed: int, size_hw: Size = (256, 256)) -> tuple[np.ndarray, np.ndarray]:
        """The image of `render(seed)` with one element of its pattern broken.

        Returns:
            image: (H, W, 3) float32 in [0, 1]; mask: (H, W) bool, true exactly where the image differs
            (all false when the flaw fell on nothing).
        """
        image = self.render(seed, size_hw)
        broken = self._paint(np.random.default_rng(seed), np.random.default_rng(flaw_seed), size_hw).astype(np.float32)
        return broken, largest_channel(np.abs(broken - image)) > 1e-3

    def photograph(self, image: np.ndarray, seed: int) -> np.ndarray:
        """The camera: (H, W, 3) float32 in [0, 1] -> (H, W, 3) uint8 with the product's light, blur and noise."""
        return self._camera(image, np.random.default_rng(seed))


def sample_surface(rng: Rng, families: Sequence[str] | None = None) -> Surface:
    """Draw a product from `families` (keys of `FAMILIES`; None means all that are not held out)."""
    names = [name for name in FAMILIES if name not in HELD_OUT] if families is None else list(families)
    family = names[rng.integers(len(names))]
    make, words, has_pattern = FAMILIES[family]
    return finish_surface(rng, family, words, has_pattern, make(rng))


def finish_surface(rng: Rng, family: str, words: tuple[str, ...], has_pattern: bool, painter: Painter) -> Surface:
    """A product of what `painter` paints: now and then with fixtures, and always with a camera of its own."""
    if rng.random() < 0.45:
        painter = _with_fixtures(rng, painter)
    return Surface(family, words[rng.integers(len(words))], has_pattern, painter, _camera(rng))


def _with_fixtures(rng: Rng, painter: Painter) -> Painter:
    """Things that look odd and belong there: frames, dark corners, bars, screws, labels, seams."""
    kinds = rng.choice(["frame", "corners", "bar", "screws", "label", "seam", "margin"], rng.integers(1, 3), False)
    colour = random_colour(rng) if rng.random() < 0.5 else np.full(3, rng.choice([0.02, 0.95]), np.float32)
    depth, thickness, place, angle = rng.uniform(4, 40), rng.uniform(1, 10), rng.uniform(30, 220), axis_angle(rng)
    letters = "".join(chr(65 + k) for k in rng.integers(0, 26, 4)) + str(rng.integers(1000))
    spots, jitter, sides = rng.uniform(15, 240, (int(rng.integers(1, 6)), 2)), rng.uniform(0, 5), rng.random(4) < 0.5

    def paint(r: Rng, flaw: Rng | None, hw: Size) -> np.ndarray:
        image, canvas, extent = painter(r, flaw, hw), Canvas(hw), extent_xy(hw)
        move = r.uniform(-jitter, jitter, 2)
        right, bottom = extent
        if "frame" in kinds:
            inset = depth + move[0]
            box = np.array(
                [[inset, inset], [right - inset, inset], [right - inset, bottom - inset], [inset, bottom - inset]]
            )
            canvas.outline(box, thickness)
        if "margin" in kinds:
            inset = depth + move[0]
            strips = (
                [0, 0, inset, bottom],
                [right - inset, 0, right, bottom],
                [0, 0, right, inset],
                [0, bottom - inset, right, bottom],
            )
            for (x0, y0, x1, y1), drawn in zip(strips, sides, strict=True):
                if drawn:
                    canvas.polygon(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
        if "corners" in kinds:
            for x, y in ((0, 0), (right, 0), (0, bottom), (right, bottom)):
                toward = np.sign(extent / 2 - (x, y)) * depth * 1.5
                canvas.polygon(np.array([[x, y], [x + toward[0], y], [x, y + toward[1]]]))
        for kind in ("bar", "seam"):
            if kind in kinds:
                along = np.array([np.cos(angle), np.sin(angle)])
                middle = np.array([place, place]) * extent / 256 + move
                canvas.line(middle - 900 * along, middle + 900 * along, thickness * (2 if kind == "bar" else 0.2))
        if "screws" in kinds:
            for spot in spots * extent / 256:
                canvas.disc(spot + move, thickness)
                canvas.line(spot + move - thickness * 0.6, spot + move + thickness * 0.6, 1, value=120)
        if "label" in kinds:
            origin = ((spots[0] * (0.5, 1) + move) * canvas.scale).astype(int).tolist()
            size = canvas.scale * (0.5 + thickness / 15)
            cv2.putText(
                canvas.pixels, letters, origin, cv2.FONT_HERSHEY_SIMPLEX, size, 255, 1 + round(size), cv2.LINE_AA
            )
        return over(image, canvas.coverage, colour)

    return paint


def _camera(rng: Rng) -> Callable[[np.ndarray, Rng], np.ndarray]:
    """The product's light (fixed, with a little play from image to image), blur, noise and compression."""
    slope, direction = (rng.uniform(0, 0.35) if rng.random() < 0.5 else 0.0), rng.uniform(0, 6.28)
    vignette = rng.uniform(0, 0.5) if rng.random() < 0.25 else 0.0
    clouds = rng.uniform(0.05, 0.25) if rng.random() < 0.25 else 0.0
    blur = rng.uniform(0.4, 1.4) if rng.random() < 0.5 else 0.0
    noise = rng.uniform(0, 0.03) if rng.random() < 0.5 else 0.0
    grey, quality = rng.random() < 0.35, (int(rng.integers(45, 96)) if rng.random() < 0.35 else 0)
    play = rng.uniform(0.08, 0.22) if rng.random() < 0.25 else rng.uniform(0, 0.06)  # exposure, from image to image

    def shoot(image: np.ndarray, r: Rng) -> np.ndarray:
        hw = image.shape[:2]
        light = np.full(hw, np.exp(r.normal(0, play)), np.float32)
        if slope or vignette:
            x, y = coordinates(hw, direction + r.normal(0, 0.3), (0, 0))
            light += slope * r.uniform(0.7, 1.2) * x / 128
            light *= 1 - np.clip(vignette * (x * x + y * y) / 32768, 0, 0.9)
        if clouds:
            light += clouds * fractal_noise(r, hw, cells=3, octaves=1)
        image = image * light[..., None]
        if blur:
            image = cv2.GaussianBlur(image, (0, 0), blur)
        if noise:
            image = image + np.float32(noise) * white_noise(r, hw)[..., None]
        if grey:
            image = cv2.transform(image.astype(np.float32), np.full((3, 3), 1 / 3, np.float32))
        shot = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
        if quality:
            encoded = cv2.imencode(".jpg", shot, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            shot = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        return shot

    return shoot


#: family -> (maker of its painter, words for it, whether its pattern can break)
FAMILIES: dict[str, tuple[PainterFamily, tuple[str, ...], bool]] = {
    "clouds": (fields.field_painter(fields.clouds), ("surface", "texture", "stone"), False),
    "cells": (fields.field_painter(fields.cells), ("cellular texture", "pebble surface", "mosaic"), False),
    "fabric": (fields.field_painter(fields.fabric), ("fabric", "textile", "cloth", "carpet", "mesh"), False),
    "wood": (fields.field_painter(fields.wood), ("wood", "wooden board", "plank"), False),
    "brushed": (fields.field_painter(fields.brushed), ("metal", "steel", "brushed metal", "metal sheet"), False),
    "concrete": (fields.field_painter(fields.concrete), ("concrete", "wall", "asphalt", "cast part"), False),
    "speckle": (fields.field_painter(fields.speckle), ("granite", "rough surface", "paper"), False),
    "smooth": (fields.field_painter(fields.smooth), ("plastic", "ceramic", "glass", "painted surface", "film"), False),
    "leather": (fields.field_painter(fields.leather), ("leather", "rubber"), False),
    "stripes": (fields.field_painter(fields.stripes), ("striped surface", "corrugated sheet"), False),
    "two_materials": (patterns.two_materials, ("part", "strip", "edge", "assembly"), False),
    "grid": (patterns.grid, ("tile", "grid", "panel", "solar cell", "brick wall"), True),
    "dots": (patterns.dots, ("perforated sheet", "dotted pattern", "pattern"), True),
    "circuit": (patterns.circuit, ("circuit board", "chip"), True),
    "object": (patterns.object, ("cap", "nut", "pill", "washer", "gear", "metal part", "object"), True),
    "marble": (fields.field_painter(fields.marble), ("marble",), False),
    "rings": (fields.field_painter(fields.rings), ("turned metal", "disc"), False),
    "herringbone": (patterns.herringbone, ("parquet", "herringbone pattern"), True),
    "hexagons": (patterns.hexagons, ("honeycomb", "hexagon tile"), True),
}

#: Never drawn for training.
HELD_OUT = ("marble", "rings", "herringbone", "hexagons")
