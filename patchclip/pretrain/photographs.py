"""Products made of photographed textures, such as the free ones that come with games: real grain, paint and seams."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ..errors import ImageError
from ..image import load_image
from ..synthetic.drawing import Rng, Size
from ..synthetic.surfaces import Surface, finish_surface

_ENDINGS = (".png", ".jpg", ".jpeg", ".tga", ".dds")
#: What such names stand for that is no flawless surface in ordinary light: maps for shading, glows, skies, plants,
#: doors, signs, damage.
_NO_SURFACE = re.compile(
    r"_(nm|sm|gm|norm|spec|gloss|glow|bump|local|add|blend|fx|pants|shirt|reflect|alpha|dm|c)\b|shader|sky|skies|light"
    r"|sfx|flare|pics|anim|liquid|nebul|env|fire|flame|lava|water|slime|grate|terrain_data|levelshot|gfx|door|window"
    r"|sign|banner|vehic|tree|plant|bush|common|logo|poster|tutorial|document|portal|flags|items|skin|race|proto|fog"
    r"|dotproduct|decal|skull|broke|blood|bullet|crack|hole|dent|damage",
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


def find_photographs(folders: Sequence[Path]) -> list[Path]:
    """The textures in these folders that show a surface: opaque, not flat, no cut-out parts on one colour.

    Raises:
        FileNotFoundError: none of the folders holds one.
    """
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in _ENDINGS]
    found = [path for path in paths if not _NO_SURFACE.search("/".join(path.parts[-2:])) and _shows_a_surface(path)]
    if not found:
        raise FileNotFoundError(f"no texture of at least {_SHORTEST} px in {', '.join(map(str, folders))}")
    return found


def photographed(path: Path, rng: Rng) -> Surface:
    """A product whose images are parts of one photograph: anywhere where it repeats, else the same part."""
    words = next((names for key, names in _NAMES.items() if re.search(key, path.stem, re.IGNORECASE)), ("surface",))
    share, place = rng.uniform(0.5, 1), rng.random(2)
    repeats = _repeats(_read(path))

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


@lru_cache(maxsize=16)
def _read(path: Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    return load_image(path)


def _shows_a_surface(path: Path) -> bool:
    try:
        image = load_image(path)
    except ImageError:
        return False
    if min(image.shape[:2]) < _SHORTEST or max(image.shape[:2]) > 2.1 * min(image.shape[:2]):
        return False
    grey = image.mean(2).astype(np.uint8)
    commonest = np.bincount(grey.ravel(), minlength=256).max() / grey.size
    return bool(image.std((0, 1)).mean() > 4 and commonest < 0.35)


def _repeats(image: np.ndarray) -> bool:
    """Whether its borders fit together and no part of it is a place of its own."""
    values = image.astype(np.float32)
    seams = (
        np.abs(values[0] - values[-1]).mean() / (np.abs(np.diff(values, axis=0)).mean() + 1),
        np.abs(values[:, 0] - values[:, -1]).mean() / (np.abs(np.diff(values, axis=1)).mean() + 1),
    )
    coarse = cv2.GaussianBlur(cv2.resize(values, (32, 32), interpolation=cv2.INTER_AREA).mean(2), (0, 0), 4)
    return bool(max(seams) < 2 and coarse.std() < 0.25 * values.std())
