"""What a data set consists of, and the names that say what a folder, a column or a file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..printable import printable

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm")

#: Names of folders and labels, in lower case.
NORMAL_NAMES = ("good", "ok", "normal", "nominal", "0")
ANOMALOUS_NAMES = ("bad", "ko", "nok", "ng", "anomaly", "anomalous", "anomalies", "defect", "defects", "defective", "1")

#: Names of groups of anomalies that do not describe one kind of defect.
_GROUP_NAMES = (*ANOMALOUS_NAMES, "combined", "logical_anomalies", "structural_anomalies")


@dataclass(frozen=True)
class Sample:
    """A test image.

    Attributes:
        path: of the image.
        label: 1 anomalous, 0 normal.
        defect: the kind of defect, as its folder or column says; None for a normal image and where no kind is named.
        masks: files whose union is the defect; empty without ground truth. A normal image may have some too, in which
            nothing should be marked.
    """

    path: Path
    label: int
    defect: str | None = None
    masks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Category:
    """What is fitted and measured as one.

    Attributes:
        dataset, name, layout: where it comes from, printable.
        root: the folder that contains all its images.
        references: class -> normal images to fit on; the class is None in all layouts but "course".
        test: labelled images, never among the references.
        problems: what is missing or left out, one sentence each, printable.
    """

    dataset: str
    name: str
    layout: str
    root: Path
    references: Mapping[str | None, tuple[Path, ...]]
    test: tuple[Sample, ...]
    problems: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds of defect, sorted; empty where there are fewer than two."""
        defects = {sample.defect for sample in self.test if sample.defect}
        return tuple(sorted(defects)) if len(defects) > 1 else ()


def label_of(name: str) -> int | None:
    """0 for a name that means normal, 1 for one that means anomalous, None for any other."""
    name = name.lower()
    if name in NORMAL_NAMES:
        return 0
    if name in ANOMALOUS_NAMES:
        return 1
    return None


def defect_name(name: str) -> str | None:
    """The kind of defect that a folder or a column names, in plain words; None where it names no single kind."""
    if not name or name.isdigit() or name.lower() in _GROUP_NAMES:
        return None
    return printable(name.replace("_", " ").lower())
