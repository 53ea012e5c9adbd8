"""A folder or a table in any known layout -> the categories in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..errors import DatasetError
from ..printable import printable
from .folders import (
    is_course,
    is_good_bad,
    is_mvtec,
    is_visa_folder,
    read_course,
    read_good_bad,
    read_mvtec,
    read_visa_folder,
)
from .listing import subfolders
from .mask_labelled import is_kolektor, is_train_test, read_kolektor, read_train_test
from .tables import column_names, is_realiad, read_csv, read_realiad, read_visa_csv
from .types import Category

LAYOUTS = """\
  mvtec       {train,test}/{good,<defect>}/*, ground_truth/<defect>/<image>_mask.png, alone or one folder a category
              (MVTec-AD, MPDD, BTAD with ok and ko, MVTec-LOCO with a folder of masks for each image)
  mvtec_3d    the same with {rgb,gt}/ in every folder (MVTec 3D-AD; its xyz/ is not used)
  mvtec_ad_2  train/good/*, test_public/{good,bad}/*, test_public/ground_truth/bad/<image>_mask.png
  kolektor    kos01/Part0.jpg with Part0_label.bmp, black for a normal image (KolektorSDD)
  kolektor2   {train,test}/10000.png with 10000_GT.png, black for a normal image (KolektorSDD2)
  dagm        Class1/{Train,Test}/0001.PNG, Label/0001_label.PNG of defective images, alone or one folder a category
  realiad     <category>.json with "meta", "train" and "test", beside the images or in realiad_jsons/
  visa        split_csv/1cls.csv, or <category>/Data/{Images/{Normal,Anomaly},Masks/Anomaly}
  course      train/<class>/*, test/{normal,anomaly}/*
  folders     good/* and bad/*, with masks in masks/ where there are any
  csv         a file with the columns path and label (0 or 1), and if you like mask, split, category, defect
  Folders are found in any letter case. Masks may also lie beside their images: 000_mask.png, 000_GT.png"""

#: Layouts of one folder a category: whether a folder is one, and how it is read.
_CATEGORY_FOLDERS: tuple[tuple[Callable[[Path], bool], Callable[[Path, str], Category]], ...] = (
    (is_visa_folder, read_visa_folder),
    (is_mvtec, read_mvtec),
    (is_kolektor, read_kolektor),
    (is_train_test, read_train_test),
)


def read_dataset(path: str | os.PathLike[str]) -> list[Category]:
    """Read a folder, or a csv file, in any of the known `LAYOUTS`.

    Hidden files and what operating systems, network drives and programs leave behind (`.ipynb_checkpoints`, `@eaDir`,
    `__MACOSX`, `._000.png` ...) are passed over. No image is decoded; masks are where they alone tell the label. What
    is missing or left out is named in `Category.problems`.

    Raises:
        DatasetError: no such path, no known layout, or nothing to test in it.
    """
    path = Path(path).resolve()
    if not path.exists():
        raise DatasetError(f"{path} does not exist: expected a folder or a csv file in one of these layouts\n{LAYOUTS}")
    categories = _read_file(path) if path.is_file() else _read_folder(path)
    if not categories:
        raise DatasetError(f"{path} has none of the layouts that patchclip knows:\n{LAYOUTS}")
    for category in categories:
        if not category.test:
            raise DatasetError(f"{path}: category {category.name!r} ({category.layout}) has no test images")
    return [_finish(category) for category in categories]


def _finish(category: Category) -> Category:
    """With what is missing in any layout among the problems, and with printable text."""
    problems = [*category.problems, *_name_gaps(category), *_name_folders_of_one_name(category.root)]
    return replace(
        category,
        dataset=printable(category.dataset),
        name=printable(category.name),
        problems=tuple(printable(problem) for problem in problems),
    )


def _name_gaps(category: Category) -> list[str]:
    problems = []
    if not any(category.references.values()):
        problems.append(f"{category.root}: no normal images to fit on")
    for label, kind in ((0, "normal"), (1, "anomalous")):
        if all(sample.label != label for sample in category.test):
            problems.append(f"{category.root}: no {kind} test images")
    return problems


def _name_folders_of_one_name(root: Path) -> list[str]:
    """Folders that differ in letter case alone: one of them is used."""
    counts = Counter(folder.name.lower() for folder in subfolders(root))
    doubled = [name for name, count in counts.items() if count > 1]
    return [f"{root}: several folders are called {name} but for letter case, one is used" for name in doubled]


def _read_file(path: Path) -> list[Category]:
    return read_csv(path) if path.suffix.lower() == ".csv" else []


def _read_folder(path: Path) -> list[Category]:
    """The categories of the first layout that fits; none where none fits."""
    if is_mvtec(path):
        return [read_mvtec(path, path.name)]
    if is_course(path):
        return [read_course(path)]
    if any(path.glob("split_csv/*.csv")):
        return read_visa_csv(path)
    if categories := _read_category_folders(path):
        return categories
    if categories := _read_realiad_listings(path):
        return categories
    if is_good_bad(path):
        return [read_good_bad(path)]
    return _read_tables(path)


def _read_category_folders(path: Path) -> list[Category]:
    """A category itself, or one folder a category."""
    children = [_inner(folder) for folder in subfolders(path)]
    for fits, read in _CATEGORY_FOLDERS:
        if fits(path):
            chosen, left_out = [path], []
        else:
            chosen = [folder for folder in children if fits(folder)]
            left_out = [folder for folder in children if folder not in chosen]
        if not chosen:
            continue
        first, *others = [read(folder, path.name) for folder in chosen]
        problems = [f"{folder}: not a category like {first.name}, left out" for folder in left_out]
        return [replace(first, problems=(*first.problems, *problems)), *others]
    return []


def _inner(folder: Path) -> Path:
    """The folder of the same name in a folder, where there is nothing else: archives are unpacked so."""
    inside = subfolders(folder)
    return inside[0] if len(inside) == 1 and inside[0].name == folder.name else folder


def _read_realiad_listings(path: Path) -> list[Category]:
    files = [*sorted(path.glob("*.json")), *sorted(path.glob("realiad_jsons*/*.json"))]
    return [read_realiad(file, path) for file in files if is_realiad(file)]


def _read_tables(path: Path) -> list[Category]:
    categories = []
    for file in sorted(path.glob("*.csv")):
        if {"path", "label"} <= column_names(file):
            categories += read_csv(file)
    return categories
