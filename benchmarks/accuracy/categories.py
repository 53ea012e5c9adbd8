"""The data of a run: which categories, how many of their images, and what the outputs call them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.synthetic_set import make_synthetic
from patchclip.datasets import Category, DatasetError, read_dataset, read_elpv, read_textile
from patchclip.printable import printable

#: What --dataset knows: sets that have no path.
DATASETS = ("synthetic", "elpv", "textile")


def load_categories(
    paths: Sequence[Path], datasets: Sequence[str], *, limit: int | None, folder: Path
) -> list[Category]:
    """All data that was asked for; where data sets share a name, the folder above or the whole path tells them apart.

    Args:
        paths: of --data; datasets: of `DATASETS`, and the synthetic one where both are empty.
        limit: at most so many normal and anomalous test images of each category; None is all.
        folder: for the synthetic set.

    Raises:
        DatasetError: see `read_dataset`, or one folder is given twice.
        MissingDependencyError: the package of a data set is not installed.
    """
    resolved = [path.resolve() for path in paths]
    for path in resolved:
        if resolved.count(path) > 1:
            raise DatasetError(f"--data {path} is given twice")
    groups = [(_name_above(path, resolved), read_dataset(path)) for path in resolved]
    for name in datasets or ([] if paths else ["synthetic"]):
        groups.append(("", _read_by_name(name, folder)))
    names = [group[0].dataset for _, group in groups]
    categories = []
    for above, group in groups:
        for category in group:
            if names.count(category.dataset) > 1:
                category = replace(category, dataset=f"{above}/{category.dataset}")
            categories.append(category if limit is None else _limited(category, limit))
    return categories


def _name_above(path: Path, paths: Sequence[Path]) -> str:
    """Of the folder that a data set is in; its whole path where another data set is in a folder of that name."""
    same = [other for other in paths if other.parts[-2:] == path.parts[-2:]]
    return printable(path.parent.name if len(same) == 1 else str(path.parent))


def _read_by_name(name: str, folder: Path) -> list[Category]:
    if name == "elpv":
        return read_elpv()
    if name == "textile":
        return read_textile()
    return make_synthetic(folder / "synthetic")


def _limited(category: Category, limit: int) -> Category:
    """At most so many test images of either label, drawn with a fixed seed, in their order."""
    kept: set[int] = set()
    for label in (0, 1):
        indices = [index for index, sample in enumerate(category.test) if sample.label == label]
        order = np.random.default_rng(0).permutation(len(indices))
        kept |= {indices[k] for k in order[:limit]}
    test = tuple(category.test[index] for index in sorted(kept))
    note = f"{category.dataset}/{category.name}: --limit {limit} keeps {len(test)} of {len(category.test)} test images"
    return replace(category, test=test, problems=(*category.problems, note))


# --- what the outputs say of it -----------------------------------------------------------------------------------


def relative_path(category: Category, path: Path) -> str:
    """From the data set's folder on."""
    return (path.relative_to(category.root) if path.is_relative_to(category.root) else path).as_posix()


def shorten(problems: Sequence[str], categories: Sequence[Category]) -> Iterator[str]:
    """Remarks with the names of data sets in place of their folders."""
    for problem in problems:
        shortened = printable(problem)
        for category in categories:
            shortened = shortened.replace(printable(str(category.root)), f"{category.dataset}/{category.name}")
        yield shortened


def describe_data(categories: Sequence[Category]) -> list[dict[str, Any]]:
    """JSON-ready; `with_mask` counts anomalous images that have one."""
    return [
        {
            "dataset": category.dataset,
            "category": category.name,
            "layout": category.layout,
            "references": sum(map(len, category.references.values())),
            "normal": sum(1 - sample.label for sample in category.test),
            "anomalous": sum(sample.label for sample in category.test),
            "with_mask": sum(bool(sample.masks) for sample in category.test if sample.label),
        }
        for category in categories
    ]


def data_line(data: dict[str, Any]) -> str:
    """An entry of `describe_data` for the terminal."""
    return (
        f"{data['dataset']}/{data['category']}: {data['layout']} layout, {data['references']} references, "
        f"{data['normal']} normal and {data['anomalous']} anomalous test images"
    )
