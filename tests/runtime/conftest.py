"""Detectors with their exported files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from conftest import fit_quietly

from patchclip import Detector


class Exported(NamedTuple):
    """A detector and its file."""

    detector: Detector
    path: Path


@pytest.fixture(scope="session")
def tiny_file(fitted_tiny: Detector, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The embedded model, fitted with three normal images of 96 x 128."""
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    fitted_tiny.export(path)
    return Exported(fitted_tiny, path)


@pytest.fixture(scope="session")
def classes_file(local_model: str, normals: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The small random CLIP, fitted with two classes, whose threshold the user has set."""
    detector = Detector(local_model, precision="fp32", cues=("tokens", "texture"), defects=("hole", "dot"))
    fit_quietly(detector, {"light": normals[:3], "dark": [255 - image for image in normals[:3]]})
    detector.threshold = 0.45
    path = tmp_path_factory.mktemp("exported") / "classes.onnx"
    detector.export(path)
    return Exported(detector, path)
