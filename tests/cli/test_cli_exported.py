"""`patchclip predict` with an exported file: the same rows, without torch."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import fit_quietly
from PIL import Image

from patchclip import Detector

from .command_line import Command

#: The command in a process of its own, and then what was imported there.
PREDICT = """
import sys
from patchclip.cli.app import app
try:
    app.main(sys.argv[1:], "patchclip")
except SystemExit as ended:
    assert ended.code == 0, ended.code
assert not {"torch", "open_clip", "timm", "safetensors", "scipy", "onnx"} & set(sys.modules)
"""


@pytest.fixture(scope="session")
def files(local_model: str, normals: list[Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A detector's file and the one exported from it."""
    folder = tmp_path_factory.mktemp("exported")
    detector = fit_quietly(Detector(local_model, precision="fp32", cues=("tokens", "texture")), normals[:3])
    detector.threshold = 0.02
    detector.save(folder / "detector.safetensors")
    detector.export(folder / "detector.onnx")
    return folder / "detector.safetensors", folder / "detector.onnx"


def rows_of(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_the_same_rows_without_torch(command: Command, files: tuple[Path, Path], photos: Path) -> None:
    with Image.open(photos / "a.png") as image:
        image.resize((640, 480)).save(photos / "large.png")
    arguments = [sys.executable, "-c", PREDICT, "predict", "photos", "--json", "--detector", str(files[1])]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = rows_of(done.stdout)
    expected = rows_of(command("predict", "photos", "--json", "--detector", files[0]).stdout)
    assert len(found) == len(expected) == 4
    assert {row["verdict"] for row in found} >= {"anomalous"}
    for row, other in zip(found, expected, strict=True):
        assert row.keys() == other.keys()
        assert row.pop("score") == pytest.approx(other.pop("score"), abs=1e-3)
        regions, others = row.pop("regions"), other.pop("regions")
        assert row == other
        assert [region["defect"] for region in regions] == [region["defect"] for region in others]
        for region, wanted in zip(regions, others, strict=True):
            assert region["box_xyxy"] == pytest.approx(wanted["box_xyxy"], abs=2)


def test_a_folder_of_results_that_goes_on(command: Command, files: tuple[Path, Path], photos: Path) -> None:
    arguments = ["predict", "photos", "--detector", files[1], "--threshold", "0.9", "--out", "run", "--heatmaps"]
    done = command(*arguments)
    assert done.exit_code == 0
    assert "contact_sheet.png, heatmaps/" in done.stderr
    assert "next: patchclip info " in done.stderr
    run = json.loads(Path("run/run.json").read_text())
    assert (run["device"], run["precision"], run["threshold"]) == ("CPUExecutionProvider", "fp32", 0.9)
    assert "onnxruntime" in run["versions"]
    lines = Path("run/results.jsonl").read_text().splitlines(keepends=True)
    assert not Path("run/detector.safetensors").exists()
    Path("run/results.jsonl").write_text("".join(lines[:2]))
    again = command(*arguments, "--resume")
    assert "resumed: 2 rows are there already" in again.stderr
    assert Path("run/results.jsonl").read_text().splitlines(keepends=True) == lines


def test_a_run_goes_on_with_the_same_file_alone(command: Command, files: tuple[Path, Path], photos: Path) -> None:
    shutil.copy(files[1], "d.onnx")
    line = ("predict", "photos", "--detector", "d.onnx", "--out", "run")
    command(*line)
    shutil.copy(files[1], "d.onnx")
    again = command(*line, "--resume")
    assert "resumed: 3 rows are there already" in again.stderr
    Path("d.onnx").write_bytes(files[1].read_bytes() + b"another")
    refused = command(*line, "--resume")
    assert refused.exit_code == 2
    assert "error: --resume: the run in run had detector_sha256 '" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "mps"], "--device: an exported file runs on auto, cpu, cuda, openvino, not on mps"),
        (["--device", "openvino"], "provider 'openvino' is not installed"),
        (["--model", "tiny"], "--model: the detector of .* has this fixed"),
        (["--threshold", "2"], "expected a number between 0 and 1"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, command: Command, files: tuple[Path, Path], photos: Path
) -> None:
    done = command("predict", "photos", "--detector", files[1], "-q", *arguments)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert re.search(message, done.stderr)


def test_files_that_are_none(command: Command, photos: Path) -> None:
    done = command("predict", "photos", "--detector", "absent.onnx")
    assert "absent.onnx does not exist: make it by `patchclip export`" in done.stderr
    Path("text.onnx").write_text("a text")
    done = command("predict", "photos", "--detector", "text.onnx", "-q")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "text.onnx cannot be read as ONNX" in done.stderr
