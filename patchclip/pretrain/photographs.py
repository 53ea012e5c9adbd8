"""Products made of photographs: textures such as the free ones that come with games, and objects cut out of theirs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from itertools import compress
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..errors import ImageError
from ..images.load import load_image
from ..synthetic.drawing import Rng, Size, fractal_noise, random_colour
from ..synthetic.fields import Painter
from ..synthetic.surfaces import Surface, finish_surface

_ENDINGS = (".png", ".jpg", ".jpeg", ".tga", ".dds", ".webp")
#: What such names stand for that is no flawless surface in ordinary light: maps for shading, glows, skies, plants,
#: doors, signs, damage.
_NO_SURFACE = re.compile(
    r"_(nm|sm|gm|norm|spec|gloss|glow|bump|local|add|blend|fx|pants|shirt|reflect|alpha|dm|c)\b|shader|sky|skies|light"
    r"|(?:[_-]|\d)(n|s|z)\b|[_-](h|hm|sc|nor|lf|rt|ft|bk|up|dn)\b|normals|mask"
    r"|sfx|flare|pics|anim|liquid|nebul|env|fire|flame|lava|water|slime|grate|terrain_data|levelshot|gfx|door|window"
    r"|sign|banner|vehic|tree|plant|bush|common|logo|poster|tutorial|document|portal|flags|items|skin|race|proto|fog"
    r"|dotproduct|decal|icons|hud|gui|cursor|particle|skull|broke|blood|bullet|crack|hole|dent|damage",
    re.IGNORECASE,
)
#: Words in a file's name -> names of the product; the first that occurs.
_NAMES = {
    "metal|steel|iron|tin|rust|plate": ("metal", "steel", "metal sheet"),
    "wood|plank|crate|parquet": ("wood", "wooden board", "plank"),
    "brick|block": ("brick wall", "wall"),
    "conc|cement|asphalt|street|road": ("concrete", "asphalt"),
    "rock|stone|marb|cobble|gravel": ("stone", "rock"),
    "cloth|carpet|fabric|rug|canvas": ("fabric", "textile", "carpet"),
    "tile|floor": ("tile", "floor"),
    "wall|plaster|stucco": ("wall", "plaster"),
    "sand|dirt|ground|mud|grass|snow": ("ground", "rough surface"),
}
_SHORTEST = 200  # pixels
#: Shares of its rectangle that a cut-out object fills.
_OBJECT_FILLS = (0.25, 0.9)


def find_photographs(folders: Sequence[Path]) -> list[Path]:
    """The images in these folders that show a surface (opaque, not flat, no parts on one colour) or a cut-out object.

    Raises:
        FileNotFoundError: a folder holds none.
    """
    found = []
    for folder in folders:
        paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _ENDINGS]
        surfaces = [path for path in paths if not _NO_SURFACE.search("/".join(path.parts[-2:]))]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            usable = list(compress(surfaces, threads.map(_shows_something, surfaces)))
        if not usable:
            raise FileNotFoundError(
                f"no photograph of a surface or an object in {folder}: of {len(paths)} images "
                f"({', '.join(_ENDINGS)}) none is usable and at least {_SHORTEST} px wide and high"
            )
        found += usable
    return found


def photographed(path: Path, rng: Rng) -> Surface:
    """A product whose images show the cut-out object of one photograph, or parts of its surface: anywhere where it
    repeats, else the same part."""
    if _shows_cut_out(path):
        word = re.sub(r"[\W\d_]+", " ", path.stem.lower()).strip() or "object"
        return finish_surface(rng, "object", (word, "object"), False, _object_painter(path, rng))
    words = next((names for key, names in _NAMES.items() if re.search(key, path.stem, re.IGNORECASE)), ("surface",))
    share, place = rng.uniform(0.5, 1), rng.random(2)
    repeats = _repeats(path)

    def paint(r: Rng, flaw: Rng | None, hw: Size) -> np.ndarray:
        image = _read(path)
        side = max(_SHORTEST, share * min(image.shape[:2]))
        part = np.minimum(np.array(hw) * side / max(hw), image.shape[:2]).astype(int)
        if repeats:
            image = np.roll(image, r.integers(0, image.shape[:2]), (0, 1))
            row, column = 0, 0
        else:
            row, column = np.clip(place * (image.shape[:2] - part) + r.integers(-3, 4, 2), 0, image.shape[:2] - part)
        image = image[int(row) : int(row) + part[0], int(column) : int(column) + part[1]]
        shrink = cv2.INTER_AREA if part[0] > hw[0] else cv2.INTER_LINEAR
        return cv2.resize(image, (hw[1], hw[0]), interpolation=shrink).astype(np.float32) / 255

    return finish_surface(rng, "photograph" if repeats else "object", words, False, paint)


def _object_painter(path: Path, rng: Rng) -> Painter:
    """The object on a plain or cloudy ground: in one place and posture, give or take, or turned anyhow."""
    ground, clouds = random_colour(rng), rng.uniform(0, 0.06)
    size, posture, place = rng.uniform(0.6, 0.95), rng.uniform(0, 360), rng.uniform(-0.1, 0.1, 2)
    shift, turn = rng.uniform(0, 0.03), (180 if rng.random() < 0.2 else rng.uniform(0, 3))

    def paint(r: Rng, flaw: Rng | None, hw: Size) -> np.ndarray:
        cut_out, short = _cut_out(path), min(hw)
        scale = size * short / max(cut_out.shape[:2])
        small = cv2.resize(cut_out, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        spot = np.array([hw[1], hw[0]]) / 2 + (place + r.uniform(-shift, shift, 2)) * short
        move = cv2.getRotationMatrix2D((small.shape[1] / 2, small.shape[0] / 2), posture + r.uniform(-turn, turn), 1)
        move[:, 2] += spot - (small.shape[1] / 2, small.shape[0] / 2)
        placed = cv2.warpAffine(small, move, (hw[1], hw[0])).astype(np.float32) / 255
        around = ground + np.float32(clouds) * fractal_noise(r, hw, cells=4, octaves=3)[..., None]
        return around * (1 - placed[..., 3:]) + placed[..., :3]

    return paint


@lru_cache(maxsize=16)
def _cut_out(path: Path) -> np.ndarray:
    """(H, W, 4) uint8, colours times opacity: an object in one piece with nothing around it, cropped to it.

    Empty where the image shows no such object.
    """
    nothing = np.empty((0, 0, 4), np.uint8)
    with Image.open(path) as image:
        if not image.has_transparency_data:
            return nothing
        pixels = np.array(image.convert("RGBA"))
    opacity = pixels[..., 3]
    if np.mean((opacity > 20) & (opacity < 235)) > 0.1 or not opacity.any():  # something else is kept there
        return nothing
    _, _, boxes, _ = cv2.connectedComponentsWithStats((opacity > 127).astype(np.uint8))
    left, top, width, height, area = max(boxes[1:], key=lambda box: box[cv2.CC_STAT_AREA], default=boxes[0])
    low, high = _OBJECT_FILLS
    if area < 0.9 * np.sum(opacity > 127) or not low < area / (width * height) < high or width + height < _SHORTEST:
        return nothing
    pixels = pixels[top : top + height, left : left + width]
    return np.dstack([(pixels[..., :3] * (pixels[..., 3:] / 255)).round().astype(np.uint8), pixels[..., 3]])


@lru_cache(maxsize=16)
def _read(path: Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    return load_image(path)


def _shows_something(path: Path) -> bool:
    try:
        image = load_image(path)
    except ImageError:
        return False
    if _cut_out(path).size:
        return True
    if min(image.shape[:2]) < _SHORTEST or max(image.shape[:2]) > 2.1 * min(image.shape[:2]):
        return False
    grey = image.mean(2).astype(np.uint8)
    commonest = np.bincount(grey.ravel(), minlength=256).max() / grey.size
    return bool(image.std((0, 1)).mean() > 4 and commonest < 0.35)


@cache
def _shows_cut_out(path: Path) -> bool:
    return _cut_out(path).size > 0


@cache
def _repeats(path: Path) -> bool:
    """Whether its borders fit together and no part of it is a place of its own."""
    values = _read(path).astype(np.float32)
    seams = (
        np.abs(values[0] - values[-1]).mean() / (np.abs(np.diff(values, axis=0)).mean() + 1),
        np.abs(values[:, 0] - values[:, -1]).mean() / (np.abs(np.diff(values, axis=1)).mean() + 1),
    )
    coarse = cv2.GaussianBlur(cv2.resize(values, (32, 32), interpolation=cv2.INTER_AREA).mean(2), (0, 0), 4)
    return bool(max(seams) < 2 and coarse.std() < 0.25 * values.std())
