"""The examples as a user runs them."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import runpy
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest
from batch.ray_processes import RAY
from PIL import Image
from printed import assert_alike

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
        code = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_path(str(ROOT / "examples" / script), run_name="__main__")
            except SystemExit as exited:
                code = exited.code
    return Done(code, out.getvalue(), err.getvalue())


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


@pytest.mark.parametrize(
    "script",
    [
        "few_shot.py",
        "rank_folder.py",
        "course_dataset.py",
        "export_onnx.py",
        pytest.param("ray_batch.py", marks=RAY),
    ],
)
def test_an_example_prints_what_its_docstring_shows(script: str, tmp_path: Path) -> None:
    """In bfloat16 or float32: scores move by up to 0.01 from one to the other, and boxes by a few pixels."""
    source = (ROOT / "examples" / script).read_text()
    assert len(source.splitlines()) < 60
    docstring = ast.get_docstring(ast.parse(source))
    assert f"python examples/{script}\n" in docstring
    shown = [line[4:] for line in docstring.splitlines() if line.startswith("    ")]
    done = run_example(cwd=tmp_path, script=script)
    assert done.code == 0, done.err
    assert_alike("\n".join(shown), done.out.rstrip("\n"))
    assert list(tmp_path.iterdir()) == []


def test_overlays_of_a_ranking(tmp_path: Path) -> None:
    done = run_example(IMAGES, "--show", 2, "--overlays", "o", cwd=tmp_path, script="rank_folder.py")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["0001.png", "0002.png"]


def test_a_console_that_cannot_show_a_name(tmp_path: Path) -> None:
    latin_1 = os.fsdecode(b"m_pr\xfcfung.jpg")
    shutil.copy(IMAGES / "tile_crack.jpg", tmp_path / latin_1)
    command = [sys.executable, str(ROOT / "examples" / "heatmap.py"), os.fsencode(tmp_path / latin_1)]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert rb"m_pr\udcfcfung_overlay.png" in done.stdout
    assert (tmp_path / os.fsdecode(b"m_pr\xfcfung_overlay.png")).is_file()


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
