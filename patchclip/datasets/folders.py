"""Layouts that folders describe: a folder's name is the label of its images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from ..printable import printable
from .listing import direct_images, find_folder, list_files, list_images, subfolders
from .masks import match_masks
from .types import Category, Sample, defect_name, label_of

_T = TypeVar("_T")  # a path or a sample

#: Folders of masks beside folders of images.
_GROUND_TRUTH = ("ground_truth", "groundtruth", "gt", "masks", "mask")


# --- samples ------------------------------------------------------------------------------------------------------


def hold_out(images: Sequence[_T], step: int) -> tuple[tuple[_T, ...], tuple[_T, ...]]:
    """Split normal images that come without a split: (references, every step-th image for the test)."""
    tested = tuple(images[step - 1 :: step])
    references = tuple(image for index, image in enumerate(images) if index % step != step - 1)
    return references, tested


def list_references(folder: Path) -> tuple[list[Path], list[str]]:
    """The images of a folder, without the masks among them, and problems."""
    listing = list_images(folder)
    problems = [*listing.problems]
    if listing.masks:
        problems.append(f"{folder}: {len(listing.masks)} normal images have masks, which are not used")
    return listing.images, problems


def _list_samples(
    folder: Path, label: int, mask_folder: Path | None, defect: str | None = None
) -> tuple[list[Sample], list[str]]:
    """The images of a folder with their masks, from among the images and from `mask_folder`, and problems."""
    listing = list_images(folder)
    masks, mask_problems = list_files(mask_folder) if mask_folder else ([], [])
    matched, match_problems = match_masks(listing.images, masks, mask_folder or folder)
    samples = []
    for image in listing.images:
        its_masks = (*matched[image], *listing.masks.get(image, ()))
        samples.append(Sample(image, label, defect, its_masks))
    problems = [*listing.problems, *mask_problems, *match_problems]
    if not samples:
        problems.append(f"{folder}: no images")
    bare = [sample.path.name for sample in samples if label == 1 and not sample.masks]
    if bare and (masks or listing.masks):
        named = mask_folder if masks else folder
        problems.append(f"{named}: {len(bare)} anomalous images have no mask, such as {bare[0]}")
    return samples, problems


def _name_folders_without_masks(test: Sequence[Sample]) -> list[str]:
    """Folders of anomalous images none of which has a mask, where those of other folders have."""
    anomalous = [sample for sample in test if sample.label == 1]
    with_masks = {sample.path.parent for sample in anomalous if sample.masks}
    without = dict.fromkeys(sample.path.parent for sample in anomalous if sample.path.parent not in with_masks)
    return [f"{folder}: no anomalous image has a mask" for folder in without] if with_masks else []


def _name_stray_images(folder: Path, expected: str) -> list[str]:
    stray = direct_images(folder)
    if not stray:
        return []
    return [f"{folder}: {len(stray)} images lie outside {expected} and are left out, such as {stray[0].name}"]


# --- MVTec-AD and its copies --------------------------------------------------------------------------------------


def is_mvtec(path: Path) -> bool:
    """train/good (or ok) and test/, or test_public/, with folders in it.

    In a course layout a train/0 is one of its classes.
    """
    train, test = find_folder(path, "train"), find_folder(path, "test", "test_public")
    if train is None or test is None:
        return False
    good = [folder.name for folder in subfolders(train) if label_of(folder.name) == 0]
    if not good or not subfolders(test):
        return False
    only_numbers = all(name.isdigit() for name in good)
    return not (only_numbers and is_course(path))


def read_mvtec(path: Path, dataset: str) -> Category:
    """One category: MVTec-AD, MPDD, BTAD, MVTec-LOCO; MVTec AD 2 by its test_public/; MVTec 3D-AD by its rgb/."""
    train = find_folder(path, "train") or path / "train"
    test = find_folder(path, "test", "test_public") or path / "test"
    ground_truth = find_folder(path, *_GROUND_TRUTH) or find_folder(test, *_GROUND_TRUTH)
    references, train_problems = _mvtec_references(train)
    samples, test_problems = _mvtec_test(test, ground_truth)
    problems = (*train_problems, *test_problems, *_mvtec_unused(path, (train, test, ground_truth)))
    layout = "mvtec" if test.name.lower() == "test" else "mvtec_ad_2"
    if any(find_folder(folder, "rgb") for folder in subfolders(train)):
        layout = "mvtec_3d"
    return Category(dataset, path.name, layout, path, {None: tuple(references)}, tuple(samples), problems)


def _mvtec_references(train: Path) -> tuple[list[Path], list[str]]:
    references: list[Path] = []
    problems = _name_stray_images(train, "the folders of classes")
    for folder in subfolders(train):
        if label_of(folder.name) == 0:
            images, image_problems = list_references(folder)
            references += images
            problems += image_problems
        else:
            problems.append(f"{folder}: training images that are not normal are left out")
    return references, problems


def _mvtec_test(test: Path, ground_truth: Path | None) -> tuple[list[Sample], list[str]]:
    samples: list[Sample] = []
    problems = _name_stray_images(test, "the folders of defects")
    mask_folders = []
    for folder in subfolders(test):
        if folder == ground_truth:
            continue
        if folder.name.lower() in _GROUND_TRUTH:
            problems.append(f"{folder}: a folder of masks by its name, left out")
            continue
        masks = find_folder(ground_truth, folder.name) if ground_truth else None
        mask_folders.append(masks)
        label = 0 if label_of(folder.name) == 0 else 1
        found, folder_problems = _list_samples(folder, label, masks, defect_name(folder.name) if label else None)
        samples += found
        problems += folder_problems
    problems += _name_folders_without_masks(samples)
    if ground_truth:
        problems += _name_stray_images(ground_truth, "the folders of defects")
        for folder in subfolders(ground_truth):
            if folder not in mask_folders:
                problems.append(f"{folder}: masks without a folder {test.name}/{folder.name}")
    return samples, problems


def _mvtec_unused(path: Path, used: Sequence[Path | None]) -> list[str]:
    problems = []
    for folder in subfolders(path):
        if folder.name.lower().startswith("test_private"):
            problems.append(f"{folder}: images without labels, not used")
        elif folder not in used:
            problems.append(f"{folder}: not used")
    return problems


# --- the course ---------------------------------------------------------------------------------------------------


def is_course(path: Path) -> bool:
    """train/ with a folder for each class, test/ with normal and anomaly alone."""
    train, test = find_folder(path, "train"), find_folder(path, "test")
    if train is None or test is None:
        return False
    tested = {folder.name.lower() for folder in subfolders(test)}
    return tested == {"normal", "anomaly"} and bool(subfolders(train))


def read_course(path: Path) -> Category:
    """All classes as one category: a test image's class is unknown."""
    train = find_folder(path, "train") or path / "train"
    test = find_folder(path, "test") or path / "test"
    references: dict[str | None, tuple[Path, ...]] = {}
    samples: list[Sample] = []
    problems = [*_name_stray_images(train, "the folders of classes"), *_name_stray_images(test, "normal and anomaly")]
    for folder in subfolders(train):
        images, image_problems = list_references(folder)
        problems += image_problems
        if images:
            references[printable(folder.name)] = tuple(images)
        else:
            problems.append(f"{folder}: a class without images")
    for folder in subfolders(test):
        label = int(folder.name.lower() == "anomaly")
        found, folder_problems = _list_samples(folder, label, None)
        samples += found
        problems += folder_problems
    return Category(path.name, path.name, "course", path, references, tuple(samples), tuple(problems))


# --- good and bad -------------------------------------------------------------------------------------------------


def is_good_bad(path: Path) -> bool:
    """Folders that mean good and bad by their names."""
    return {0, 1} <= {label_of(folder.name) for folder in subfolders(path)}


def read_good_bad(path: Path) -> Category:
    """Every second good image is tested, the others are references."""
    good: list[Sample] = []
    test: list[Sample] = []
    problems = _name_stray_images(path, "the folders of good and bad ones")
    ground_truth = find_folder(path, *_GROUND_TRUTH)
    for folder in subfolders(path):
        label = label_of(folder.name)
        if label is None:
            if folder != ground_truth:
                problems.append(f"{folder}: neither good nor bad by its name, left out")
            continue
        mask_folder = ground_truth and find_folder(ground_truth, folder.name)
        if label == 1 and mask_folder is None:
            mask_folder = ground_truth
        samples, folder_problems = _list_samples(folder, label, mask_folder)
        problems += folder_problems
        if label == 0:
            good += samples
        else:
            test += samples
    problems += _name_folders_without_masks(test)
    kept, held_out = hold_out(good, 2)
    references = tuple(sample.path for sample in kept)
    problems.append(f"{path}: every second good image is tested ({len(held_out)}), the others are references")
    test += held_out
    return Category(path.name, path.name, "folders", path, {None: references}, tuple(test), tuple(problems))


# --- VisA's folders -----------------------------------------------------------------------------------------------


def is_visa_folder(path: Path) -> bool:
    """Data/Images/Normal."""
    return (path / "Data" / "Images" / "Normal").is_dir()


def read_visa_folder(path: Path, dataset: str) -> Category:
    """One category of VisA without the csv of its split: every tenth normal image is tested, as in that split."""
    data = path / "Data"
    normal, problems = list_references(data / "Images" / "Normal")
    references, held_out = hold_out(normal, 10)
    problems.append(f"{path}: no split_csv, so every tenth normal image is tested ({len(held_out)})")
    test = [Sample(image, 0) for image in held_out]
    anomalous, anomalous_problems = _list_samples(data / "Images" / "Anomaly", 1, data / "Masks" / "Anomaly")
    test += anomalous
    problems += anomalous_problems
    return Category(dataset, path.name, "visa", path, {None: references}, tuple(test), tuple(problems))
