"""Overlays, heatmaps and masks that mirror the inputs, and the contact sheet."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
from PIL import Image

from patchclip import Detector

from .command_line import Command

LATIN_1 = os.fsdecode(b"m_pr\xfcfung.png")
LONG = "x" * 245 + ".png"  # its overlay's name is longer than 255 bytes
NAMES = ("=1+1.png", "a.png", LATIN_1, "ö_缺陷.png", LONG)


def test_heatmaps_and_masks(command: Command, photos: Path, detector_file: Path, fitted_tiny: Detector) -> None:
    done = command("predict", "photos", "--detector", detector_file, "--out", "run", "--heatmaps", "--masks", "-q")
    assert done.exit_code == 0
    for kind in ("heatmaps", "masks"):
        below = {path.relative_to(f"run/{kind}").as_posix() for path in Path(f"run/{kind}").rglob("*.png")}
        assert below == {"a.png.png", "sub/b.png.png", "sub/hole.png.png"}
    result = fitted_tiny.predict(photos / "sub" / "hole.png")
    with Image.open("run/heatmaps/sub/hole.png.png") as picture:
        assert picture.mode.startswith("I;16")
        heatmap = np.asarray(picture).astype(np.float64) / 65535
    np.testing.assert_allclose(heatmap, result.heatmap, atol=2e-5)
    with Image.open("run/masks/sub/hole.png.png") as picture:
        mask = np.asarray(picture)
    assert set(np.unique(mask)) == {0, 255}
    assert (mask > 0).sum() == result.mask.sum() > 0
    with Image.open("run/masks/a.png.png") as picture:
        assert not np.asarray(picture).any()
    with Image.open("run/contact_sheet.png") as sheet:
        assert sheet.size[0] == 3 * (256 + 4) - 4


def test_names_that_tables_and_systems_do_not_take(command: Command, tmp_path: Path, normals: list[np.ndarray]) -> None:
    (tmp_path / "photos").mkdir()
    for name in NAMES:
        Image.fromarray(normals[0]).save(tmp_path / "photos" / name)
    done = command("predict", "photos", "--threshold", "0", "--out", "run")
    assert done.exit_code == 0, done.stderr
    rows = list(csv.DictReader(Path("run/results.csv").read_bytes().decode("utf-8-sig").splitlines()))
    expected = ["=1+1.png", "a.png", r"m_pr\xfcfung.png", LONG, "ö_缺陷.png"]
    assert [row["image"].removeprefix("photos/") for row in rows] == expected
    assert {row["verdict"] for row in rows} == {"anomalous"}
    assert [bool(row["error"]) for row in rows] == [False, False, False, True, False]
    assert rows[3]["error"].startswith("no overlay: ")
    overlays = {path.name for path in Path("run/overlays").iterdir()}
    assert overlays == {f"{name}.png" for name in NAMES if name != LONG}


def test_cells_are_no_formulas(command: Command, tmp_path: Path, normals: list[np.ndarray]) -> None:
    Image.fromarray(normals[0]).save(tmp_path / "=1+1.png")
    assert command("predict", "=1+1.png", "--out", "run").exit_code == 0
    assert b"\r\n'=1+1.png," in Path("run/results.csv").read_bytes()
