"""The table of inspected images: sorted by a column, as HTML and as a csv file."""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

from ..printable import csv_cell, csv_encoding
from .html import escape
from .inspected import Inspected

#: What a column is sorted by -> its heading.
COLUMNS = {"name": "Image", "verdict": "Verdict", "score": "Score", "defect": "Looks like", "places": "Places"}

_CSV_COLUMNS = (
    "image",
    "verdict",
    "score",
    "threshold",
    "defect",
    "confidence",
    "boxes left top right bottom",
    "error",
)

NORMAL, UNUSUAL, UNUSABLE = "normal", "unusual", "cannot be used"


def verdict_of(item: Inspected) -> str:
    """In a word or two."""
    if item.result is None:
        return UNUSABLE
    return UNUSUAL if item.result.is_anomalous else NORMAL


def sorted_indices(items: Sequence[Inspected], column: str, *, descending: bool) -> list[int]:
    """Indices of `items` in the order of a column; those that cannot be used are last.

    Raises:
        KeyError: no such column.
    """
    keys: dict[str, Callable[[int], Any]] = {
        "name": lambda index: items[index].photo.name.lower(),
        "verdict": lambda index: items[index].is_anomalous,
        "score": lambda index: items[index].score,
        "defect": lambda index: _defect(items[index]),
        "places": lambda index: _place_count(items[index]),
    }
    usable = [index for index in range(len(items)) if not math.isnan(items[index].score)]
    rest = [index for index in range(len(items)) if math.isnan(items[index].score)]
    return sorted(usable, key=keys[column], reverse=descending) + rest


def _defect(item: Inspected) -> str:
    return "" if item.result is None else item.result.defect or ""


def _place_count(item: Inspected) -> int:
    return 0 if item.result is None else len(item.result.regions)


def to_html(items: Sequence[Inspected], sort: tuple[str, bool], selected: int | None) -> str:
    """With buttons as headings, which report the index of their column, and one in each row, which reports its image.

    Args:
        sort: a column, and whether the highest comes first.
    """
    if not items:
        return ""
    headings = []
    for index, (column, heading) in enumerate(COLUMNS.items()):
        is_sorted = column == sort[0]
        order = ("descending" if sort[1] else "ascending") if is_sorted else "none"
        arrow = (" ▼" if sort[1] else " ▲") if is_sorted else ""
        button = f'<button type="button" data-act="sort" data-index="{index}">{heading}{arrow}</button>'
        headings.append(f'<th aria-sort="{order}">{button}</th>')
    rows = []
    for index in sorted_indices(items, sort[0], descending=sort[1]):
        rows.append(_row(index, items[index], is_selected=index == selected))
    table = f"<table><thead><tr>{''.join(headings)}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    content = base64.b64encode(to_csv(items)).decode("ascii")
    link = f'<a class="pc-download" download="inspected.csv" href="data:text/csv;base64,{content}">Download as csv</a>'
    return f'<div class="pc-table">{table}</div><p class="pc-caption">{_summary(items)} {link}</p>'


def _row(index: int, item: Inspected, *, is_selected: bool) -> str:
    name = escape(item.photo.name)
    button = f'<button type="button" data-act="show" data-index="{index}">{name}</button>'
    verdict = verdict_of(item)
    kind = {NORMAL: "normal", UNUSUAL: "unusual", UNUSABLE: "broken"}[verdict]
    mark = ' class="pc-chosen"' if is_selected else ""
    begin = f"<tr{mark}><td>{button}</td>"
    if item.result is None:
        return (
            f'{begin}<td colspan="4"><span class="pc-tag pc-{kind}">{escape(item.problem or verdict)}</span></td></tr>'
        )
    places = _place_count(item)
    cells = [f"{item.score:.3f}", escape(_defect(item)), str(places) if places else ""]
    rest = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'{begin}<td><span class="pc-tag pc-{kind}">{verdict}</span></td>{rest}</tr>'


def _summary(items: Sequence[Inspected]) -> str:
    counts = [sum(verdict_of(item) == verdict for item in items) for verdict in (NORMAL, UNUSUAL, UNUSABLE)]
    unusable = f", {counts[2]} cannot be used" if counts[2] else ""
    return f"{counts[0]} normal, {counts[1]} unusual{unusable}."


def to_csv(items: Sequence[Inspected]) -> bytes:
    """A row for each image in the order of their upload, for a spreadsheet; no cell of it is a formula."""
    rows: list[list[str]] = []
    for item in items:
        boxes = "; ".join(" ".join(map(str, box)) for box in item.boxes_xyxy())
        values: list[object] = [item.photo.name, verdict_of(item)]
        if item.result is None:
            values += [None] * 5 + [item.problem]
        else:
            result = item.result
            confidence = None if result.confidence is None else f"{result.confidence:.4f}"
            values += [f"{result.score:.4f}", f"{result.threshold:.4f}", result.defect, confidence, boxes, None]
        rows.append([csv_cell(value) for value in values])
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_CSV_COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode(csv_encoding(cell for row in rows for cell in row))
