"""Masks: which belong to which image, and their pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .types import Sample

#: How far the aspect ratios of a mask and its image may differ.
_MAX_STRETCH = 0.02

_MASK_ENDINGS = ("_mask", "_gt", "_label")


def match_masks(
    images: Sequence[Path], masks: Sequence[Path], mask_folder: Path
) -> tuple[dict[Path, tuple[Path, ...]], list[str]]:
    """Find the masks of images by name: `<stem>.*`, `<stem>_mask.*`, or all files in a folder `<stem>`.

    Args:
        masks: files in `mask_folder` and below.

    Returns:
        matched: image -> its masks, perhaps none.
        problems: masks without an image, images without a mask, and masks that match several images.
    """
    stems = Counter(image.stem for image in images)
    by_stem: dict[str, list[Path]] = {}
    for mask in masks:
        stem = _image_stem(mask, mask_folder, stems)
        by_stem.setdefault(stem, []).append(mask)
    matched = {image: tuple(by_stem.get(image.stem, ())) for image in images}

    problems = []
    unmatched = sorted(by_stem.keys() - stems.keys())
    if unmatched:
        example = by_stem[unmatched[0]][0].name
        problems.append(f"{mask_folder}: {len(unmatched)} masks have no image, such as {example}")
    shared = sorted(stem for stem in by_stem if stems[stem] > 1)
    if shared:
        problems.append(f"{mask_folder}: {len(shared)} masks match several images of one name, such as {shared[0]}")
    bare = [image.name for image, its_masks in matched.items() if not its_masks]
    if bare and masks:
        problems.append(f"{mask_folder}: {len(bare)} anomalous images have no mask, such as {bare[0]}")
    return matched, problems


def _image_stem(mask: Path, mask_folder: Path, stems: Mapping[str, int]) -> str:
    """The stem of the image that a mask's path names."""
    in_subfolder = mask.parent != mask_folder
    stem = mask.relative_to(mask_folder).parts[0] if in_subfolder else mask.stem
    if stem in stems:
        return stem
    for ending in _MASK_ENDINGS:
        stem = stem.removesuffix(ending)
    return stem


def read_mask(sample: Sample, size_hw: tuple[int, int]) -> tuple[np.ndarray | None, str | None]:
    """The ground truth of a test image: the pixels that are not 0 in any of its masks (above 127 in a jpg).

    A mask of another size is resized to the image's, nearest neighbour, if their aspect ratios differ by at most 2 %.

    Args:
        size_hw: of the upright image.

    Returns:
        mask: (H, W) bool, all false for a normal image; None for an anomalous image without a usable mask.
        problem: one sentence where something is wrong, else None.
    """
    union = np.zeros(size_hw, bool)
    if sample.label == 0:
        return union, None
    if not sample.masks:
        return None, None
    problem = None
    for path in sample.masks:
        mask, mask_problem = _read_at_size(path, size_hw)
        if mask is None:
            return None, mask_problem
        problem = mask_problem or problem
        union |= mask
    if not union.any():
        return None, f"empty mask of an anomalous image, left out of the pixel metrics: {sample.masks[0]}"
    if union.all():
        problem = f"mask covers the whole image, check that it is one: {sample.masks[0]}"
    return union, problem


def _read_at_size(path: Path, size_hw: tuple[int, int]) -> tuple[np.ndarray | None, str | None]:
    """One mask as (H, W) bool, or None, and what is wrong with it."""
    try:
        mask = _read_binary(path)
    except (OSError, ValueError, SyntaxError) as error:
        return None, f"mask unreadable, left out of the pixel metrics: {path} ({error})"
    if mask.shape == size_hw:
        return mask, None
    mask_height, mask_width = mask.shape
    height, width = size_hw
    sizes = f"{path} is {mask_width} x {mask_height}, its image {width} x {height}"
    stretch = (mask_height / mask_width) / (height / width)
    if abs(stretch - 1) > _MAX_STRETCH:
        return None, f"mask with another aspect ratio, left out of the pixel metrics: {sizes}"
    resized = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(resized), f"mask of another size, resized: {sizes}"


def _read_binary(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        values = np.asarray(opened)  # of a palette image: its indices, which are classes counted from 1
    if values.ndim == 3:
        has_alpha = values.shape[2] in (2, 4)
        colours = values[..., :-1] if has_alpha else values
        values = colours.max(2)
    lossy = path.suffix.lower() in (".jpg", ".jpeg")
    return values > (127 if lossy else 0)
