"""A font that has the letters of a label: Pillow's own font has those of ASCII."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from PIL import ImageFont

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

#: Looked for among the fonts of the system, those of most scripts first; ".ttc" and ".otf" have Chinese, Japanese and
#: Korean.
_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "DroidSansFallback.ttf",
    "msyh.ttc",
    "simsun.ttc",
    "msgothic.ttc",
    "malgun.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc",
    "Nirmala.ttf",
    "seguisym.ttf",
    "unifont.ttf",
    "unifont.otf",
)

#: A code point that is no character: its picture is that of a missing one.
_NO_CHARACTER = "\U0010ffff"


def choose_font(text: str, size: int) -> tuple[Font, str]:
    r"""The first font with all letters of a text, of Pillow's, matplotlib's if it is installed, and the system's.

    Returns:
        font: the one that lacks the fewest where none has all.
        text: as it is to be drawn, with an escape such as `\u5212` for each letter that the font lacks; a warning says
            so once for the same letters.
    """
    best: Font | None = None
    fewest = text
    for font in _fonts(size):
        missing = "".join(dict.fromkeys(letter for letter in text if not _has_letter(font, letter)))
        if not missing:
            return font, text
        if best is None or len(missing) < len(fewest):
            best, fewest = font, missing
    _warn_of_missing(fewest)
    drawn = text
    for letter in fewest:
        drawn = drawn.replace(letter, letter.encode("unicode_escape").decode("ascii"))
    return best or ImageFont.load_default(size), drawn


def _fonts(size: int) -> Iterator[Font]:
    yield _default_font(size)
    for name in (*_matplotlib_fonts(), *_SYSTEM_FONTS):
        font = _load_font(name, size)
        if font is not None:
            yield font


@lru_cache(maxsize=32)
def _default_font(size: int) -> Font:
    return ImageFont.load_default(size)


@lru_cache
def _matplotlib_fonts() -> tuple[str, ...]:
    """DejaVu Sans of matplotlib, which is not imported."""
    spec = find_spec("matplotlib")
    folders = spec.submodule_search_locations if spec else None
    return tuple(str(Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")) for folder in folders or ())


@lru_cache(maxsize=256)
def _load_font(name: str, size: int) -> Font | None:
    """A font by its path, or by its name among those of the system; None where there is none."""
    try:
        return ImageFont.truetype(name, size)
    except (OSError, ImportError):
        return None


@lru_cache(maxsize=4096)
def _has_letter(font: Font, letter: str) -> bool:
    """Whether a font draws a letter otherwise than one that is missing."""
    if letter.isspace():
        return True
    try:
        drawn, missing = font.getmask(letter), font.getmask(_NO_CHARACTER)
    except UnicodeError:  # of a font of bitmaps
        return letter.isascii()
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)


@lru_cache(maxsize=256)
def _warn_of_missing(letters: str) -> None:
    shown = " ".join(f"{letter} (U+{ord(letter):04X})" if letter.isprintable() else ascii(letter) for letter in letters)
    message = f"no font that was found has {shown}: labels show codes instead; install one, such as Noto Sans CJK"
    warnings.warn(message, stacklevel=4)
