"""Layouts that are recognised by their folders alone, and the images that folders contain."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from .masks import match_masks
from .types import IMAGE_SUFFIXES, Category, Sample, defect_name, label_of

_MASK_FOLDERS = ("masks", "mask", "ground_truth")


# --- images in folders --------------------------------------------------------------------------------------------


def subfolders(path: Path) -> list[Path]:
    """The folders in a folder, sorted, without those whose names begin with a dot; none where there is no folder."""
    if not path.is_dir():
        return []
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


def list_images(folder: Path) -> tuple[list[Path], list[str]]:
    """The images in a folder and below, sorted, and problems: how many files are not images."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(".")]
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    others = [file.name for file in files if file.suffix.lower() not in IMAGE_SUFFIXES]
    if not others:
        return images, []
    return images, [f"{folder}: {len(others)} files are not images and are left out, such as {others[0]}"]


def images_in(folder: Path) -> list[Path]:
    """The images directly in a folder, sorted; warns if it has other entries.

    Raises:
        ValueError: not a folder, or no image in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give a folder of images")
    entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    images = [path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES]
    others = [path.name for path in entries if path.suffix.lower() not in IMAGE_SUFFIXES]
    if not images:
        raise ValueError(f"{folder} has no images ({', '.join(IMAGE_SUFFIXES)})")
    if others:
        message = f"{folder}: {len(others)} entries are not images and are left out, such as {others[0]}"
        warnings.warn(message, stacklevel=2)
    return images


def hold_out(images: Sequence[Path], step: int) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Split normal images that come without a split: (references, every step-th image for the test)."""
    tested = tuple(images[step - 1 :: step])
    references = tuple(image for index, image in enumerate(images) if index % step != step - 1)
    return references, tested


def _normal_samples(folder: Path) -> tuple[list[Sample], list[str]]:
    images, problems = list_images(folder)
    return [Sample(image, 0) for image in images], problems


def _anomalous_samples(folder: Path, mask_folder: Path, defect: str | None) -> tuple[list[Sample], list[str]]:
    images, problems = list_images(folder)
    masks, mask_problems = list_images(mask_folder)
    matched, match_problems = match_masks(images, masks, mask_folder)
    samples = [Sample(image, 1, defect, matched[image]) for image in images]
    return samples, problems + mask_problems + match_problems


# --- MVTec-AD and its copies --------------------------------------------------------------------------------------


def is_mvtec(path: Path) -> bool:
    """train/good (or ok) and test/ with folders in it; in a course layout a train/0 is one of its classes."""
    good = [folder.name for folder in subfolders(path / "train") if label_of(folder.name) == 0]
    if not good or not subfolders(path / "test"):
        return False
    only_numbers = all(name.isdigit() for name in good)
    return not (only_numbers and is_course(path))


def read_mvtec(path: Path, dataset: str) -> Category:
    """One category: MVTec-AD, MPDD, BTAD, MVTec-LOCO."""
    references, train_problems = _mvtec_references(path)
    test, test_problems = _mvtec_test(path)
    problems = (*train_problems, *test_problems, *_mvtec_unused(path))
    return Category(dataset, path.name, "mvtec", path, {None: tuple(references)}, tuple(test), problems)


def _mvtec_references(path: Path) -> tuple[list[Path], list[str]]:
    references: list[Path] = []
    problems: list[str] = []
    for folder in subfolders(path / "train"):
        if label_of(folder.name) == 0:
            images, image_problems = list_images(folder)
            references += images
            problems += image_problems
        else:
            problems.append(f"{folder}: training images that are not normal are left out")
    return references, problems


def _mvtec_test(path: Path) -> tuple[list[Sample], list[str]]:
    test: list[Sample] = []
    problems: list[str] = []
    for folder in subfolders(path / "test"):
        if label_of(folder.name) == 0:
            samples, sample_problems = _normal_samples(folder)
        else:
            masks = path / "ground_truth" / folder.name
            samples, sample_problems = _anomalous_samples(folder, masks, defect_name(folder.name))
        test += samples
        problems += sample_problems
    return test, problems


def _mvtec_unused(path: Path) -> list[str]:
    problems = []
    tested = {folder.name for folder in subfolders(path / "test")}
    for folder in subfolders(path / "ground_truth"):
        if folder.name not in tested:
            problems.append(f"{folder}: masks without a folder test/{folder.name}")
    if (path / "validation").is_dir():
        problems.append(f"{path / 'validation'}: not used")
    return problems


# --- the course ---------------------------------------------------------------------------------------------------


def is_course(path: Path) -> bool:
    """train/ with a folder for each class, test/ with normal and anomaly alone."""
    tested = {folder.name.lower() for folder in subfolders(path / "test")}
    return tested == {"normal", "anomaly"} and bool(subfolders(path / "train"))


def read_course(path: Path) -> Category:
    """All classes as one category: a test image's class is unknown."""
    references: dict[str | None, tuple[Path, ...]] = {}
    test: list[Sample] = []
    problems: list[str] = []
    for folder in subfolders(path / "train"):
        images, image_problems = list_images(folder)
        problems += image_problems
        if images:
            references[folder.name] = tuple(images)
        else:
            problems.append(f"{folder}: a class without images")
    for folder in subfolders(path / "test"):
        images, image_problems = list_images(folder)
        problems += image_problems
        label = int(folder.name.lower() == "anomaly")
        test += [Sample(image, label) for image in images]
    return Category(path.name, path.name, "course", path, references, tuple(test), tuple(problems))


# --- good and bad -------------------------------------------------------------------------------------------------


def is_good_bad(path: Path) -> bool:
    """Folders that mean good and bad by their names."""
    return {0, 1} <= {label_of(folder.name) for folder in subfolders(path)}


def read_good_bad(path: Path) -> Category:
    """Every second good image is tested, the others are references."""
    good: list[Path] = []
    test: list[Sample] = []
    problems: list[str] = []
    mask_folders = [folder for folder in subfolders(path) if folder.name.lower() in _MASK_FOLDERS]
    mask_folder = mask_folders[0] if mask_folders else path / "masks"
    for folder in subfolders(path):
        label = label_of(folder.name)
        if label == 0:
            images, folder_problems = list_images(folder)
            good += images
            problems += folder_problems
        elif label == 1:
            nested = mask_folder / folder.name
            samples, folder_problems = _anomalous_samples(folder, nested if nested.is_dir() else mask_folder, None)
            test += samples
            problems += folder_problems
        elif folder != mask_folder:
            problems.append(f"{folder}: neither good nor bad by its name, left out")
    references, held_out = hold_out(good, 2)
    problems.append(f"{path}: every second good image is tested ({len(held_out)}), the others are references")
    test += [Sample(image, 0) for image in held_out]
    return Category(path.name, path.name, "folders", path, {None: references}, tuple(test), tuple(problems))


# --- VisA's folders -----------------------------------------------------------------------------------------------


def is_visa_folder(path: Path) -> bool:
    """Data/Images/Normal."""
    return (path / "Data" / "Images" / "Normal").is_dir()


def read_visa_folder(path: Path, dataset: str) -> Category:
    """One category of VisA without the csv of its split: every tenth normal image is tested, as in that split."""
    data = path / "Data"
    normal, problems = list_images(data / "Images" / "Normal")
    references, held_out = hold_out(normal, 10)
    problems.append(f"{path}: no split_csv, so every tenth normal image is tested ({len(held_out)})")
    test = [Sample(image, 0) for image in held_out]
    anomalous, anomalous_problems = _anomalous_samples(data / "Images" / "Anomaly", data / "Masks" / "Anomaly", None)
    test += anomalous
    problems += anomalous_problems
    return Category(dataset, path.name, "visa", path, {None: references}, tuple(test), tuple(problems))
