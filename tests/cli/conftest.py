"""A tree of photographs and a detector file; the command, in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from patchclip import Detector
from patchclip.cli.app import app

from .command_line import Command


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `patchclip` with these arguments in an empty folder, which is `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, stdin: bytes | None = None) -> Result:
        monkeypatch.setattr("sys.argv", ["patchclip", *map(str, arguments)])
        result = CliRunner().invoke(app, list(map(str, arguments)), input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def photos(tmp_path: Path, normals: list[np.ndarray], defective: tuple[np.ndarray, np.ndarray]) -> Path:
    """A folder "photos" in `tmp_path`: images a.png and sub/b.png, sub/hole.png with a defect, and what is no image."""
    folder = tmp_path / "photos"
    for name, image in {"a.png": normals[3], "sub/b.png": normals[4], "sub/hole.png": defective[0]}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "ground_truth").mkdir()
    Image.fromarray(defective[1].astype(np.uint8) * 255).save(folder / "ground_truth" / "hole.png")
    return folder


@pytest.fixture
def good(tmp_path: Path, normals: list[np.ndarray]) -> Path:
    """A folder "good" in `tmp_path` of three normal images, those of `detector_file`."""
    folder = tmp_path / "good"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(normals[index]).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def detector_file(fitted_tiny: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model, fitted to the first three normal images, in a file."""
    path = tmp_path_factory.mktemp("detector") / "fitted.safetensors"
    fitted_tiny.save(path)
    return path
