"""Many small images, and Ray on this machine; all its processes end with the tests that use it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from patchclip import Detector

from .ray_processes import ray_started

IMAGE_COUNT, CORRUPT_COUNT = 2000, 20


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Paths of 2,000 images of 48 x 64 pixels, every hundredth of them corrupt."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    surface = rng.integers(90, 160, (96, 128, 3), np.uint8)
    paths = []
    for index in range(IMAGE_COUNT):
        path = folder / f"{index:04d}.png"
        paths.append(str(path))
        if index % (IMAGE_COUNT // CORRUPT_COUNT) == 7:
            path.write_bytes(b"\x89PNG corrupt")
            continue
        top, left = rng.integers(48), rng.integers(64)
        image = surface[top : top + 48, left : left + 64].copy()
        if index % 10 == 3:
            image[8:20, 8:20] = 255
        Image.fromarray(image).save(path, compress_level=1)
    return paths


@pytest.fixture(scope="session")
def small_file(fitted: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small random CLIP, fitted with three images, in a file."""
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    fitted.save(path)
    return path


@pytest.fixture(scope="module")
def local_ray() -> Iterator[Any]:
    """The module `ray`, started with two processors and 200 MB of object store."""
    with ray_started(address="local", num_cpus=2, object_store_memory=200_000_000, include_dashboard=False) as ray:
        yield ray


@pytest.fixture
def shared_folder(tmp_path: Path) -> str:
    """Where rows are written."""
    return os.fspath(tmp_path / "rows")
