"""--out: what is in it, what may be in it before, and how a run goes on in it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from .command_line import Command


def rows_of(folder: str = "run") -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(folder, "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_everything_in_a_folder(command: Command, photos: Path, good: Path) -> None:
    before = {path: path.read_bytes() for path in [*photos.rglob("*.*"), *good.rglob("*.*")]}
    done = command("predict", "photos", "--normals", "good", "--defects", "Riß, hole", "--out", "run")
    assert done.exit_code == 0
    assert done.stdout == ""
    files = sorted(path.relative_to("run").as_posix() for path in Path("run").rglob("*") if path.is_file())
    fixed = ["contact_sheet.png", "detector.safetensors", "overlays/sub/hole.png.png", "results.csv", "results.jsonl"]
    assert files == [*fixed, "run.json"]
    content = Path("run/results.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbfimage,frame,time_s,verdict,score")  # for Excel
    table = list(csv.DictReader(content.decode("utf-8-sig").splitlines()))
    assert [row["verdict"] for row in table] == ["normal", "normal", "anomalous"]
    assert table[2]["overlay"] == "overlays/sub/hole.png.png"
    assert table[2]["defect"] in ("Riß", "hole")
    assert len(table[2]["boxes left top right bottom"].split("; ")[0].split()) == 4
    run = json.loads(Path("run/run.json").read_text())
    assert run["status"] == "done"
    assert run["counts"] == {"normal": 2, "anomalous": 1}
    assert run["threshold_source"] == "fit"
    assert run["command"].startswith("patchclip predict photos --normals good ")
    assert {"patchclip", "python", "torch"} <= run["versions"].keys()
    assert "Highest scores:\n  anomalous " in done.stderr
    assert "results in run: results.csv" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("next: patchclip calibrate more_good/ --detector run/detector")
    assert before == {path: path.read_bytes() for path in [*photos.rglob("*.*"), *good.rglob("*.*")]}


def test_foreign_content_is_refused(command: Command, photos: Path, detector_file: Path) -> None:
    Path("run/overlays").mkdir(parents=True)
    Path("run/overlays/mine.png").write_text("mine")
    line = ("predict", "photos/sub", "--detector", detector_file, "--out", "run")
    refused = command(*line)
    assert refused.exit_code == 2
    message = "error: --out: run has other files in it: name another folder, or add --overwrite\n"
    assert refused.stderr == message
    assert command(*line, "--overwrite").exit_code == 0
    assert Path("run/overlays/mine.png").read_text() == "mine"
    assert command("rank", "photos", "--out", "run").stderr.endswith(message)  # of another command
    Path("file").write_text("")
    assert "--out: file is a file" in command(*line[:-1], "file").stderr


def test_a_finished_run_is_replaced(command: Command, photos: Path, detector_file: Path) -> None:
    command("predict", "photos", "--detector", detector_file, "--out", "run", "--threshold", "0")
    assert len(list(Path("run/overlays").rglob("*.png"))) == 3
    done = command("predict", "photos/sub", "--detector", detector_file, "--out", "run")
    assert done.exit_code == 0
    assert "note: the results of an earlier run in run are replaced" in done.stderr
    assert [row["image"] for row in rows_of()] == ["photos/sub/b.png", "photos/sub/hole.png"]
    assert [path.name for path in Path("run/overlays").rglob("*.png")] == ["hole.png.png"]


def test_a_broken_run_goes_on(command: Command, photos: Path, detector_file: Path) -> None:
    line = ("predict", "photos", "--detector", detector_file, "--out", "run")
    command(*line)
    whole, table = Path("run/results.jsonl").read_bytes(), Path("run/results.csv").read_bytes()
    lines = whole.splitlines(keepends=True)
    run = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps(run | {"status": "running"}, indent=2))
    Path("run/results.jsonl").write_bytes(lines[0] + lines[1][:-9])  # torn
    assert command(*line).stderr.splitlines()[-1] == (
        "error: --out: run has an unfinished run: add --resume to go on, or --overwrite to begin again"
    )
    other = command(*line, "--threshold", "0.9", "--resume")
    assert "--resume: the run in run had threshold None, now it is 0.9" in other.stderr
    done = command(*line, "--resume")
    assert done.exit_code == 0
    assert "resumed: 1 rows are there already" in done.stderr
    assert "1 anomalous, 2 normal" in done.stderr
    assert [row["image"] for row in rows_of()] == [json.loads(line)["image"] for line in lines]
    assert len(Path("run/results.csv").read_bytes().splitlines()) == len(table.splitlines())
    again = command(*line, "--resume")
    assert again.exit_code == 0
    assert len(rows_of()) == 3


def test_a_run_that_failed_before_its_first_row_is_begun_again(command: Command, photos: Path) -> None:
    done = command("predict", "photos", "--model", "ViT-B-99", "--out", "run")
    assert done.exit_code == 2
    assert "unknown model 'ViT-B-99'" in done.stderr
    again = command("predict", "photos", "--model", "ViT-B-98", "--out", "run")
    assert "unknown model 'ViT-B-98'" in again.stderr


def test_a_resumed_run_has_a_detector_of_its_own(command: Command, photos: Path, good: Path) -> None:
    command("predict", "photos", "--normals", "good", "--out", "run")
    for image in good.iterdir():
        image.unlink()
    Image.open(photos / "a.png").save(good / "0.png")
    threshold = rows_of()[0]["threshold"]
    Path("run/results.jsonl").write_bytes(Path("run/results.jsonl").read_bytes().splitlines(keepends=True)[0])
    assert command("predict", "photos", "--normals", "good", "--out", "run", "--resume").exit_code == 0
    assert [row["threshold"] for row in rows_of()] == [threshold] * 3


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
def test_a_new_folder_takes_either(command: Command, photos: Path, detector_file: Path, option: str) -> None:
    done = command("predict", "photos/a.png", "--detector", detector_file, "--out", "new/run", option)
    assert done.exit_code == 0
    assert len(rows_of("new/run")) == 1


def test_texts_in_rows_may_hold_other_ends_of_lines(command: Command, photos: Path, detector_file: Path) -> None:
    line = ("predict", "photos", "--detector", detector_file, "--out", "run", "--resume")
    command(*line)
    table = Path("run/results.jsonl")
    first, *others = table.read_text(encoding="utf-8").splitlines()
    row = json.loads(first) | {"class_name": "x\u2028y\x85z"}
    written = "\n".join([json.dumps(row, ensure_ascii=False), *others, ""])
    table.write_text(written, encoding="utf-8")
    done = command(*line)
    assert "resumed: 3 rows are there already" in done.stderr
    assert table.read_text(encoding="utf-8") == written


@pytest.mark.parametrize("damaged", [b"{torn", b"[1]", b"\xff", b"[" * 100_000], ids=["torn", "list", "bytes", "deep"])
def test_a_damaged_line_is_named(command: Command, photos: Path, detector_file: Path, damaged: bytes) -> None:
    line = ("predict", "photos", "--detector", detector_file, "--out", "run", "--resume")
    command(*line)
    table, run = Path("run/results.jsonl"), Path("run/run.json")
    first, _, *others = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(b"".join([first, damaged + b"\n", *others]))
    refused = command(*line)
    assert refused.exit_code == 2
    assert "\nerror: --out: line 2 of run/results.jsonl is damaged (" in refused.stderr
    assert refused.stderr.endswith("): remove that line, or name another folder\n")
    table.write_bytes(b"".join([first, *others]))
    assert "resumed: 2 rows are there already" in command(*line).stderr
    run.write_bytes(run.read_bytes()[:-20])
    assert "error: --out: run/run.json is damaged (" in command(*line).stderr
