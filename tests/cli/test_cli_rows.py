"""Rows: the JSON schema of docs/command.md, and the cells of a table."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from patchclip import ImageError
from patchclip.cli.frames import Item
from patchclip.cli.inputs import Source
from patchclip.cli.rows import COLUMNS, make_row, to_cells, to_json, to_line

from .command_line import Command

DOCS = Path(__file__).parents[2] / "docs" / "command.md"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    """By the schema that the documentation prints."""
    schema = json.loads(re.search(r"```json\n(\{\n  \"\$schema\".*?)```", DOCS.read_text(), re.S)[1])
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    return jsonschema.Draft202012Validator(schema)


def test_rows_keep_the_schema(
    command: Command, photos: Path, detector_file: Path, validator: jsonschema.Draft202012Validator
) -> None:
    (photos / "torn.png").write_bytes(b"torn")
    done = command("predict", "photos", "--detector", detector_file, "--json", "--out", "run", "--heatmaps", "--masks")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows == [json.loads(line) for line in Path("run/results.jsonl").read_text().splitlines()]
    assert [row["verdict"] for row in rows] == ["normal", "normal", "anomalous", "unreadable"]
    for row in rows:
        validator.validate(row)
    for wrong in ({"score": 2}, {"verdict": "odd"}, {"schema": 2}, {"further": 1}, {"frame": "1"}):
        assert list(validator.iter_errors(rows[0] | wrong))


def test_a_row_of_an_error(validator: jsonschema.Draft202012Validator) -> None:
    item = Item(Source("=a\udcfc.mp4", "video"), 3, 0.5)
    row = make_row(item, ImageError("broken,\n at once"))
    validator.validate(row)
    assert row["image"] == r"=a\xfc.mp4"
    assert row["error"] == "broken, at once"
    cells = dict(zip(COLUMNS, to_cells(row), strict=True))
    assert cells["image"] == r"'=a\xfc.mp4"  # no formula
    assert (cells["frame"], cells["time_s"], cells["verdict"], cells["score"]) == ("3", "0.5", "unreadable", "")
    assert to_line(row).split() == ["unreadable", "broken,", "at", "once"]
    assert to_json(row | {"image": "ö"}, only_ascii=True).isascii()


def test_the_line_has_the_box_of_the_name(command: Command, photos: Path, detector_file: Path) -> None:
    row = json.loads(command("predict", "photos/sub/hole.png", "--detector", detector_file, "--json").stdout)
    unnamed = row["regions"][0] | {"box_xyxy": [286, 193, 436, 342], "defect": None, "confidence": None}
    named = unnamed | {"box_xyxy": [10, 20, 30, 40], "defect": "spot", "confidence": 0.71}
    row |= {"score": 0.9, "defect": "spot", "confidence": 0.71, "regions": [unnamed, named]}  # as `Result.defect` is
    assert to_line(row) == "anomalous   0.900  photos/sub/hole.png  spot (71 %) at (10, 20, 30, 40)"
    cells = dict(zip(COLUMNS, to_cells(row), strict=True))
    assert cells["boxes left top right bottom"] == "286 193 436 342; 10 20 30 40"  # by their scores
    row |= {"defect": None, "confidence": None, "regions": [unnamed]}
    assert to_line(row).endswith("  anomaly at (286, 193, 436, 342)")
