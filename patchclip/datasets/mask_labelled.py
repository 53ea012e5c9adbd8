"""Layouts in which nothing but its mask says whether an image is defective: KolektorSDD, KolektorSDD2, DAGM.

Their masks are decoded to read the set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .folders import hold_out
from .listing import Listing, direct_images, find_folder, list_images, subfolders
from .mask_files import read_mask_file
from .masks import find_masks_beside
from .types import Category, Sample

_KOLEKTOR_FOLDER = re.compile(r"kos\d+", re.IGNORECASE)

#: Of DAGM: which images are defective, once more.
_LABELS_FILE = "labels.txt"


@dataclass
class _Labelled:
    """Images by what their masks say."""

    normal: list[Path] = field(default_factory=list)
    anomalous: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


# --- KolektorSDD --------------------------------------------------------------------------------------------------


def is_kolektor(path: Path) -> bool:
    """Folders kos01, kos02, ... with masks beside images."""
    return any(find_masks_beside(direct_images(folder)) for folder in _kolektor_folders(path))


def _kolektor_folders(path: Path) -> list[Path]:
    return [folder for folder in subfolders(path) if _KOLEKTOR_FOLDER.fullmatch(folder.name)]


def read_kolektor(path: Path, dataset: str) -> Category:
    """One category; every second normal image is tested."""
    normal: list[Path] = []
    test: list[Sample] = []
    problems: list[str] = []
    folders = _kolektor_folders(path)
    for folder in folders:
        labelled = _label_by_masks(list_images(folder), folder, bare_is_normal=False)
        normal += labelled.normal
        test += labelled.anomalous
        problems += labelled.problems
    for folder in subfolders(path):
        if folder not in folders:
            problems.append(f"{folder}: not used")
    references, held_out = hold_out(normal, 2)
    problems.append(f"{path}: no split, so every second normal image is tested ({len(held_out)})")
    test += [Sample(image, 0) for image in held_out]
    return Category(dataset, path.name, "kolektor", path, {None: references}, tuple(test), tuple(problems))


# --- KolektorSDD2, DAGM -------------------------------------------------------------------------------------------


def is_train_test(path: Path) -> bool:
    """train/ and test/ with images directly in both, and masks beside the images or in a folder label/."""
    train, test = find_folder(path, "train"), find_folder(path, "test")
    if train is None or test is None:
        return False
    in_both = direct_images(train), direct_images(test)
    if not all(in_both):
        return False
    return _has_label_folder(path) or any(find_masks_beside(images) for images in in_both)


def _has_label_folder(path: Path) -> bool:
    parts = (find_folder(path, "train"), find_folder(path, "test"))
    return any(part is not None and find_folder(part, "label", "labels") is not None for part in parts)


def read_train_test(path: Path, dataset: str) -> Category:
    """One category: DAGM, where defective images alone have a mask, or KolektorSDD2, where every image has one."""
    is_dagm = _has_label_folder(path)
    parts = []
    for name in ("train", "test"):
        folder = find_folder(path, name) or path / name
        labelled = _label_by_masks(list_images(folder, known=(_LABELS_FILE,)), folder, bare_is_normal=is_dagm)
        if is_dagm:
            labelled = _check_with_table(labelled, folder)
        parts.append(labelled)
    train, test = parts
    problems = [*train.problems, *test.problems]
    if train.anomalous:
        problems.append(f"{path}: {len(train.anomalous)} anomalous training images are left out")
    for folder in subfolders(path):
        if folder.name.lower() not in ("train", "test"):
            problems.append(f"{folder}: not used")
    samples = (*test.anomalous, *(Sample(image, 0) for image in test.normal))
    layout = "dagm" if is_dagm else "kolektor2"
    return Category(dataset, path.name, layout, path, {None: tuple(train.normal)}, samples, tuple(problems))


def _check_with_table(labelled: _Labelled, folder: Path) -> _Labelled:
    """What Labels.txt says counts where an image has no mask; images of which it says another thing are left out."""
    flags = _read_labels(find_folder(folder, "label", "labels"))
    if not flags:
        return labelled
    checked = _Labelled(problems=[*labelled.problems])
    without_mask = [image for image in labelled.normal if flags.get(image.name.lower()) == 1]
    denied = [sample for sample in labelled.anomalous if flags.get(sample.path.name.lower()) == 0]
    checked.normal = [image for image in labelled.normal if image not in without_mask]
    checked.anomalous = [sample for sample in labelled.anomalous if sample not in denied]
    checked.anomalous += [Sample(image, 1) for image in without_mask]
    if without_mask:
        name = without_mask[0].name
        checked.problems.append(f"{folder}: {len(without_mask)} anomalous images have no mask, such as {name}")
    if denied:
        name = denied[0].path.name
        checked.problems.append(f"{folder}: {len(denied)} images with a mask are normal by their table, such as {name}")
    return checked


def _read_labels(folder: Path | None) -> dict[str, int]:
    """Name of an image, in lower case -> 1 where it is defective, of lines `number flag image 0 mask`."""
    files = [] if folder is None else [file for file in folder.iterdir() if file.name.lower() == _LABELS_FILE]
    flags = {}
    for file in files:
        for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines():
            fields = line.split()
            if len(fields) >= 3 and fields[1] in ("0", "1"):
                flags[fields[2].lower()] = int(fields[1])
    return flags


# --- masks -> labels ----------------------------------------------------------------------------------------------


def _label_by_masks(listing: Listing, folder: Path, *, bare_is_normal: bool) -> _Labelled:
    """Images with an empty mask are normal; an image whose mask cannot be used is left out."""
    labelled = _Labelled(problems=[*listing.problems])
    bare = []
    for image in listing.images:
        masks = listing.masks.get(image, ())
        marked = _marks_anything(masks, labelled.problems)
        if not masks and not bare_is_normal:
            bare.append(image.name)
        elif marked is None:
            labelled.problems.append(f"{image}: left out, its label is unknown")
        elif marked:
            labelled.anomalous.append(Sample(image, 1, None, masks))
        else:
            labelled.normal.append(image)
    if bare:
        labelled.problems.append(f"{folder}: {len(bare)} images have no mask and are left out, such as {bare[0]}")
    return labelled


def _marks_anything(masks: Iterable[Path], problems: list[str]) -> bool | None:
    """Whether any of the masks marks a pixel; None where one cannot be used."""
    marked = False
    for path in masks:
        mask, mask_problems = read_mask_file(path)
        problems += mask_problems
        if mask is None:
            return None
        marked = marked or bool(mask.any())
    return marked
