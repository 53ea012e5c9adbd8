"""A file of a mask, in any of the ways that people save one -> which pixels are defective.

By colour: black is background. The values of a file are one of

- labels: classes counted from 1, or one value for the defect; every value but 0 is defective,
- black and white with soft edges (resized, blurred, from a lossy format): cut at half of the highest value,
- neither: then the file is named as a problem.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from ..images.tiff import is_tiff

if TYPE_CHECKING:
    from tifffile import TiffPage

#: Of `IMAGE_SUFFIXES`, as Pillow calls them.
MASK_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")

#: In a mask of fewer pixels every value but 0 counts: nothing can be said of edges and areas.
_MIN_JUDGED_PX = 64

#: Classes are counted up to this value; in a JPEG such values are noise.
_MAX_CLASS = 32

#: Where low values, or greys, are more than so many, areas of one value tell classes from soft edges.
_MAX_CLASS_LEVELS = 8

#: Low values beside one high one are noise where they cover less than this share of what it covers.
_MAX_NOISE_SHARE = 0.05

#: More colours are those of a picture with soft edges, not of classes.
_MAX_COLOURS = 32

#: Channels that differ by more make a colour.
_MIN_COLOUR_SPREAD = 64

#: A value between black and half is an edge, or a class where areas have it; below this share of the highest value it
#: is the noise of a lossy format.
_NOISE_SHARE = 0.05

#: A piece of grey without a white core is reported from this share of all that is marked on.
_MIN_LOST_SHARE = 0.02

#: A file with more of its pixels than this between black and white is a picture, or a map of probabilities.
_MAX_MIDDLE_SHARE = 0.1

#: A mask that marks more than this is taken for an inverted one.
_MAX_COVERAGE = 0.9

_LEFT_OUT = "left out of the pixel metrics"


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
            inverted (it marks more than 90 % but not all, or its whole border and more than half).
        problems: what is unusual, one sentence each.
    """
    try:
        file = _read_values(path)
    except Exception as error:  # Pillow's plug-ins and tifffile raise a dozen kinds
        return None, [f"mask unreadable, {_LEFT_OUT}: {path} ({error})"]
    problems = []
    if file.pages > 1:
        problems.append(f"mask of {file.pages} pages, the first is read: {path}")
    mask, problem = _to_mask(file.values, is_lossy=file.is_lossy)
    if problem:
        problems.append(f"{problem}: {path}")
    if mask is None:
        return None, problems
    if _is_inverted(mask):
        problems.append(f"mask marks {mask.mean():.0%} of the image, perhaps inverted, {_LEFT_OUT}: {path}")
        return None, problems
    return _turn_upright(mask, file.orientation), problems


def _turn_upright(mask: np.ndarray, orientation: int) -> np.ndarray:
    if orientation == 1:
        return mask
    image = Image.fromarray(mask)
    image.getexif()[_ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def _is_inverted(mask: np.ndarray) -> bool:
    if mask.size < _MIN_JUDGED_PX or mask.all():
        return False
    coverage = mask.mean()
    edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    marks_border = all(edge.all() for edge in edges)
    return bool(coverage > _MAX_COVERAGE or (marks_border and coverage > 0.5))


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
            return _File(_values_of(upright), pages, is_lossy)


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


def _values_of(image: Image.Image) -> np.ndarray:
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
    black = np.unique(indices[colours.max(2) <= _MAX_CLASS])
    spread = colours.max(2) - colours.min(2)
    has_ignore = len(used) > 2 and used[-1] == 255 and used[-2] <= _MAX_CLASS
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
        is_black = highest <= _MAX_CLASS
        if is_black.any() and len(np.unique(packed)) <= _MAX_COLOURS:
            return np.where(is_black, 0, 255).astype(np.uint8)
    return highest


# --- values -> mask -----------------------------------------------------------------------------------------------


def _to_mask(values: np.ndarray, *, is_lossy: bool) -> tuple[np.ndarray | None, str | None]:
    """(H, W) bool, and what is unusual; None where the values are no mask's."""
    if values.dtype == bool or values.size < _MIN_JUDGED_PX:
        return values > 0, None
    if not np.isfinite(values).all():
        return None, f"mask with NaN or infinite values, {_LEFT_OUT}"
    levels = np.unique(values)
    top = levels[-1]
    if levels[0] < 0:
        mask, problem = _to_mask(np.maximum(values, 0), is_lossy=is_lossy)
        return mask, f"mask with values below 0, taken for background{'; ' + problem if problem else ''}"
    if is_lossy and top <= _MAX_CLASS:
        return np.zeros(values.shape, bool), None
    is_integer = np.issubdtype(values.dtype, np.integer) or (levels == levels.round()).all()
    if is_integer and top <= _MAX_CLASS and not _is_soft(values, levels):
        return values > 0, None
    if len(levels) == 2:
        return values == top, None
    low = levels[(levels > 0) & (levels <= _MAX_CLASS)]
    if is_integer and not is_lossy and levels[0] == 0 and len(levels) == len(low) + 2:
        return _classes_and_one_value(values, int(low[-1]), int(top))
    return _cut(values, levels)


def _is_soft(values: np.ndarray, levels: np.ndarray) -> bool:
    """Whether low values are a faint ramp and not classes: many, and hardly any areas of one value."""
    marked = values > 0
    return len(levels) > _MAX_CLASS_LEVELS and _flat_areas(values, marked).sum() < 0.25 * marked.sum()


def _classes_and_one_value(values: np.ndarray, highest_class: int, top: int) -> tuple[np.ndarray, str]:
    """Low values and one high one: classes, of which the highest value of the format means "ignore"; or noise."""
    at_top = values == top
    classes = (values > 0) & ~at_top
    named = f"mask with values up to {highest_class} and {top}"
    if classes.sum() < _MAX_NOISE_SHARE * at_top.sum():
        return at_top, f"{named}, the low ones are rare and count as noise"
    if top in (255, 65535):
        return classes, f"{named}, which counts as 'ignore' and not as defective"
    return values > 0, f"{named}, which all count as defective"


def _cut(values: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray | None, str | None]:
    """Black and white with soft edges at half; grey areas are classes, and grey pieces are named."""
    top = float(levels[-1])
    above_half = values > top / 2
    grey = (values > _NOISE_SHARE * top) & ~above_half
    if len(levels) <= _MAX_CLASS_LEVELS:
        edges = _widen(above_half, 5) & _widen(values == levels[0], 5)
        inner = grey & ~edges
    else:
        inner = _flat_areas(values, grey)
    if inner.sum() > 0.5 * grey.sum():
        classes = np.unique(values[inner])
        mask = above_half | np.isin(values, classes)
        shown = ", ".join(f"{value:g}" for value in classes[:5])
        return mask, f"mask with areas of grey (values {shown}), which count as defective"
    middle = (values > 0.25 * top) & (values < 0.75 * top)
    marked = values > _NOISE_SHARE * top
    if middle.mean() > _MAX_MIDDLE_SHARE and middle.sum() > 0.5 * marked.sum():
        return None, f"mask is a picture or a map, {middle.mean():.0%} lies between black and white, {_LEFT_OUT}"
    lost = _pieces_without_core(values > 0.2 * top, above_half)
    if lost.sum() > _MIN_LOST_SHARE * marked.sum():
        return above_half, f"mask with pieces of grey below half, not counted ({int(lost.sum())} pixels)"
    full = _full_scale(values, top)
    if top < full / 2:
        return above_half, f"mask is faint, its highest value is {top:g} of {full:g}, cut at half of it"
    return above_half, None


def _widen(mask: np.ndarray, side: int) -> np.ndarray:
    """(H, W) bool: every pixel with one of `mask` in the square of this side around it."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side))) > 0


def _flat_areas(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of `among` above 0 whose 3 x 3 neighbours all have the same value; edges have none."""
    exact = values.astype(np.float64)
    same = cv2.dilate(exact, np.ones((3, 3))) == cv2.erode(exact, np.ones((3, 3)))
    return same & among & (values > 0)


def _pieces_without_core(marked: np.ndarray, core: np.ndarray) -> np.ndarray:
    """(H, W) bool: the connected pieces of `marked` that have no pixel of `core`."""
    count, labels = cv2.connectedComponents(marked.astype(np.uint8))
    has_core = np.zeros(count, bool)
    has_core[np.unique(labels[core])] = True
    has_core[0] = True  # background
    return ~has_core[labels]


def _full_scale(values: np.ndarray, top: float) -> float:
    """The value of white: the smallest of the usual ones that is not below `top`."""
    if np.issubdtype(values.dtype, np.floating) and top <= 1:
        return 1.0
    return 255.0 if top <= 255 else 65535.0
