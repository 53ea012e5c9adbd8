"""What is said of an image or a frame: one row, as JSON, in a table and on a terminal.

The keys are those of docs/command.md; `SCHEMA` counts up where a key changes its meaning or goes away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..outcomes import UNREADABLE, outcome_entries
from ..printable import csv_cell

if TYPE_CHECKING:
    from ..errors import ImageError
    from ..result import Result
    from .frames import Item

SCHEMA = 1

#: Kinds of pictures that a row may name.
PICTURES = ("overlay", "heatmap", "mask")

_BOXES = "boxes left top right bottom"
COLUMNS = (
    "image",
    "frame",
    "time_s",
    "verdict",
    "score",
    "threshold",
    "threshold_source",
    "defect",
    "confidence",
    "defect_source",
    "class_name",
    _BOXES,
    *PICTURES,
    "error",
)

Row = dict[str, Any]


def make_row(item: Item, outcome: Result | ImageError) -> Row:
    """Of a result or of the error in its place; the pictures are None until they are written."""
    row: Row = {"schema": SCHEMA, "image": item.source.name, "frame": item.frame, "time_s": item.time_s}
    row |= outcome_entries(outcome)
    return row | dict.fromkeys(PICTURES)


def to_json(row: Mapping[str, Any], *, only_ascii: bool = False) -> str:
    """One line, without its end."""
    return json.dumps(row, ensure_ascii=only_ascii, allow_nan=False)


def to_cells(row: Mapping[str, Any]) -> list[str]:
    """Of `COLUMNS`, for a csv file."""
    boxes = [" ".join(map(str, region["box_xyxy"])) for region in row["regions"]]
    values = dict.fromkeys(COLUMNS) | dict(row) | {_BOXES: "; ".join(boxes)}  # rows of an earlier version have fewer
    for name in ("score", "threshold", "confidence"):
        if values[name] is not None:
            values[name] = f"{values[name]:.4f}"
    return [csv_cell(values[name]) for name in COLUMNS]


def to_line(row: Mapping[str, Any]) -> str:
    """For a person: verdict, score, image, and where: the region that the row's name is of, else the strongest."""
    name = row["image"]
    if row["frame"] is not None:
        name = f"{name} frame {row['frame']} ({row['time_s']:.2f} s)"
    if row["verdict"] == UNREADABLE:
        return f"{UNREADABLE:11s}        {row['error']}"
    where = ""
    if row["regions"]:
        from ..result import describe_defect  # numpy, which help does not wait for

        region = next(region for region in row["regions"] if region["defect"] == row["defect"])
        left, top, right, bottom = region["box_xyxy"]
        name_of_defect = describe_defect(region["defect"], region["confidence"])
        where = f"  {name_of_defect} at ({left}, {top}, {right}, {bottom})"
    class_name = f"  [{row['class_name']}]" if row["class_name"] else ""
    return f"{row['verdict']:11s}{row['score']:6.3f}  {name}{class_name}{where}"
