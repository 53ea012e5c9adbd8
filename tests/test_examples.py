"""The examples as a user runs them, and the README's first lines."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "examples" / "images"


class Done(NamedTuple):
    code: int
    out: str
    err: str


def run_example(*arguments: object, cwd: Path, script: str = "heatmap.py") -> Done:
    """In this process, whose libraries are loaded already."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("default")
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        patch.chdir(cwd)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as exited:
            runpy.run_path(str(ROOT / "examples" / script), run_name="__main__")
    return Done(exited.value.code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def with_normals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    """heatmap.py on a cracked tile, fitted with normal ones, and where its overlay goes."""
    folder = tmp_path_factory.mktemp("heatmap")
    done = run_example(IMAGES / "tile_crack.jpg", "--normals", IMAGES / "tile_normal", cwd=folder)
    return done, folder / "tile_crack_overlay.png"


def test_an_image_alone(tmp_path: Path) -> None:
    """In a process of its own, as from a shell."""
    image = IMAGES / "tile_crack.jpg"
    command = [sys.executable, str(ROOT / "examples" / "heatmap.py"), str(image)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert {"score", "verdict", "threshold", "overlay"} <= lines.keys()
    assert 0 < float(lines["score"]) < 1
    with Image.open(tmp_path / "tile_crack_overlay.png") as overlay, Image.open(image) as given:
        assert overlay.size == given.size


def test_an_image_with_normal_ones(with_normals: tuple[Done, Path], tmp_path: Path) -> None:
    done, overlay = with_normals
    assert done.code == 0, done.err
    assert "anomalous" in done.out
    assert "(fit)" in done.out
    assert overlay.exists()
    few = run_example(
        IMAGES / "tile_crack.jpg", "--normals", IMAGES / "tile_normal", "--shots", 1, "--out", "o.png", cwd=tmp_path
    )
    assert few.code == 0, few.err
    assert "note       fit: one normal image cannot fix" in few.out
    assert [path.name for path in tmp_path.iterdir()] == ["o.png"]


def test_a_folder_becomes_a_table(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(IMAGES / "tile_crack.jpg", photos)
    shutil.copy(IMAGES / "tile_normal" / "3.jpg", photos)
    (photos / "torn.png").write_bytes(b"not a picture")
    first = run_example(photos, "--normals", IMAGES / "tile_normal", "--out", "a", cwd=tmp_path, script="folder.py")
    assert first.code == 0, first.err
    assert "note: fit: 4 normal images cannot fix" in first.err
    again = run_example(photos, "--detector", "a/detector.safetensors", "--out", "b", cwd=tmp_path, script="folder.py")
    assert again.code == 0, again.err
    text = (tmp_path / "a" / "verdicts.csv").read_text()
    assert text == (tmp_path / "b" / "verdicts.csv").read_text()
    rows = {row["image"]: row for row in csv.DictReader(text.splitlines())}
    assert [row["verdict"] for row in rows.values()] == ["normal", "anomalous", "unreadable"]
    crack = rows["tile_crack.jpg"]
    assert crack["threshold_source"] == "fit"
    assert float(crack["score"]) > float(crack["threshold"]) > float(rows["3.jpg"]["score"])
    assert len(crack["boxes left top right bottom"].split("; ")[0].split()) == 4
    assert "torn.png is no image" in rows["torn.png"]["fault"]
    assert [path.name for path in (tmp_path / "b" / "overlays").iterdir()] == ["tile_crack.jpg.overlay.png"]


def test_a_folder_without_labels_is_ranked(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(IMAGES / "tile_normal", photos)
    shutil.copy(IMAGES / "tile_crack.jpg", photos)
    (photos / "torn.png").write_bytes(b"not a picture")
    done = run_example(photos, "--show", 2, "--normals", 3, cwd=tmp_path, script="rank_folder.py")
    assert done.code == 0, done.err
    assert re.match(r" +1  score 0\.\d{3}  tile_crack.jpg\n +2 ", done.out), done.out
    assert "1 of 6 images are unreadable" in done.out
    rows = list(csv.DictReader((tmp_path / "ranking" / "ranking.csv").read_text().splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5", ""]
    assert Path(rows[0]["path"]).name == "tile_crack.jpg"
    assert "torn.png is no image" in rows[5]["error"]
    overlays = sorted(path.name for path in (tmp_path / "ranking" / "overlays").iterdir())
    assert len(overlays) == 2
    assert overlays[0] == "0001_tile_crack.jpg.overlay.png"
    normals = (tmp_path / "ranking" / "normals.txt").read_text().splitlines()
    assert normals == [row["path"] for row in rows[4:1:-1]]  # the most normal first
    missing = run_example("nowhere", "--out", "other", cwd=tmp_path, script="rank_folder.py")
    assert missing.code == 2
    assert missing.err == "error: nowhere is not a folder: give a folder of images\n"
    assert not (tmp_path / "other").exists()


def test_a_saved_detector_with_another_threshold(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    shutil.copy(IMAGES / "tile_crack.jpg", photos)
    shutil.copy(IMAGES / "tile_normal" / "3.jpg", photos)
    (photos / "torn.png").write_bytes(b"not a picture")
    fitted = run_example(photos, "--normals", IMAGES / "tile_normal", "--out", "b", cwd=tmp_path, script="folder.py")
    assert fitted.code == 0, fitted.err
    detector = ("--detector", "b/detector.safetensors", "--out", "c")
    high = run_example(photos, *detector, "--threshold", 0.9, cwd=tmp_path, script="folder.py")
    assert re.search(r"normal +2\n.*unreadable +1\n", high.out, re.S), high.out
    assert f"note: {photos}: 1 entries are not images and are left out, such as more" in high.err
    own = run_example(photos, *detector, "--calibrate", IMAGES / "metal_normal", cwd=tmp_path, script="folder.py")
    assert own.code == 0, own.err
    assert "note: calibrate: 4 normal images cannot fix" in own.err
    missing = run_example("nowhere", cwd=tmp_path, script="folder.py")
    assert missing.code == 2
    assert missing.err == "error: nowhere is not a folder: give a folder of images\n"
    assert not (tmp_path / "verdicts").exists()


def test_the_readme_says_what_is_printed(
    with_normals: tuple[Done, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16 or float32: scores move by up to 0.01 from one to the other, and boxes by a few pixels."""
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"```\n(note .*?)```", readme, re.S)[1]
    python_and_output = r"```python\n(from patchclip import Detector\n.*?)```\n\n```\n(.*?)```"
    code, said_by_python = re.search(python_and_output, readme, re.S).groups()
    monkeypatch.chdir(tmp_path)  # an overlay is saved
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code.replace('"examples/', f'"{ROOT}/examples/'), {})
    assert [path.name for path in tmp_path.iterdir()] == ["overlay.png"]
    number = re.compile(r"\d+(?:\.\d+)?")
    for said, found in ((shown, with_normals[0].out), (said_by_python, printed.getvalue())):
        assert number.sub("#", found) == number.sub("#", said)
        for one, other in zip(number.findall(said), number.findall(found), strict=True):
            assert float(other) == pytest.approx(float(one), rel=0.1, abs=0.01 if "." in one else 6)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["absent.jpg"], "absent.jpg does not exist"),
        (["absent.jpg", "--normals", "."], ". has no images (.jpg"),
        (["absent.jpg", "--normals", "nowhere"], "nowhere is not a folder"),
        (["absent.jpg", "--model", "ViT-B16"], "did you mean"),
        (["absent.jpg", "--out", "absent.jpg"], "absent.jpg is the image itself"),
        (["absent.jpg", "--out", "overlay"], "overlay does not end as a picture does"),
        (["absent.jpg", "--out", "nowhere/o.png"], "the folder nowhere does not exist"),
        (["absent.jpg", "--shots", "3"], "--shots takes a number of at least 1"),
    ],
)
def test_the_example_says_what_is_wrong(arguments: list[str], reason: str, tmp_path: Path) -> None:
    done = run_example(*arguments, cwd=tmp_path)
    assert done.code == 2
    assert reason in done.err
