"""Fixtures of the benchmarks' tests: small data sets, and one run that several tests look at."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from accuracy.main import main
from accuracy.methods.base import Settings
from accuracy.methods.table import METHODS
from patchclip.synthetic import Surface

from .runs import write_course, write_mvtec

#: All that need no other package.
RUN_METHODS = [name for name in METHODS if not name.startswith("anomalib")]


@pytest.fixture
def data(tmp_path: Path, surface: Surface) -> Path:
    """See `write_mvtec`; the test may change it."""
    return write_mvtec(tmp_path / "fabric", surface)


@pytest.fixture
def settings(local_model: str, tmp_path: Path) -> Settings:
    return Settings(work=tmp_path, model=local_model, precision="fp32", batch_size=3)


@pytest.fixture(scope="session")
def paths(
    normals: list[np.ndarray], defective: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Six normal images and a defective one on disk."""
    folder = tmp_path_factory.mktemp("images")
    found = []
    for index, image in enumerate([*normals, defective[0]]):
        found.append(folder / f"{index}.png")
        Image.fromarray(image).save(found[-1])
    return found


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory, local_model: str, surface: Surface) -> Path:
    """--out of a run of every method: a category whose name needs escaping, a course layout, latency and remarks.

    What it printed is in printed.txt. Tests do not change it.
    """
    folder = tmp_path_factory.mktemp("run")
    category = write_mvtec(folder / "a & b <i>", surface)
    (category / "test" / "good" / "notes.txt").write_text("x")
    course = write_course(folder / "course", surface)
    out = folder / "out"
    arguments = ["--data", str(category), "--data", str(course), "--methods", *RUN_METHODS, "--shots", "0", "2"]
    arguments += ["--seeds", "2", "--latency", "0.001", "--model", local_model, "--precision", "fp32"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        main([*arguments, "--batch-size", "4", "--out", str(out)])
    (out / "printed.txt").write_text(printed.getvalue(), encoding="utf-8")
    return out
