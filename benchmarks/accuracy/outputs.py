"""What a run leaves behind with --out: metrics.json, scores.csv, table.md and report.html (see README.md)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from accuracy import tables
from accuracy.report import render_report
from accuracy.results import Run, Unit, write_whole
from patchclip.printable import csv_cell, csv_encoding

#: Of scores.csv.
SCORE_COLUMNS = ("dataset", "category", "path", "label", "method", "shots", "seed", "score", "threshold", "defect")

#: Of metrics.json.
SCHEMA = 1


def write_outputs(folder: Path, run: Run) -> None:
    """Each file is written whole or not at all."""
    write_whole(folder / "metrics.json", _to_json(run))
    scores = _to_csv(run.units)
    write_whole(folder / "scores.csv", scores, encoding=csv_encoding([scores]))
    write_whole(folder / "table.md", tables.document(run))
    write_whole(folder / "report.html", render_report(run))


def _to_json(run: Run) -> str:
    content = {
        "schema": SCHEMA,
        "environment": run.environment,
        "data": run.data,
        "rows": [unit.row for unit in run.units],
        "summary": run.summary,
        "latency": run.latency,
        "problems": run.problems,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _to_csv(units: Sequence[Unit]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SCORE_COLUMNS)
    for unit in units:
        for score in unit.scores:
            values = {**unit.row, **score}
            writer.writerow([csv_cell(values[column]) for column in SCORE_COLUMNS])
    return text.getvalue()
