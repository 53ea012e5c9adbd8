"""A run of `patchclip predict` that is killed: what it has written is whole, and the next one ends as if unbroken."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.stress

KILLS = 20


def start(root: Path, out: Path, option: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "patchclip", "predict", str(root / "photos"), "--normals", str(root / "normals")]
    return subprocess.Popen([*command, "--out", str(out), option, "-q"])


def read_rows(out: Path) -> list[dict[str, object]]:
    lines = (out / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def read_table(out: Path) -> list[list[str]]:
    with open(out / "results.csv", newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))


def test_kills_of_a_folder_run_lose_nothing(
    normals: list[np.ndarray], defective: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    for name in ("photos", "normals"):
        (tmp_path / name).mkdir()
    for index in range(3):
        Image.fromarray(normals[index]).save(tmp_path / "normals" / f"{index}.png")
    for index in range(80):
        image = defective[0] if index % 2 else normals[3 + index % 3]
        Image.fromarray(image).save(tmp_path / "photos" / f"{index:03d}.png")
    begun = time.monotonic()
    assert start(tmp_path, tmp_path / "whole", "--overwrite").wait(timeout=300) == 0
    whole_s = time.monotonic() - begun
    expected = read_rows(tmp_path / "whole")
    out, rng, lengths = tmp_path / "killed", random.Random(0), []
    for _ in range(KILLS):
        process = start(tmp_path, out, "--overwrite")
        time.sleep(rng.uniform(0.3, 1) * whole_s)
        process.kill()
        process.wait()
        if not (out / "results.jsonl").exists():
            continue  # killed before the first image
        rows = read_rows(out)
        assert rows == expected[: len(rows)]
        for row in rows:
            if row["overlay"]:
                with Image.open(out / str(row["overlay"])) as overlay:
                    overlay.load()
        lengths.append(len(rows))
    assert start(tmp_path, out, "--resume").wait(timeout=300) == 0
    assert [row["image"] for row in read_rows(out)] == [row["image"] for row in expected]
    assert read_table(out) == read_table(tmp_path / "whole")
    overlays = [{path.name for path in (folder / "overlays").iterdir()} for folder in (out, tmp_path / "whole")]
    assert overlays[0] == overlays[1]
    print(f"\n{KILLS} kills of a run of {len(expected)} images: {sorted(lengths)} whole rows, none torn")
    assert len(set(lengths)) > 2  # some were killed between images
