"""Data sets that a table or a listing describes: csv files, VisA's split, Real-IAD's json."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from .folders import hold_out
from .listing import subfolders
from .types import Category, Sample, defect_name, label_of

#: Names of splits, in lower case; a validation set is tested with the rest.
_TRAINING = ("train", "training")
_TESTING = ("test", "testing", "val", "valid", "validation")


@dataclass(frozen=True)
class _Source:
    """A table or listing, the folder that its paths start from, and what its categories are called."""

    file: Path
    root: Path
    dataset: str
    layout: str


@dataclass(frozen=True)
class _Entry:
    """An image of a table; split (in lower case), category and defect may be empty."""

    path: str
    label: int
    masks: tuple[str, ...]
    split: str
    category: str
    defect: str


# --- csv ----------------------------------------------------------------------------------------------------------


def column_names(file: Path) -> set[str]:
    """The first line of a csv file, in lower case; empty if it is not a table."""
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as opened:
        try:
            return {name.strip().lower() for name in next(csv.reader(opened), [])}
        except csv.Error:
            return set()


def read_csv(file: Path) -> list[Category]:
    """The columns path and label, and where there are any mask, split (train or test), category and defect.

    Paths start from the file's folder. An image may have several lines, one for each of its masks. Without a split
    every second normal image is tested.

    Raises:
        DatasetError: no column path or label, a label that is neither normal nor anomalous, or lines of one image that
            differ in label, split or category.
    """
    source = _Source(file, file.parent, file.stem, "csv")
    return _to_categories(_read_rows(file, {"path", "label"}), source)


def read_visa_csv(path: Path) -> list[Category]:
    """VisA by split_csv/1cls.csv, the split that is commonly reported, else by the first file there.

    Raises:
        DatasetError: it lacks a column.
    """
    file = path / "split_csv" / "1cls.csv"
    if not file.is_file():
        file = min(path.glob("split_csv/*.csv"))
    rows = _read_rows(file, {"object", "split", "label", "image", "mask"})
    for row in rows:
        row["path"] = row["image"]
        row["category"] = row["object"]
        row["defect"] = ""
    return _to_categories(rows, _Source(file, path, path.name, "visa"))


def _read_rows(file: Path, required: set[str]) -> list[dict[str, str]]:
    """Lines of a csv file, column (in lower case) -> text."""
    missing = required - column_names(file)
    if missing:
        raise DatasetError(f"{file} has no column {', '.join(sorted(missing))}: expected {', '.join(sorted(required))}")
    with file.open(newline="", encoding="utf-8-sig") as opened:
        try:
            lines = list(csv.DictReader(opened))
        except (UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"{file} is not a table in UTF-8 ({error}): save it as one") from None
    rows = []
    for line in lines:
        named = {name: text for name, text in line.items() if isinstance(name, str)}  # None: more fields than columns
        rows.append({name.strip().lower(): (text or "").strip() for name, text in named.items()})
    return rows


# --- Real-IAD -----------------------------------------------------------------------------------------------------


def is_realiad(file: Path) -> bool:
    """A json object with "meta", an object too, and lists "train" and "test"."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    types = {"meta": dict, "train": list, "test": list}
    return isinstance(content, dict) and all(isinstance(content.get(key), wanted) for key, wanted in types.items())


def read_realiad(file: Path, path: Path) -> Category:
    """One category.

    Args:
        file: its listing.
        path: the folder in which, or in a folder of which, the listing's prefix is a folder.

    Raises:
        DatasetError: no such folder, an entry that lacks its class or its path, or no entries.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    prefix = content["meta"].get("prefix", "")
    roots = []
    if isinstance(prefix, str):
        roots = [folder / prefix for folder in (path, *subfolders(path)) if os.path.isdir(folder / prefix)]
    if not roots:
        raise DatasetError(
            f"{file} lists images in a folder {prefix!r} that is neither in {path} nor in a folder there"
        )
    rows = _realiad_rows(content, file)
    if not rows:
        raise DatasetError(f"{file} lists no images")
    (category,) = _to_categories(rows, _Source(file, roots[0], path.name, "realiad"))
    return category


def _realiad_rows(content: Mapping[str, Any], file: Path) -> list[dict[str, str]]:
    """Entries of a listing, under the names of the csv columns."""
    normal_class = content["meta"].get("normal_class", "OK")
    rows = []
    for split in ("train", "test"):
        for entry in content[split]:
            if not _is_realiad_entry(entry):
                wanted = 'entries with "anomaly_class" and "image_path"'
                raise DatasetError(f"{file}, {split}: expected {wanted}, got {entry!r}")
            defect = "" if entry["anomaly_class"] == normal_class else entry["anomaly_class"]
            row = {"path": entry["image_path"], "label": "1" if defect else "0", "mask": entry.get("mask_path") or ""}
            rows.append(row | {"split": split, "category": file.stem, "defect": defect})
    return rows


def _is_realiad_entry(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    has_texts = all(isinstance(entry.get(key), str) for key in ("anomaly_class", "image_path"))
    return has_texts and isinstance(entry.get("mask_path"), (str, type(None)))


# --- rows -> categories -------------------------------------------------------------------------------------------


def _to_categories(rows: Iterable[Mapping[str, str]], source: _Source) -> list[Category]:
    entries = [_to_entry(row, source.file) for row in rows]
    by_category: dict[str, list[_Entry]] = {}
    for entry in _merge_lines(entries, source.file):
        by_category.setdefault(entry.category or source.dataset, []).append(entry)
    return [_to_category(name, group, source) for name, group in by_category.items()]


def _to_entry(row: Mapping[str, str], file: Path) -> _Entry:
    path = row["path"]
    label = label_of(row["label"])
    split = row.get("split", "")
    if label is None:
        raise DatasetError(f"{file}, {path}: label {row['label']!r} is neither 0 or normal nor 1 or anomaly")
    if split.lower() not in ("", *_TRAINING, *_TESTING):
        raise DatasetError(f"{file}, {path}: split {split!r} is neither train nor test")
    mask = row.get("mask", "")
    masks = (mask,) if mask else ()
    return _Entry(path, label, masks, split.lower(), row.get("category", ""), row.get("defect", ""))


def _merge_lines(entries: Iterable[_Entry], file: Path) -> list[_Entry]:
    """One entry for each image, however its path is written."""
    by_path: dict[str, list[_Entry]] = {}
    for entry in entries:
        by_path.setdefault(os.path.normpath(entry.path), []).append(entry)
    return [_merge_image(group, file) for group in by_path.values()]


def _merge_image(entries: Sequence[_Entry], file: Path) -> _Entry:
    """The entries of one image as one, with all its masks; without a defect where they name several."""
    first = entries[0]
    for entry in entries:
        different = [name for name in ("label", "split", "category") if getattr(entry, name) != getattr(first, name)]
        if different:
            fields = ", ".join(different)
            raise DatasetError(f"{file}: the lines of {entry.path} differ in {fields}: make them agree, or keep one")
    masks = dict.fromkeys(mask for entry in entries for mask in entry.masks)
    defects = {entry.defect for entry in entries if entry.defect}
    defect = defects.pop() if len(defects) == 1 else ""
    return replace(first, masks=tuple(masks), defect=defect)


def _to_category(name: str, entries: Sequence[_Entry], source: _Source) -> Category:
    present, absent_problems = _existing_entries(entries, source)
    training = [entry for entry in present if entry.label == 0 and entry.split in _TRAINING]
    unsplit = [entry for entry in present if entry.label == 0 and not entry.split]
    kept, held_out = hold_out(unsplit, 2)
    test, problems = _test_samples(present, held_out, source)
    problems += absent_problems
    if unsplit:
        problems.append(f"{source.file}: no split for {len(unsplit)} normal images, so every second one is tested")
    bare = [sample.path.name for sample in test if sample.label == 1 and not sample.masks]
    if bare and any(sample.masks for sample in test if sample.label == 1):
        problems.append(f"{source.file}: {len(bare)} anomalous images have no mask, such as {bare[0]}")
    references = tuple(source.root / entry.path for entry in (*training, *kept))
    return Category(source.dataset, name, source.layout, source.root, {None: references}, tuple(test), tuple(problems))


def _existing_entries(entries: Sequence[_Entry], source: _Source) -> tuple[list[_Entry], list[str]]:
    present: list[_Entry] = []
    absent: list[str] = []
    for entry in entries:
        if os.path.isfile(source.root / entry.path):  # false where the system refuses the name, too
            present.append(entry)
        else:
            absent.append(entry.path)
    if not absent:
        return present, []
    return present, [f"{source.file}: {len(absent)} listed images do not exist, such as {absent[0]}"]


def _test_samples(
    entries: Sequence[_Entry], held_out: Sequence[_Entry], source: _Source
) -> tuple[list[Sample], list[str]]:
    """Of a test split or of none: anomalous images, and normal ones of a test split; `held_out` come last."""
    samples: list[Sample] = []
    problems: list[str] = []
    tested = [entry for entry in entries if entry.split in _TESTING or (entry.label == 1 and not entry.split)]
    for entry in (*tested, *held_out):
        masks, mask_problems = _existing_masks(entry, source)
        defect = defect_name(entry.defect) if entry.label == 1 else None
        samples.append(Sample(source.root / entry.path, entry.label, defect, masks))
        problems += mask_problems
    for entry in entries:
        if entry.label == 1 and entry.split in _TRAINING:
            problems.append(f"{source.file}: {entry.path} is an anomalous training image, left out")
    return samples, problems


def _existing_masks(entry: _Entry, source: _Source) -> tuple[tuple[Path, ...], list[str]]:
    absent = [mask for mask in entry.masks if not os.path.isfile(source.root / mask)]
    existing = tuple(source.root / mask for mask in entry.masks if mask not in absent)
    return existing, [f"{source.file}: mask {mask} does not exist" for mask in absent]
