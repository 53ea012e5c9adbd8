"""Masks: which belong to which image, and the ground truth of an image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..printable import printable
from .mask_files import MASK_FORMATS, read_mask_file
from .types import IMAGE_SUFFIXES, Sample

#: How far the aspect ratios of a mask and its image may differ.
_MAX_STRETCH = 0.02

#: More distinct values are a picture's, where a mask is told from a picture by its pixels.
_MAX_LEVELS_OF_A_MASK = 16

_WORD = r"(?:mask|masks|gt|label|labels|seg|segmentation|ground[_ -]?truth|annotation|annotations|anno)"
#: `000_mask`, `000-GT`, `000.label`, `000_mask_1`
_ENDING = re.compile(rf"(?P<stem>.+?)(?:[_. -]{_WORD})+(?:[_ -]?\d{{1,3}})?", re.IGNORECASE | re.DOTALL)
#: `mask_000`
_BEGINNING = re.compile(rf"(?:{_WORD}[_. -])+(?P<stem>.+)", re.IGNORECASE | re.DOTALL)


# --- names --------------------------------------------------------------------------------------------------------


def find_masks_beside(files: Iterable[Path]) -> dict[Path, Path]:
    """mask -> image, of files that are named after another in their folder: `000_mask.png` after `000.jpg`."""
    by_stem: dict[tuple[Path, str], list[Path]] = {}
    for file in files:
        by_stem.setdefault((file.parent, file.stem.lower()), []).append(file)
    image_of: dict[Path, Path] = {}
    for (folder, _), group in by_stem.items():
        for mask in group:
            for stem in _stems_of_image(mask.stem)[1:]:
                named = by_stem.get((folder, stem.lower()))
                if named:
                    image_of[mask] = named[0]
                    break
    return image_of


def named_like_mask(file: Path) -> bool:
    """Whether its name has a word for a mask before or after another."""
    return bool(_ENDING.fullmatch(file.stem) or _BEGINNING.fullmatch(file.stem))


def match_masks(
    images: Sequence[Path], masks: Sequence[Path], mask_folder: Path
) -> tuple[dict[Path, tuple[Path, ...]], list[str]]:
    """Find the masks of images by name: `<stem>.*`, `<stem>_mask.*` and such, or all files in a folder `<stem>`.

    Args:
        masks: files in `mask_folder` and below.

    Returns:
        matched: image -> its masks, perhaps none.
        problems: masks without an image, and masks that match several images.
    """
    by_stem: dict[str, list[Path]] = {}
    for image in images:
        by_stem.setdefault(image.stem, []).append(image)
    in_lower_case = {stem.lower(): stem for stem in by_stem}
    matched: dict[Path, list[Path]] = {image: [] for image in images}
    unmatched = []
    shared = set()
    for mask in masks:
        stem = _find_stem(mask, mask_folder, in_lower_case)
        if stem is None:
            unmatched.append(mask.name)
            continue
        for image in by_stem[stem]:
            matched[image].append(mask)
        if len(by_stem[stem]) > 1:
            shared.add(stem)

    problems = []
    if unmatched:
        problems.append(f"{mask_folder}: {len(unmatched)} masks have no image, such as {unmatched[0]}")
    if shared:
        problems.append(f"{mask_folder}: {len(shared)} masks match several images of one name, such as {min(shared)}")
    return {image: tuple(found) for image, found in matched.items()}, problems


def _find_stem(mask: Path, mask_folder: Path, in_lower_case: Mapping[str, str]) -> str | None:
    """The stem of the images that a mask's path names, by its folder or its name; None where there are none."""
    relative = mask.relative_to(mask_folder)
    candidates = [*relative.parts[:-1], *_stems_of_image(mask.stem)]
    for candidate in candidates:
        if candidate in in_lower_case.values():
            return candidate
    for candidate in candidates:
        if candidate.lower() in in_lower_case:
            return in_lower_case[candidate.lower()]
    return None


def _stems_of_image(stem: str) -> list[str]:
    """What the image of a mask may be called, likeliest first; the mask's own stem comes first."""
    stems = [stem]
    for pattern in (_ENDING, _BEGINNING):
        match = pattern.fullmatch(stem)
        if match:
            stems.append(match["stem"])
    for found in tuple(stems):
        if found.lower().endswith(IMAGE_SUFFIXES):  # 000.jpg.png, 000.png_mask.png
            stems.append(found.rpartition(".")[0])
    return stems


# --- pixels -------------------------------------------------------------------------------------------------------


def read_mask(sample: Sample, size_hw: tuple[int, int]) -> tuple[np.ndarray | None, str | None]:
    """The ground truth of a test image: the union of its masks, read as `read_mask_file` does.

    A mask of another size is resized to the image's, nearest neighbour, if their aspect ratios differ by at most 2 %.

    Args:
        size_hw: of the upright image.

    Returns:
        mask: (H, W) bool, all false for a normal image; None for an anomalous image without a usable mask.
        problem: what is wrong, printable; None where nothing is.
    """
    if sample.label == 0:
        problems = _check_normal(sample)
        return np.zeros(size_hw, bool), _join(problems)
    if not sample.masks:
        return None, None
    union = np.zeros(size_hw, bool)
    problems = []
    for path in sample.masks:
        mask, mask_problems = _read_at_size(path, size_hw)
        problems += mask_problems
        if mask is None:
            return None, _join(problems)
        union |= mask
    if not union.any():
        problems.append(f"empty mask of an anomalous image, left out of the pixel metrics: {sample.masks[0]}")
        return None, _join(problems)
    if union.all():
        problems.append(f"mask covers the whole image, check that it is one: {sample.masks[0]}")
    return union, _join(problems)


def _check_normal(sample: Sample) -> list[str]:
    """The masks of a normal image are empty, or something is wrong."""
    problems = []
    for path in sample.masks:
        mask, mask_problems = read_mask_file(path)
        problems += mask_problems
        if mask is not None and mask.any():
            problems.append(f"mask of a normal image is not empty, its label counts: {path}")
    return problems


def _join(problems: Sequence[str]) -> str | None:
    return printable("; ".join(problems)) or None


def _read_at_size(path: Path, size_hw: tuple[int, int]) -> tuple[np.ndarray | None, list[str]]:
    """One mask as (H, W) bool, or None, and what is wrong with it."""
    mask, problems = read_mask_file(path)
    if mask is None or mask.shape == size_hw:
        return mask, problems
    mask_height, mask_width = mask.shape
    height, width = size_hw
    sizes = f"{path} is {mask_width} x {mask_height}, its image {width} x {height}"
    stretch = (mask_height / mask_width) / (height / width)
    if abs(stretch - 1) > _MAX_STRETCH:
        return None, [*problems, f"mask with another aspect ratio, left out of the pixel metrics: {sizes}"]
    resized = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(resized), [*problems, f"mask of another size, resized: {sizes}"]


def looks_like_mask(path: Path) -> bool:
    """Whether a file has few colours, as masks have; not for masks of lossy formats."""
    try:
        with Image.open(path, formats=MASK_FORMATS) as opened:
            colours = opened.convert("RGB").getcolors(_MAX_LEVELS_OF_A_MASK)
    except Exception:  # Pillow's plug-ins each raise their own
        return False
    return colours is not None
