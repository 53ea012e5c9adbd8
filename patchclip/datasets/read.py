"""Folders and tables of labelled images -> which normal images to fit on, and which images to test.

`read_dataset(path)` recognises the layout by itself. Nothing is decoded here; what does not add up (a mask without
an image, a listed file that is not there) is named in `Category.problems` and never dropped in silence.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DatasetError, MissingDependencyError
from . import folders as layouts
from . import tables as listings
from .folders import Category, Sample, every, folders

__all__ = ["LAYOUTS", "Category", "DatasetError", "Sample", "read_dataset", "read_elpv", "read_mask", "read_textile"]

LAYOUTS = """\
  mvtec    {train,test}/{good,<defect>}/*, ground_truth/<defect>/<image>_mask.png, alone or one folder a category
           (MVTec-AD, MPDD, BTAD with ok and ko, MVTec-LOCO with a folder of masks for each image)
  realiad  <category>.json with "meta", "train" and "test", beside the images or in realiad_jsons/
  visa     split_csv/1cls.csv, or <category>/Data/{Images/{Normal,Anomaly},Masks/Anomaly}
  course   train/<class>/*, test/{normal,anomaly}/*
  folders  good/* and bad/*, with masks in masks/ where there are any
  csv      a file with the columns path and label (0 or 1), and if you like mask, split, category, defect"""

#: A mask's proportions may differ from its image's by so much.
_STRETCH = 0.02


def read_dataset(path: Path) -> list[Category]:
    """Read a folder, or a csv file, in any of the known `LAYOUTS`.

    Raises:
        DatasetError: no such path, no known layout, or nothing to test in it.
    """
    path = path.resolve()
    if not path.exists():
        raise DatasetError(f"{path} does not exist: expected a folder or a csv file in one of these layouts\n{LAYOUTS}")
    categories = _recognise(path)
    if not categories:
        raise DatasetError(f"{path} has none of the layouts that patchclip knows:\n{LAYOUTS}")
    for category in categories:
        if not category.test:
            raise DatasetError(f"{path}: category {category.name!r} ({category.layout}) has no test images")
    return categories


def _recognise(path: Path) -> list[Category]:
    """All categories at a path; none where no layout fits."""
    if path.is_file():
        return listings.read_csv(path) if path.suffix.lower() == ".csv" else []
    if layouts.is_mvtec(path):
        return [layouts.read_mvtec(path, path.name)]
    if layouts.is_course(path):
        return [layouts.read_course(path)]
    if any(path.glob("split_csv/*.csv")):
        return listings.read_visa_csv(path)
    below = [path, *folders(path)]
    for fits, read in ((layouts.is_visa_folder, layouts.read_visa_folder), (layouts.is_mvtec, layouts.read_mvtec)):
        if chosen := [folder for folder in below if fits(folder)]:
            first, *others = [read(folder, path.name) for folder in chosen]
            odd = [f"{folder}: no category as {first.name}, left out" for folder in below[1:] if folder not in chosen]
            return [replace(first, problems=(*first.problems, *odd)), *others]
    jsons = [*sorted(path.glob("*.json")), *sorted(path.glob("realiad_jsons*/*.json"))]
    if listed := [file for file in jsons if listings.is_realiad(file)]:
        return [listings.read_realiad(file, path) for file in listed]
    if layouts.is_good_bad(path):
        return [layouts.read_good_bad(path)]
    tables = [file for file in sorted(path.glob("*.csv")) if {"path", "label"} <= listings.column_names(file)]
    return [category for table in tables for category in listings.read_csv(table)]


# --- packages -----------------------------------------------------------------------------------------------------


def read_elpv(folder: Path | None = None) -> list[Category]:
    """2,624 solar cells of the package elpv-dataset: probability 0 against 1, the cells between left out.

    Args:
        folder: with labels.csv and images/; None is the installed package.

    Returns:
        The categories "mono" and "poly"; every second normal cell is tested.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    folder = folder or _package_folder("elpv_dataset", "elpv-dataset") / "data"
    between = 0
    cells: dict[str, tuple[list[Path], list[Path]]] = {}
    for line in (folder / "labels.csv").read_text(encoding="utf-8").splitlines():
        name, probability, kind = line.split()
        if float(probability) in (0.0, 1.0):
            cells.setdefault(kind, ([], []))[int(float(probability))].append(folder / name)
        else:
            between += 1
    note = f"elpv: {between} cells with a probability between 0 and 1 are left out"
    categories = []
    for kind, (normal, anomalous) in sorted(cells.items()):
        references, held = every(normal, 2)
        test = [Sample(path, 0) for path in held] + [Sample(path, 1) for path in anomalous]
        categories.append(Category("elpv", kind, "elpv", folder, {None: references}, tuple(test), (note,)))
    return categories


def read_textile(folder: Path | None = None) -> list[Category]:
    """2,000 simulated textile images of the package conformal-clip-data.

    Args:
        folder: with nominal/, local/ and global/; None is the installed package.

    Returns:
        The categories "local" and "global", by the kind of defect, against the same normal images; every second one
        of those is tested.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    if folder is None:
        folder = _package_folder("conformal_clip_data", "conformal-clip-data") / "data" / "textile_images" / "simulated"
    categories = []
    for kind in ("local", "global"):
        problems: list[str] = []
        references, held = every(layouts.images(folder / "nominal", problems), 2)
        anomalous = layouts.images(folder / kind, problems)
        test = [Sample(path, 0) for path in held] + [Sample(path, 1) for path in anomalous]
        categories.append(
            Category("textile", kind, "textile", folder, {None: references}, tuple(test), tuple(problems))
        )
    return categories


def _package_folder(module: str, package: str) -> Path:
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(f'the package {package} is not installed: pip install "patchclip[bench]"')
    return Path(spec.submodule_search_locations[0])


# --- masks --------------------------------------------------------------------------------------------------------


def read_mask(sample: Sample, size_hw: tuple[int, int]) -> tuple[np.ndarray | None, str | None]:
    """The ground truth of a test image: the pixels that are not 0 in any of its masks (above 127 in a jpg).

    A mask of another size but the image's proportions (2 % apart at most) is scaled to it, nearest neighbour.

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
        try:
            with Image.open(path) as opened:
                values = np.asarray(opened)  # of a palette image, its indices: classes count from 1
        except (OSError, ValueError, SyntaxError) as error:
            return None, f"mask unreadable, left out of the pixel metrics: {path} ({error})"
        if values.ndim == 3:
            colours = values.shape[2] - (values.shape[2] in (2, 4))  # without the opacity
            values = values[..., :colours].max(2)
        mask = values > (127 if path.suffix.lower() in (".jpg", ".jpeg") else 0)
        if mask.shape != size_hw:
            sizes = f"{path} is {mask.shape[1]} x {mask.shape[0]}, its image {size_hw[1]} x {size_hw[0]}"
            if abs(mask.shape[0] / mask.shape[1] / (size_hw[0] / size_hw[1]) - 1) > _STRETCH:
                return None, f"mask of other proportions, left out of the pixel metrics: {sizes}"
            problem = f"mask of another size, scaled: {sizes}"
            mask = np.asarray(Image.fromarray(mask).resize(size_hw[::-1], Image.Resampling.NEAREST))
        union |= mask
    if union.all():
        problem = f"mask covers the whole image, is it one? {sample.masks[0]}"
    if not union.any():
        return None, f"empty mask of an anomalous image, left out of the pixel metrics: {sample.masks[0]}"
    return union, problem
