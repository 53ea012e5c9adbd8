"""`patchclip export`, with its comparison, and `patchclip info` of what it wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import patchclip.runtime as runtime
from patchclip import export

from .command_line import Command


@pytest.fixture
def detector(command: Command, good: Path, local_model: str) -> str:
    """Fitted with three images of 96 x 128."""
    command("fit", "good", "--model", local_model, "--precision", "fp32", "--threshold", "0.5", "-q")
    return "detector.safetensors"


def what_differs_is_named(command: Command, photos: Path) -> None:
    """As where the machine resizes wrongly: the file sees black images."""
    (photos / "torn.png").write_bytes(b"torn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime.detector, "resample", lambda image, size_hw, *_: np.zeros((*size_hw, 3), np.uint8))
        patch.setattr(export, "export_onnx", lambda *_, **__: None)  # the file is there already
        done = command("export", "detector.safetensors", "--verify", "photos")
    assert done.exit_code == 3
    differ = r"verdicts that differ            [123] of 3\n  photos/\S+: detector 0\.\d+, file 0\.\d+"
    assert re.search(differ, done.stdout)
    assert "not compared: photos/torn.png is no image" in done.stdout
    assert "note: detector.onnx: the exported file gives other verdicts on " in done.stderr


def test_the_file_is_compared_with_the_detector(command: Command, detector: str, photos: Path) -> None:
    done = command("export", detector, "--verify", "photos", "--verify", "good")
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines()[-1].startswith("wrote detector.onnx, ")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("compared on 6 images, threshold 0.")
    assert lines[3] == "verdicts that differ            0 of 6"
    for line in lines[1:3]:
        assert float(re.search(r"\d\.\d+$", line)[0]) < 0.001
    assert re.fullmatch(r"time of an image                \d+\.\d ms, \d+\.\d\d of the detector's", lines[4])
    what_differs_is_named(command, photos)
    facts = json.loads(command("info", "detector.onnx", "--json").stdout)
    assert facts["kind"] == "exported"
    assert facts["opset"] == 17
    assert facts["heatmap_hw"] == [96, 128]
    assert facts["normal_images"] == 3
    assert "hole" in facts["defects"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "64"], "--size: 64 is not HxW in pixels, such as 480x640"),
        (["-o", "o.txt"], "-o: o.txt must end in .onnx"),
        (["--verify", "nowhere"], "--verify: nowhere does not exist"),
    ],
)
def test_errors_are_one_line(command: Command, detector_file: Path, arguments: list[str], message: str) -> None:
    done = command("export", detector_file, *arguments)
    assert done.exit_code == 2
    assert done.stderr == f"error: {message}\n"
