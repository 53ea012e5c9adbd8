"""A file of a mask, in any of the ways that people save one -> its defective pixels. Colours count, not indices."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ..images.tiff import is_tiff
from .mask_pixels import LEFT_OUT, MAX_CLASS, to_mask

if TYPE_CHECKING:
    from tifffile import TiffPage

#: Of `IMAGE_SUFFIXES`, as Pillow calls them.
MASK_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")

#: More colours are those of a picture with soft edges, not of classes.
_MAX_COLOURS = 32

#: Channels that differ by more make a colour.
_MIN_COLOUR_SPREAD = 64

#: EXIF's and TIFF's number of the tag.
_ORIENTATION = 274

# photometric interpretations of TIFF
_WHITE_IS_ZERO, _PALETTE = 0, 3


class _File(NamedTuple):
    """values: (H, W), 0 is background; pages: how many the file has; is_lossy: a JPEG; orientation: as EXIF has it."""

    values: np.ndarray
    pages: int
    is_lossy: bool = False
    orientation: int = 1


def read_mask_file(path: Path) -> tuple[np.ndarray | None, list[str]]:
    """The defective pixels of a mask: upright, first page.

    Returns:
        mask: (H, W) bool; None where it cannot be used: it cannot be read, it is a picture and no mask, or it looks
            inverted (`to_mask`).
        problems: what is unusual, one sentence each.
    """
    try:
        file = _read_values(path)
    except Exception as error:  # Pillow's plug-ins and tifffile raise a dozen kinds
        return None, [f"mask unreadable, {LEFT_OUT}: {path} ({error})"]
    problems = []
    if file.pages > 1:
        problems.append(f"mask of {file.pages} pages, the first is read: {path}")
    mask, problem = to_mask(file.values, is_lossy=file.is_lossy)
    if problem:
        problems.append(f"{problem}: {path}")
    if mask is None:
        return None, problems
    return _turn_upright(mask, file.orientation), problems


def _turn_upright(mask: np.ndarray, orientation: int) -> np.ndarray:
    if orientation == 1:
        return mask
    image = Image.fromarray(mask)
    image.getexif()[_ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


# --- file -> values -----------------------------------------------------------------------------------------------


def _read_values(path: Path) -> _File:
    with path.open("rb") as file:  # Pillow turns an uncompressed TIFF wrongly that it opens by its path
        if is_tiff(file.read(4)):
            deep = _read_tiff(file)
            if deep is not None:
                return deep
        file.seek(0)
        with Image.open(file, formats=MASK_FORMATS) as opened:
            pages = getattr(opened, "n_frames", 1)
            is_lossy = opened.format in ("JPEG", "MPO")
            upright = ImageOps.exif_transpose(opened)
            return _File(mask_values(upright), pages, is_lossy)


def _read_tiff(file: IO[bytes]) -> _File | None:
    """By tifffile, as Pillow reads palettes, planes, floats and more than 8 bits wrongly or not; None for others."""
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as opened:
        page = opened.pages[0].aspage()
        is_plain = page.bitspersample in (1, 8) and page.sampleformat == 1 and page.planarconfig == 1
        if is_plain and page.photometric != _PALETTE:
            return None
        planes = page.asarray(squeeze=False, maxworkers=1)  # (planes, 1, H, W, channels)
        samples = np.moveaxis(planes[:, 0], 0, -2).reshape(*planes.shape[2:4], -1)  # (H, W, S)
        if samples.dtype.kind not in "biuf":
            raise ValueError(f"samples of {samples.dtype}")
        orientation = int(page.tags.valueof(_ORIENTATION, default=1))
        return _File(_values_of_samples(samples, page), len(opened.pages), orientation=orientation)


def _values_of_samples(samples: np.ndarray, page: TiffPage) -> np.ndarray:
    """(H, W, S) of a page -> (H, W), 0 is background."""
    if page.photometric == _PALETTE and page.colormap is not None:
        indices = samples[..., 0]
        palette = page.colormap if page.colormap.max() <= 255 else page.colormap >> 8  # (3, N)
        colours = palette.astype(np.uint8)[:, indices].transpose(1, 2, 0)
        return indices if _indices_tell(indices, colours) else _values_of_colours(colours)
    channels = 3 if samples.shape[2] >= 3 else 1
    colours = samples[..., :channels]
    if page.photometric == _WHITE_IS_ZERO:
        white = 1 if samples.dtype.kind == "f" else (1 << int(page.bitspersample)) - 1
        colours = white - colours
    if samples.dtype == np.uint8 and channels == 3:
        return _values_of_colours(colours)
    return colours.max(2)


def mask_values(image: Image.Image) -> np.ndarray:
    """(H, W) bool, integers or floats; 0 is background."""
    if image.mode == "P":
        indices = np.asarray(image)
        colours = np.asarray(image.convert("RGB"))
        if _indices_tell(indices, colours):
            return indices
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
        return np.asarray(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or (image.mode == "P" and "transparency" in image.info):
        rgba = np.asarray(image.convert("RGBA"))
        return _values_with_alpha(rgba[..., :3], rgba[..., 3])
    return _values_of_colours(np.asarray(image.convert("RGB")))


def _indices_tell(indices: np.ndarray, colours: np.ndarray) -> bool:
    """Whether a palette image is one of classes whose indices say more than its colours do.

    So where all its colours are the same, and where black is 0, and 255 (ignore) stands beside classes in colour.
    """
    used = np.unique(indices)
    if (colours == colours[0, 0]).all():
        return len(used) > 1
    black = np.unique(indices[colours.max(2) <= MAX_CLASS])
    spread = colours.max(2) - colours.min(2)
    has_ignore = len(used) > 2 and used[-1] == 255 and used[-2] <= MAX_CLASS
    return bool(has_ignore and black.tolist() == [0] and spread.max() > _MIN_COLOUR_SPREAD)


def _values_with_alpha(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """What is transparent is background; where all that is opaque has one colour, it is the defect.

    Alpha that is opaque or transparent everywhere says nothing.
    """
    opaque = alpha > 127
    if opaque.all() or not opaque.any():
        return _values_of_colours(colours)
    painted = colours[opaque]
    if (painted == painted[0]).all():
        return alpha
    values = _values_of_colours(colours)
    return (values * (alpha / 255)).round().astype(values.dtype)


def _values_of_colours(colours: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) uint8: the highest channel; where colours are classes 255 for all but black."""
    highest = colours.max(2)
    spread = highest - colours.min(2)
    if spread.max() > _MIN_COLOUR_SPREAD:
        packed = colours.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
        is_black = highest <= MAX_CLASS
        if is_black.any() and len(np.unique(packed)) <= _MAX_COLOURS:
            return np.where(is_black, 0, 255).astype(np.uint8)
    return highest
