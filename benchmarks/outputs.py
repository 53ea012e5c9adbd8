"""What a run leaves behind with --out: metrics.json, scores.csv, table.md and report.html (see README.md)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from patchclip.datasets import Category

from . import tables
from .report import write_report
from .state import write_whole

#: Of scores.csv.
SCORE_COLUMNS = ("dataset", "category", "path", "label", "method", "shots", "seed", "score", "threshold", "defect")

#: Of metrics.json.
SCHEMA = 1


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
            "with_mask": sum(bool(sample.masks) for sample in category.test),
        }
        for category in categories
    ]


def write_outputs(
    folder: Path,
    environment: Mapping[str, Any],
    data: Sequence[Mapping[str, Any]],
    units: Sequence[Mapping[str, Any]],
    summary: Sequence[Mapping[str, Any]],
    latency: Sequence[Mapping[str, Any]],
    problems: Sequence[str],
) -> None:
    """metrics.json, scores.csv, table.md and report.html; see README.md in this folder for what is in them."""
    content = {
        "schema": SCHEMA,
        "environment": environment,
        "data": data,
        "rows": [unit["row"] for unit in units],
        "summary": summary,
        "latency": latency,
        "problems": problems,
    }
    write_whole(folder / "metrics.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(SCORE_COLUMNS)
    for unit in units:
        row = unit["row"]
        for score in unit["scores"]:
            merged = {**row, **score}
            table.writerow(["" if merged[column] is None else merged[column] for column in SCORE_COLUMNS])
    write_whole(folder / "scores.csv", text.getvalue())
    write_whole(folder / "table.md", tables.document(environment, units, summary, latency, problems))
    write_whole(folder / "report.html", write_report(environment, data, units, summary, latency, problems))
