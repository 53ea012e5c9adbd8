"""A run that is killed twice and goes on: one row for each of 1,000 images, 10 of which are unreadable."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES, UNREADABLE = 1000, 10


def write_images(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        path = folder / f"{index:04d}.png"
        if index % (IMAGES // UNREADABLE) == 7:
            path.write_bytes(b"torn")
        else:
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(path)


def count_rows(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_two_kills_lose_and_double_nothing(tmp_path: Path, local_model: str) -> None:
    write_images(tmp_path / "photos")
    results = tmp_path / "run" / "results.jsonl"
    line = [sys.executable, "-m", "patchclip", "predict", "photos", "--model", local_model, "--threshold", "0.52"]
    line += ["--out", "run", "--resume", "-q"]
    for least in (150, 500):
        process = subprocess.Popen(line, cwd=tmp_path)
        while count_rows(results) < least:
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert least <= count_rows(results) < IMAGES
    with open(results, "a", encoding="utf-8") as file:
        file.write('{"schema": 1, "image": "photos/0')  # as a full disk would leave it
    assert subprocess.run(line, cwd=tmp_path).returncode == 3
    rows = [json.loads(row) for row in results.read_text(encoding="utf-8").splitlines()]
    expected = [f"photos/{index:04d}.png" for index in range(IMAGES)]
    assert [row["image"] for row in rows] == expected
    verdicts = Counter(row["verdict"] for row in rows)
    assert verdicts["unreadable"] == UNREADABLE
    table = list(csv.DictReader((tmp_path / "run" / "results.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert [row["image"] for row in table] == expected
    for row in rows:
        if row["verdict"] == "anomalous":
            with Image.open(tmp_path / "run" / row["overlay"]) as overlay:
                overlay.load()
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["counts"] == dict(verdicts)
    assert run["status"] == "done"
