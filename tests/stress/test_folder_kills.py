"""A run over a folder that is killed: what it has written is whole, and the next run ends as an unbroken one does."""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.stress

PROGRAM = Path(__file__).parents[2] / "examples" / "folder.py"
KILLS = 20


def start(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(PROGRAM), str(folder), "--normals", str(folder / "normals"), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def read_rows(out: Path) -> list[list[str]]:
    with open(out / "verdicts.csv", newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_kills_of_a_folder_run_lose_nothing(
    normals: list[np.ndarray], defective: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    (tmp_path / "photos" / "normals").mkdir(parents=True)
    for index in range(3):
        Image.fromarray(normals[index]).save(tmp_path / "photos" / "normals" / f"{index}.png")
    for index in range(80):
        image = defective[0] if index % 2 else normals[3 + index % 3]
        Image.fromarray(image).save(tmp_path / "photos" / f"{index:03d}.png")
    begun = time.monotonic()
    assert start(tmp_path / "photos", tmp_path / "whole").wait(timeout=300) == 0
    whole_s = time.monotonic() - begun
    expected = read_rows(tmp_path / "whole")
    out, rng, lengths = tmp_path / "killed", random.Random(0), []
    for _ in range(KILLS):
        process = start(tmp_path / "photos", out)
        time.sleep(rng.uniform(0.3, 1) * whole_s)
        process.kill()
        process.wait()
        if not (out / "verdicts.csv").exists():
            continue  # killed before the first image
        text = (out / "verdicts.csv").read_text(encoding="utf-8")
        rows = read_rows(out)
        assert text == "" or text.endswith("\n")
        assert rows == expected[: len(rows)]
        for row in rows[1:]:
            if row[1] == "anomalous":
                with Image.open(out / "overlays" / f"{row[0]}.overlay.png") as overlay:
                    overlay.load()
        lengths.append(len(rows))
    assert start(tmp_path / "photos", out).wait(timeout=300) == 0
    assert read_rows(out) == expected
    overlays = [{path.name for path in (folder / "overlays").iterdir()} for folder in (out, tmp_path / "whole")]
    assert overlays[0] == overlays[1]
    print(f"\n{KILLS} kills of a folder run of {len(expected) - 1} images: {sorted(lengths)} whole lines, none torn")
    assert len(set(lengths)) > 2  # some were killed between images
