"""A folder run with names that tables, consoles and file systems do not take."""

from __future__ import annotations

import csv
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"

LATIN_1 = os.fsdecode(b"m_pr\xfcfung.png")
LONG = "x" * 245 + ".png"  # its overlay's name is longer than 255 bytes
NAMES = ("=1+1.png", "a.png", LATIN_1, "ö_缺陷.png", LONG)


def write_photos(folder: Path, *names: str) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in names:
        values = (120 + rng.normal(0, 4, (48, 64, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(values).save(folder / name)


def run_folder(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(sys, "argv", ["folder.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            runpy.run_path(str(EXAMPLES / "folder.py"), run_name="__main__")
    return int(exited.value.code or 0)


def test_a_folder_run_survives_every_name(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", *NAMES)
    out = tmp_path / "out"
    assert run_folder(tmp_path / "photos", "--threshold", "0", "--out", out) == 0
    content = (out / "verdicts.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")  # for Excel
    rows = list(csv.DictReader(content.decode("utf-8-sig").splitlines()))
    assert [row["image"] for row in rows] == ["'=1+1.png", "a.png", r"m_pr\xfcfung.png", LONG, "ö_缺陷.png"]
    assert {row["verdict"] for row in rows} == {"anomalous"}
    assert [bool(row["fault"]) for row in rows] == [False, False, False, True, False]
    assert "no overlay: " in rows[3]["fault"]
    overlays = sorted(path.name for path in (out / "overlays").iterdir())
    assert overlays == sorted(f"{name}.overlay.png" for name in NAMES if name != LONG)


def test_without_a_letter_beyond_ascii_there_is_no_byte_order_mark(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", "a.png")
    assert run_folder(tmp_path / "photos", "--out", tmp_path / "out") == 0
    assert (tmp_path / "out/verdicts.csv").read_bytes().startswith(b"image,verdict,score")
    defects = ("--defects", "Riß")
    assert run_folder(tmp_path / "photos", "--out", tmp_path / "out", *defects) == 0
    assert (tmp_path / "out/verdicts.csv").read_bytes().startswith(b"\xef\xbb\xbfimage,verdict,score")


def test_a_console_that_cannot_show_a_name(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", LATIN_1)
    command = [sys.executable, str(EXAMPLES / "heatmap.py"), os.fsencode(tmp_path / "photos" / LATIN_1)]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert rb"m_pr\udcfcfung_overlay.png" in done.stdout
    assert (tmp_path / os.fsdecode(b"m_pr\xfcfung_overlay.png")).is_file()
