"""`patchclip predict`: lines, JSON Lines, exit codes, and what is said where."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from patchclip import Detector
from patchclip.cli import predict

from .command_line import Command


def test_lines_are_data_and_the_rest_is_said_beside(command: Command, photos: Path, detector_file: Path) -> None:
    done = command("predict", "photos", "--detector", detector_file)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["normal", "normal", "anomalous"]
    assert [line.split()[2] for line in lines] == ["photos/a.png", "photos/sub/b.png", "photos/sub/hole.png"]
    assert " at (" in lines[2]
    said = done.stderr.splitlines()
    assert said[0].startswith("note: 3 entries were skipped, such as ")
    assert said[-3].startswith("1 anomalous, 2 normal, ")
    assert said[-3].endswith(" images/s")
    assert said[-2].startswith("threshold 0.")
    assert "(by fit on 3 images)" in said[-2]
    assert said[-1].startswith(f"next: patchclip calibrate more_good/ --detector {detector_file}")
    assert "\x1b" not in done.output  # no colours in a pipe


def test_quiet_and_verbose(command: Command, photos: Path, detector_file: Path) -> None:
    quiet = command("predict", "photos", "--detector", detector_file, "-q")
    assert quiet.stderr == ""
    assert len(quiet.stdout.splitlines()) == 3
    verbose = command("predict", "photos", "--detector", detector_file, "-v")
    skipped = [line for line in verbose.stderr.splitlines() if line.startswith("note: skipped ")]
    assert [Path(line.split()[2].rstrip(":")).name for line in sorted(skipped)] == [
        ".hidden.png",
        "hole.png",
        "notes.txt",
    ]


def test_json_is_one_object_an_image(
    command: Command, photos: Path, detector_file: Path, fitted_tiny: Detector
) -> None:
    done = command("predict", "photos", "--detector", detector_file, "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["image"] for row in rows] == ["photos/a.png", "photos/sub/b.png", "photos/sub/hole.png"]
    expected = fitted_tiny.predict(photos / "sub" / "hole.png").to_dict()
    assert rows[2]["score"] == pytest.approx(expected["score"], abs=1e-5)  # alone and in a batch
    assert rows[2]["regions"][0]["box_xyxy"] == expected["regions"][0]["box_xyxy"]
    assert rows[2].keys() >= expected.keys()
    assert (rows[2]["schema"], rows[2]["verdict"], rows[2]["frame"]) == (1, "anomalous", None)


def test_exit_codes(command: Command, photos: Path, detector_file: Path) -> None:
    detector = ("--detector", detector_file, "-q")
    assert command("predict", "photos", *detector, "--fail-on-anomaly").exit_code == 1
    assert command("predict", "photos/a.png", *detector, "--fail-on-anomaly").exit_code == 0
    (photos / "torn.png").write_bytes(b"torn")
    some = command("predict", "photos", *detector)
    assert some.exit_code == 3
    assert len(some.stdout.splitlines()) == 4
    assert some.stdout.splitlines()[-1].split()[:2] == ["unreadable", "photos/torn.png"]
    assert command("predict", "photos", *detector, "--fail-on-anomaly").exit_code == 1
    assert command("predict", "photos/torn.png", *detector).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--heatmaps"], "--heatmaps: needs --out DIR to write to"),
        (["--resume", "--overwrite", "--out", "r"], "--resume and --overwrite: go on with the run, or begin again"),
        (["--normals", "photos", "--detector", "x"], "--normals and --detector: fit, or load what was fitted"),
        (["--detector", "x"], "--detector: x does not exist: make it by `patchclip fit`"),
        (["--normals", "nowhere"], "--normals: nowhere does not exist"),
        (["--detector", "photos/notes.txt"], "photos/notes.txt is no detector file or is truncated"),
        (
            ["--detector", "photos/notes.txt", "--object", "x"],
            "--object: the detector of photos/notes.txt has this fixed",
        ),
        (["--defects", ","], "--defects: expected names separated by commas, such as crack,hole"),
        (["--threshold", "2"], "expected a number between 0 and 1 as threshold, got 2.0"),
        (["--model", "ViT-B16"], "unknown model 'ViT-B16': did you mean"),
    ],
)
def test_errors_are_one_line(command: Command, photos: Path, arguments: list[str], message: str) -> None:
    done = command("predict", "photos/a.png", *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {message}")
    assert not (photos.parent / "r").exists()


def test_debug_shows_where(command: Command, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError):  # the fixture's: there is a traceback
        command("predict", "photos/a.png", "--detector", "photos/notes.txt", "--debug")


def test_a_threshold_of_ones_own(command: Command, photos: Path, detector_file: Path) -> None:
    done = command("predict", "photos", "--detector", detector_file, "--threshold", "1")
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"normal"}
    assert "threshold 1.0000 (given)" in done.stderr


def test_zero_shot_says_how_to_do_better(command: Command, photos: Path, local_model: str) -> None:
    done = command("predict", "photos/a.png", "--model", local_model, "--object", "cloth")
    assert done.exit_code == 0
    assert "next: patchclip predict photos/a.png --normals good/ --out run" in done.stderr


def test_an_interrupt_keeps_what_was_done(
    command: Command, photos: Path, detector_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = predict.make_row

    def interrupted(item: object, outcome: object) -> object:
        if "hole" in item.source.path:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return made(item, outcome)

    monkeypatch.setattr(predict, "make_row", interrupted)
    done = command("predict", "photos", "--detector", detector_file, "--out", "run")
    assert done.exit_code == 130
    assert "error: interrupted; what was done is kept" in done.stderr
    assert len(Path("run/results.jsonl").read_text().splitlines()) == 2
    assert json.loads(Path("run/run.json").read_text())["status"] == "interrupted"
    monkeypatch.setattr(predict, "make_row", made)
    again = command("predict", "photos", "--detector", detector_file, "--out", "run", "--resume")
    assert again.exit_code == 0
    assert "resumed: 2 rows are there already" in again.stderr
    assert len(Path("run/results.jsonl").read_text().splitlines()) == 3


def test_a_list_on_standard_input(command: Command, photos: Path, detector_file: Path) -> None:
    listed = b"photos/a.png\nphotos/a.png\nphotos/absent.png\nphotos/sub/b.png\n"
    done = command("predict", "-", "--detector", detector_file, "-q", stdin=listed)
    assert done.exit_code == 3, done.stderr
    assert [row.split()[0] for row in done.stdout.splitlines()] == ["normal", "unreadable", "normal"]
    assert "absent.png does not exist" in done.stdout
    empty = command("predict", "-", stdin=b"\n")
    assert empty.exit_code == 2
    assert empty.stderr == "error: INPUTS: no image in -\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes of Unix")
def test_a_reader_that_goes_away(photos: Path, detector_file: Path) -> None:
    line = [sys.executable, "-m", "patchclip", "predict", str(photos), "--detector", str(detector_file), "-q"]
    piped = f"{shlex.join(line)} | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode in (0, 141)  # 0 where all was written before
    assert len(done.stdout.splitlines()) == 1
