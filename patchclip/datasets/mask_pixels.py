"""The values of a mask -> which pixels are defective.

Black is background. The other values are one of

- labels: classes counted from 1, or one value for the defect; every value but 0 is defective,
- white with soft edges (resized, blurred, from a lossy format): cut at half of the highest value,
- neither: then that is named.
"""

from __future__ import annotations

import cv2
import numpy as np

#: Classes are counted up to this value; in a JPEG such values are noise.
MAX_CLASS = 32

LEFT_OUT = "left out of the pixel metrics"

#: In a mask of fewer pixels every value but 0 counts: nothing can be said of edges and areas.
_MIN_JUDGED_PX = 64

#: Where low values, or greys, are more than so many, areas of one value tell classes from soft edges.
_MAX_CLASS_LEVELS = 8

#: Low values beside one high one are noise where they cover less than this share of what it covers.
_MAX_NOISE_SHARE = 0.05

#: A value between black and half is an edge, or a class where areas have it; below this share of the highest value it
#: is the noise of a lossy format.
_NOISE_SHARE = 0.05

#: A piece of grey without a white core is reported from this share of all that is marked on.
_MIN_LOST_SHARE = 0.02

#: A file with more of its pixels than this between black and white is a picture, or a map of probabilities.
_MAX_MIDDLE_SHARE = 0.1

#: A mask that marks more than this is taken for an inverted one.
_MAX_COVERAGE = 0.9


def to_mask(values: np.ndarray, *, is_lossy: bool) -> tuple[np.ndarray | None, str | None]:
    """Decide by the values alone which pixels are defective.

    Args:
        values: (H, W) bool, integers or floats; 0 is background.
        is_lossy: of a JPEG, which holds no classes.

    Returns:
        mask: (H, W) bool; None where the values are no mask's, or look inverted: more than 90 % but not all is marked,
            or the whole border and more than half.
        problem: what is unusual, else None.
    """
    mask, problem = _mark(values, is_lossy=is_lossy)
    if mask is not None and _looks_inverted(mask):
        inverted = f"mask marks {mask.mean():.0%} of the image, perhaps inverted, {LEFT_OUT}"
        return None, "; ".join(filter(None, (problem, inverted)))
    return mask, problem


def _mark(values: np.ndarray, *, is_lossy: bool) -> tuple[np.ndarray | None, str | None]:
    """As `to_mask`, inverted or not."""
    if values.dtype == bool or values.size < _MIN_JUDGED_PX:
        return values > 0, None
    if not np.isfinite(values).all():
        return None, f"mask with NaN or infinite values, {LEFT_OUT}"
    levels = np.unique(values)
    top = levels[-1]
    if levels[0] < 0:
        mask, problem = _mark(np.maximum(values, 0), is_lossy=is_lossy)
        return mask, f"mask with values below 0, taken for background{'; ' + problem if problem else ''}"
    if is_lossy and top <= MAX_CLASS:
        return np.zeros(values.shape, bool), None
    is_integer = np.issubdtype(values.dtype, np.integer) or (levels == levels.round()).all()
    if is_integer and top <= MAX_CLASS and not _is_soft(values, levels):
        return values > 0, None
    if len(levels) == 2:
        return values == top, None
    low = levels[(levels > 0) & (levels <= MAX_CLASS)]
    if is_integer and not is_lossy and levels[0] == 0 and len(levels) == len(low) + 2:
        return _classes_and_one_value(values, int(low[-1]), int(top))
    return _cut(values, levels)


def _looks_inverted(mask: np.ndarray) -> bool:
    if mask.size < _MIN_JUDGED_PX or mask.all():
        return False
    coverage = mask.mean()
    edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    marks_border = all(edge.all() for edge in edges)
    return bool(coverage > _MAX_COVERAGE or (marks_border and coverage > 0.5))


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
        return None, f"mask is a picture or a map, {middle.mean():.0%} lies between black and white, {LEFT_OUT}"
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
    """(H, W) bool: pixels of `among` whose 3 x 3 neighbours all have the same value; edges have none."""
    exact = values.astype(np.float64)
    same = cv2.dilate(exact, np.ones((3, 3))) == cv2.erode(exact, np.ones((3, 3)))
    return same & among


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
