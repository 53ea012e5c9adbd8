"""Image sets that a table or a listing describes: csv files, VisA's split, Real-IAD's json."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DatasetError
from .folders import ANOMALOUS_NAMES, NORMAL_NAMES, Category, Sample, every, folders, kind_of

#: What a split says, in lower case; a validation set is tested with the rest.
_TRAINING = ("train", "training")
_TESTING = ("test", "testing", "val", "valid", "validation")


@dataclass(frozen=True)
class _Line:
    """What a line says, in plain text; split, category and defect may be empty."""

    path: str
    label: str
    masks: tuple[str, ...] = ()
    split: str = ""
    category: str = ""
    defect: str = ""


def column_names(file: Path) -> set[str]:
    """The first line of a csv file, in lower case; none where it is no table."""
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as opened:
        try:
            return {name.strip().lower() for name in next(csv.reader(opened), [])}
        except csv.Error:
            return set()


def _table(file: Path, needed: set[str]) -> list[dict[str, str]]:
    missing = needed - column_names(file)
    if missing:
        raise DatasetError(f"{file} has no column {', '.join(sorted(missing))}: expected {', '.join(sorted(needed))}")
    with file.open(newline="", encoding="utf-8-sig") as opened:
        try:
            rows = list(csv.DictReader(opened))
        except (UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"{file} is no table in UTF-8 ({error}): save it as one") from None
    return [
        {key.strip().lower(): (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        for row in rows
    ]


# --- csv ----------------------------------------------------------------------------------------------------------


def read_csv(file: Path) -> list[Category]:
    """The columns path and label, and where there are any mask, split (train or test), category and defect.

    Paths are told from the file's folder. An image may have several lines, one for each of its masks. Without a split
    every second normal image is tested.

    Raises:
        DatasetError: no column path or label, a label that is neither normal nor anomalous, or lines of one image that
            differ in label, split or category.
    """
    lines = [
        _Line(
            row["path"],
            row["label"],
            _one(row.get("mask")),
            *(row.get(name, "") for name in ("split", "category", "defect")),
        )
        for row in _table(file, {"path", "label"})
    ]
    return _categories(lines, file.parent, file.stem, "csv", file)


# --- VisA ---------------------------------------------------------------------------------------------------------


def read_visa_csv(path: Path) -> list[Category]:
    """split_csv/1cls.csv, the split that everyone reports, else the first file there.

    Raises:
        DatasetError: it lacks a column.
    """
    file = path / "split_csv" / "1cls.csv"
    if not file.is_file():
        file = min(path.glob("split_csv/*.csv"))
    rows = _table(file, {"object", "split", "label", "image", "mask"})
    lines = [_Line(row["image"], row["label"], _one(row["mask"]), row["split"], row["object"]) for row in rows]
    return _categories(lines, path, path.name, "visa", file)


# --- Real-IAD -----------------------------------------------------------------------------------------------------


def is_realiad(file: Path) -> bool:
    """A json object with "meta", an object too, and lists "train" and "test"."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    kinds = {"meta": dict, "train": list, "test": list}
    return isinstance(content, dict) and all(isinstance(content.get(name), kind) for name, kind in kinds.items())


def read_realiad(file: Path, path: Path) -> Category:
    """One category.

    Args:
        file: its listing.
        path: the folder in which, or in a folder of which, the listing's prefix is a folder.

    Raises:
        DatasetError: no such folder, an entry that lacks its class or its path, or no entries.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    prefix, normal = content["meta"].get("prefix", ""), content["meta"].get("normal_class", "OK")
    roots = [folder / prefix for folder in (path, *folders(path)) if (folder / prefix).is_dir()]
    if not roots:
        raise DatasetError(
            f"{file} lists images in a folder {prefix!r} that is neither in {path} nor in a folder there"
        )
    lines = []
    for split in ("train", "test"):
        for row in content[split]:
            if not isinstance(row, dict) or not {"anomaly_class", "image_path"} <= row.keys():
                raise DatasetError(
                    f'{file}, {split}: expected entries with "anomaly_class" and "image_path", got {row!r}'
                )
            kind = "" if row["anomaly_class"] == normal else row["anomaly_class"]
            label = "1" if kind else "0"
            lines.append(_Line(row["image_path"], label, _one(row.get("mask_path")), split, file.stem, kind))
    if not lines:
        raise DatasetError(f"{file} lists no images")
    (category,) = _categories(lines, roots[0], path.name, "realiad", file)
    return category


# --- lines -> categories ------------------------------------------------------------------------------------------


def _one(mask: str | None) -> tuple[str, ...]:
    return (mask,) if mask else ()


def _merged(lines: Iterable[_Line], source: Path) -> list[_Line]:
    """One line for each image, however its path is written, with all its masks; where they name several defects, with
    none."""
    merged: dict[str, _Line] = {}
    named: dict[str, set[str]] = {}
    for line in lines:
        path = os.path.normpath(line.path)
        named.setdefault(path, set()).update({line.defect} - {""})
        before = merged.setdefault(path, line)
        agree = {
            "label": _label(before, source) == _label(line, source),
            "split": before.split.lower() == line.split.lower(),
            "category": before.category == line.category,
        }
        if not all(agree.values()):
            odd = ", ".join(name for name, same in agree.items() if not same)
            raise DatasetError(f"{source}: the lines of {line.path} differ in {odd}: make them agree, or keep one")
        masks = tuple(dict.fromkeys((*before.masks, *line.masks)))
        defect = next(iter(named[path])) if len(named[path]) == 1 else ""
        merged[path] = replace(before, masks=masks, defect=defect)
    return list(merged.values())


def _categories(lines: Iterable[_Line], root: Path, dataset: str, layout: str, source: Path) -> list[Category]:
    groups: dict[str, list[_Line]] = {}
    for line in _merged(lines, source):
        groups.setdefault(line.category or dataset, []).append(line)
    return [_category(group, root, dataset, name, layout, source) for name, group in groups.items()]


def _category(lines: list[_Line], root: Path, dataset: str, name: str, layout: str, source: Path) -> Category:
    problems: list[str] = []
    references: list[Path] = []
    unsplit: list[Path] = []
    test: list[Sample] = []
    absent: list[str] = []
    for line in lines:
        label, split, path = _label(line, source), line.split.lower(), root / line.path
        if split not in ("", *_TRAINING, *_TESTING):
            raise DatasetError(f"{source}, {line.path}: split {line.split!r} is neither train nor test")
        if not path.is_file():
            absent.append(line.path)
        elif label and split in _TRAINING:
            problems.append(f"{source}: {line.path} is an anomalous training image, left out")
        elif label:
            test.append(Sample(path, 1, kind_of(line.defect), _masks(line, root, source, problems)))
        elif split in _TRAINING:
            references.append(path)
        elif split:
            test.append(Sample(path, 0))
        else:
            unsplit.append(path)
    if absent:
        problems.append(f"{source}: {len(absent)} listed images do not exist, as {absent[0]}")
    if unsplit:
        kept, held = every(unsplit, 2)
        references += kept
        test += [Sample(path, 0) for path in held]
        problems.append(f"{source}: no split for {len(unsplit)} normal images, so every second one is tested")
    bare = [sample.path.name for sample in test if sample.label and not sample.masks]
    if bare and any(sample.masks for sample in test):
        problems.append(f"{source}: {len(bare)} anomalous images have no mask, as {bare[0]}")
    return Category(dataset, name, layout, root, {None: tuple(references)}, tuple(test), tuple(problems))


def _label(line: _Line, source: Path) -> int:
    name = line.label.lower()
    if name in NORMAL_NAMES:
        return 0
    if name in ANOMALOUS_NAMES:
        return 1
    raise DatasetError(f"{source}, {line.path}: label {line.label!r} is neither 0 or normal nor 1 or anomaly")


def _masks(line: _Line, root: Path, source: Path, problems: list[str]) -> tuple[Path, ...]:
    found = [root / mask for mask in line.masks]
    problems += [f"{source}: mask {mask} does not exist" for mask in line.masks if not (root / mask).is_file()]
    return tuple(mask for mask in found if mask.is_file())
