"""`patchclip rank`: an order of unlabelled images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .command_line import Command


@pytest.fixture
def batch(tmp_path: Path, images: list[np.ndarray]) -> Path:
    """A folder "batch" in `tmp_path`: six flawless images and one with a hole, 2.png, and an unreadable one."""
    folder = tmp_path / "batch"
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}.png")
    (folder / "torn.png").write_bytes(b"torn")
    return folder


def test_the_oddest_first(command: Command, batch: Path) -> None:
    done = command("rank", "batch", "--top", "2", "--out", "odd", "--normals", "3")
    assert done.exit_code == 3  # one is unreadable
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert lines[0].split()[2] == "batch/2.png"
    assert done.stderr.startswith("8 images ranked, 1 unreadable, ")
    assert "torn.png is no image" in done.stderr
    assert "results in odd: ranking.csv, ranking.jsonl, overlays/, contact_sheet.png" in done.stderr
    table = list(csv.DictReader(Path("odd/ranking.csv").read_bytes().decode("utf-8-sig").splitlines()))
    assert [row["rank"] for row in table] == ["1", "2", "3", "4", "5", "6", "7", ""]
    assert [bool(row["overlay"]) for row in table] == [True] * 2 + [False] * 6
    assert table[0]["overlay"] == "overlays/2.png.png"
    assert int(table[0]["left"]) < int(table[0]["right"])
    assert {path.name for path in Path("odd/overlays").iterdir()} == {
        Path(row["overlay"]).name for row in table if row["overlay"]
    }
    normals = Path("odd/normals.txt").read_text().splitlines()
    assert normals == [row["image"] for row in table[6:3:-1]]  # the most normal first
    assert json.loads(Path("odd/run.json").read_text())["kind"] == "rank"
    again = command("rank", "batch", "--top", "1", "--out", "odd", "-q")
    assert again.stderr == ""
    assert [path.name for path in Path("odd/overlays").iterdir()] == ["2.png.png"]
    assert not Path("odd/normals.txt").exists()


def test_json_of_all(command: Command, batch: Path, local_model: str) -> None:
    done = command("rank", "batch/?.png", "--json", "--model", local_model)
    assert done.exit_code == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["rank"] for row in rows] == list(range(1, 8))
    keys = ["schema", "image", "rank", "score", "share_below", "box_xyxy", "error", "overlay"]
    assert list(rows[0]) == keys
    assert len(rows[0]["box_xyxy"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batch/0.png"], "INPUTS: one image: images are ranked among each other, name several"),
        (["batch", "--normals", "3"], "--normals: needs --out DIR to write to"),
        (["nowhere"], "INPUTS: nowhere does not exist"),
        (["batch/torn.png", "batch/0.png"], "expected at least two readable images"),
    ],
)
def test_errors_are_one_line(command: Command, batch: Path, arguments: list[str], message: str) -> None:
    done = command("rank", *arguments)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {message}")
