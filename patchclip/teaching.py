"""Images of known defects -> what `Detector.teach` keeps: vectors of the defect in each.

An example is an image, whose strongest region is taken to be the defect; or (image, mask), with a mask of the upright
image's size: an array (H, W), or uint8 (H, W, 3) or (H, W, 4), a PIL image, or the path of a file or of several; or
(image, box), with left, top, right and bottom in pixels. An image without a region above the threshold is named in a
warning and left out. Copies of an example count once, flipped ones too where the defect is marked. Kinds are shared by
all classes. Every example is seen flipped too, which is as good as some more of them.

A vector is made of the network's features, which are not compared with the banks: the heatmap only weighs them. So a
refit forgets no kinds, but one on another product changes which places count. Files of other networks are refused.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from PIL import Image, ImageOps

from .datasets.mask_files import mask_values
from .datasets.mask_pixels import LEFT_OUT, to_mask
from .datasets.masks import read_mask
from .datasets.types import Sample
from .features import FeatureExtractor
from .images.load import ImageLike, describe, fingerprint, list_images, snapshot
from .images.names import image_name
from .images.plan import Prepared
from .inference import measure
from .printable import is_name
from .progress import progress_bar
from .scoring.kinds import VIEWS, Examples, describe_regions, flip
from .scoring.memory import Fitted
from .scoring.regions import find_regions
from .threshold import Threshold

#: Where a defect is: a mask of its image's size, the paths of such, or a box (left, top, right, bottom) in pixels.
MaskOrBox: TypeAlias = "np.ndarray | Image.Image | str | os.PathLike[str] | Sequence[str] | Sequence[float]"

#: What `Detector.teach` takes: kind -> images of it, or (image, mask) or (image, box).
DefectExamples: TypeAlias = "Mapping[str, Sequence[ImageLike | tuple[ImageLike, MaskOrBox]]]"

#: A warning names so many examples at most.
_MOST_NAMED = 10

#: Squared distance of two vectors of unit length of the same region, at the most: by rounding alone.
_MAX_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Example:
    """One image of a known defect.

    Attributes:
        name: for messages.
        marked: the mask or the box; None without.
    """

    kind: str
    name: str
    image: Any
    marked: Any


def teach(
    extractor: FeatureExtractor,
    fitted: Fitted | None,
    threshold: Threshold,
    examples: DefectExamples,
    *,
    earlier: Examples | None,
    progress: bool,
) -> Examples | None:
    """See `Detector.teach`.

    Args:
        earlier: examples to add to; None for none.

    Returns:
        None where nothing is left to compare with: no kinds, and no earlier ones.
    """
    if fitted is None:
        raise ValueError("teach needs a fitted detector, which finds the defect in an example: call fit first")
    kinds = [] if earlier is None else list(earlier.kinds)
    vectors = [] if earlier is None else list(earlier.vectors)
    found_kinds, not_found, fitted_as_normal = set(), [], []
    listed = _list_examples(examples, max_pixels=extractor.config.max_pixels)
    with progress_bar("teach", total=len(listed), show=progress) as bar:
        for example in listed:
            prepared = extractor.prepare(example.image)
            views = describe_defect(extractor, fitted, threshold, example, prepared)
            bar.update()
            shown = f"{example.name} ({example.kind})"
            if fingerprint(prepared.image) in fitted.fingerprints:
                fitted_as_normal.append(shown)
            if views is None:
                not_found.append(shown)
                continue
            found_kinds.add(example.kind)
            same = {kind for kind, known in zip(kinds, vectors, strict=True) if _is_same_region(views, known)}
            for kind in sorted(same - {example.kind}):
                warnings.warn(
                    f"teach: {shown} shows the same as an example of {kind!r}: leave out one of them", stacklevel=3
                )
            if example.kind not in same:
                kinds.append(example.kind)
                vectors.append(views)
    if fitted_as_normal:
        warnings.warn(
            f"teach: {len(fitted_as_normal)} of {len(listed)} examples are among the images of fit, by which such "
            f"defects count as normal: {_list_some(fitted_as_normal)}; fit without them",
            stacklevel=3,
        )
    remedy = "mark the defect, as (image, mask) or (image, box), or lower the threshold"
    for kind in dict.fromkeys(example.kind for example in listed):
        if kind not in found_kinds:
            raise ValueError(f"no example of {kind!r} has a region above the threshold {threshold.value:.4f}: {remedy}")
    if not_found:
        warnings.warn(
            f"teach: {len(not_found)} of {len(listed)} examples are left out, for no region in them is above the "
            f"threshold {threshold.value:.4f}: {_list_some(not_found)}; {remedy}",
            stacklevel=3,
        )
    return Examples(tuple(kinds), np.stack(vectors)) if kinds else None


def _list_some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} others" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{more}"


def _list_examples(examples: DefectExamples, *, max_pixels: int | None) -> list[Example]:
    """Of all kinds.

    Raises:
        ValueError: no mapping, a kind without a printable name, or one without an image.
    """
    if not isinstance(examples, Mapping):
        raise ValueError(
            f"expected a mapping of kind -> images of that defect, got {describe(examples)}: write "
            '{"crack": [image, image]}'
        )
    listed = []
    for kind, group in examples.items():
        if not is_name(kind):
            raise ValueError(f"expected names of kinds to be printable strings on one line, not empty, got {kind!r}")
        if isinstance(group, tuple) and len(group) == 2 and not isinstance(group[0], (tuple, list)):
            raise ValueError(
                f"expected a list of images for kind {kind!r}, got a tuple of two: write [(image, mask)] for one image "
                "with its mask, or [image, image] for two"
            )
        items = list_images(group, f" for kind {kind!r}", max_pixels=max_pixels, keep=_keep)
        if not items:
            raise ValueError(f"expected at least one image for kind {kind!r}, got none")
        for index, item in enumerate(items):
            image, marked = item, None
            if isinstance(item, (tuple, list)):
                if len(item) != 2:
                    raise ValueError(
                        f"expected image {index} of kind {kind!r} to be an image, (image, mask) or (image, box), got "
                        f"{len(item)} values"
                    )
                image, marked = item
            listed.append(Example(kind, image_name(image, index), image, marked))
    return listed


def _keep(item: Any, *, max_pixels: int | None) -> Any:
    """`snapshot` of an image, or of an image and its mask or box."""
    if isinstance(item, (tuple, list)):
        image, *marked = item
        return (snapshot(image, max_pixels=max_pixels), *copy.deepcopy(marked))
    return snapshot(item, max_pixels=max_pixels)


def describe_defect(
    extractor: FeatureExtractor, fitted: Fitted, threshold: Threshold, example: Example, prepared: Prepared
) -> np.ndarray | None:
    """(VIEWS, D) of the marked defect, else of the strongest region; None where no region is above the threshold.

    Args:
        prepared: the example's image.

    Raises:
        ValueError: its mask or box cannot be used.
    """
    [measured] = measure(extractor, fitted, [prepared])
    rows, columns = measured.dense.shape[:2]
    if example.marked is not None:
        mask = _read_marked(example, prepared.image_hw)
        # one axis after the other: where one shrinks and the other grows, INTER_AREA skips pixels
        share = cv2.resize(mask.astype(np.float32), (mask.shape[1], rows), interpolation=cv2.INTER_AREA)
        share = cv2.resize(share, (columns, rows), interpolation=cv2.INTER_AREA)  # (gh, gw)
    else:
        if measured.score <= threshold.value:
            return None
        _, level = extractor.recipe.region_levels(measured.heatmap, threshold.value, is_anomalous=True)
        found = find_regions(measured.heatmap.cpu().numpy(), level, (rows, columns))
        if not found:
            return None
        _, share = found[0]
    vectors = []
    for view in range(VIEWS):
        if view:
            flipped = replace(prepared, image=flip(prepared.image, view), pixels=flip(prepared.pixels, view))
            [measured] = measure(extractor, fitted, [flipped])
        heatmap = measured.heatmap.cpu().numpy()
        vectors.append(describe_regions(heatmap, flip(share, view)[None], measured.kind_grids())[0])
    return np.stack(vectors)


def _is_same_region(views: np.ndarray, known: np.ndarray) -> bool:
    """Whether an example was taught before, perhaps flipped: a copy would make its kind look narrower than it is."""
    return bool(((views[0] - known) ** 2).sum(1).min() <= _MAX_ROUNDING)


# --- masks and boxes --------------------------------------------------------------------------------------------------


def _read_marked(example: Example, image_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool.

    Raises:
        ValueError: a mask or a box that does not fit the image, or marks nothing.
    """
    marked, whose = example.marked, f"of {example.name} ({example.kind})"
    files = _mask_files(marked)
    if files:
        mask, problem = read_mask(Sample(Path(example.name), 1, example.kind, files), image_hw)
        return _check_mask(mask, problem, whose)
    if isinstance(marked, Image.Image):
        marked = mask_values(ImageOps.exif_transpose(marked))
    wanted = (
        f"expected the mask {whose} to have {image_hw[0]} x {image_hw[1]} pixels as its upright image, or a box (left, "
        "top, right, bottom)"
    )
    try:
        values = np.asarray(marked)
    except ValueError:  # lists of several lengths
        raise ValueError(f"{wanted}, got {marked!r}") from None
    if values.shape == (4,):
        return _fill_box(values, image_hw, whose)
    if values.dtype == np.uint8 and values.shape[2:] in ((3,), (4,)):
        values = mask_values(Image.fromarray(values))
    elif values.shape[2:] == (1,):
        values = values[..., 0]
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{wanted}, got values of {values.dtype}")
    if values.shape != image_hw:
        raise ValueError(f"{wanted}, got the shape {values.shape}")
    mask, problem = to_mask(values, is_lossy=False)
    if mask is not None and mask.all():
        problem = "; ".join(filter(None, (problem, "it covers the whole image, check that it is one")))
    return _check_mask(mask, problem, whose)


def _check_mask(mask: np.ndarray | None, problem: str | None, whose: str) -> np.ndarray:
    """The mask; what is unusual in it is a warning.

    Raises:
        ValueError: it cannot be used, or marks nothing.
    """
    if problem is not None:
        problem = problem.replace(f", {LEFT_OUT}", "")  # that is what an evaluation does with it
    if mask is None:
        raise ValueError(
            f"the mask {whose} cannot be used: {problem}; mark the defect with values above 0, or give a box"
        )
    if not mask.any():
        raise ValueError(f"the mask {whose} marks nothing: leave it out, or mark the defect")
    if problem is not None:
        warnings.warn(f"teach: the mask {whose}: {problem}", stacklevel=6)
    return mask


def _mask_files(marked: Any) -> tuple[Path, ...]:
    """The paths of mask files; none for a mask or a box."""
    paths = [marked] if isinstance(marked, (str, os.PathLike)) else marked
    if isinstance(paths, (tuple, list)) and all(isinstance(path, (str, os.PathLike)) for path in paths):
        return tuple(Path(path) for path in paths)
    return ()


def _fill_box(box_xyxy: np.ndarray, image_hw: tuple[int, int], whose: str) -> np.ndarray:
    height, width = image_hw
    is_number = box_xyxy.dtype.kind in "iuf"
    left, top, right, bottom = box_xyxy.tolist()
    if not is_number or not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(
            f"expected the box {whose} as (left, top, right, bottom) in pixels of its upright image of {width} x "
            f"{height}, got {tuple(box_xyxy.tolist())}"
        )
    if np.issubdtype(box_xyxy.dtype, np.floating) and right <= 1 and bottom <= 1 and max(image_hw) > 1:
        raise ValueError(
            f"expected the box {whose} in pixels, got fractions of the image {tuple(box_xyxy.tolist())}: multiply them "
            f"by the width {width} and the height {height}"
        )
    mask = np.zeros(image_hw, bool)
    mask[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
    return mask
