"""A folder or a table in any known layout -> the categories in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import DatasetError
from .folders import (
    is_course,
    is_good_bad,
    is_mvtec,
    is_visa_folder,
    read_course,
    read_good_bad,
    read_mvtec,
    read_visa_folder,
    subfolders,
)
from .tables import column_names, is_realiad, read_csv, read_realiad, read_visa_csv
from .types import Category

LAYOUTS = """\
  mvtec    {train,test}/{good,<defect>}/*, ground_truth/<defect>/<image>_mask.png, alone or one folder a category
           (MVTec-AD, MPDD, BTAD with ok and ko, MVTec-LOCO with a folder of masks for each image)
  realiad  <category>.json with "meta", "train" and "test", beside the images or in realiad_jsons/
  visa     split_csv/1cls.csv, or <category>/Data/{Images/{Normal,Anomaly},Masks/Anomaly}
  course   train/<class>/*, test/{normal,anomaly}/*
  folders  good/* and bad/*, with masks in masks/ where there are any
  csv      a file with the columns path and label (0 or 1), and if you like mask, split, category, defect"""


def read_dataset(path: Path) -> list[Category]:
    """Read a folder, or a csv file, in any of the known `LAYOUTS`.

    No image is decoded. What is missing or left out is named in `Category.problems`.

    Raises:
        DatasetError: no such path, no known layout, or nothing to test in it.
    """
    path = path.resolve()
    if not path.exists():
        raise DatasetError(f"{path} does not exist: expected a folder or a csv file in one of these layouts\n{LAYOUTS}")
    categories = _read_file(path) if path.is_file() else _read_folder(path)
    if not categories:
        raise DatasetError(f"{path} has none of the layouts that patchclip knows:\n{LAYOUTS}")
    for category in categories:
        if not category.test:
            raise DatasetError(f"{path}: category {category.name!r} ({category.layout}) has no test images")
    return categories


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
    """VisA or MVTec-AD: one folder a category, or VisA's folder of one category itself."""
    children = subfolders(path)
    for fits, read in ((is_visa_folder, read_visa_folder), (is_mvtec, read_mvtec)):
        chosen = [folder for folder in (path, *children) if fits(folder)]
        if not chosen:
            continue
        first, *others = [read(folder, path.name) for folder in chosen]
        left_out = [folder for folder in children if folder not in chosen]
        problems = [f"{folder}: not a category like {first.name}, left out" for folder in left_out]
        return [replace(first, problems=(*first.problems, *problems)), *others]
    return []


def _read_realiad_listings(path: Path) -> list[Category]:
    files = [*sorted(path.glob("*.json")), *sorted(path.glob("realiad_jsons*/*.json"))]
    return [read_realiad(file, path) for file in files if is_realiad(file)]


def _read_tables(path: Path) -> list[Category]:
    categories = []
    for file in sorted(path.glob("*.csv")):
        if {"path", "label"} <= column_names(file):
            categories += read_csv(file)
    return categories
