"""`export(verify=)`: an exported file compared with its detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from patchclip import Detector, export
from patchclip.verification import Verification, verify

from .conftest import Exported


def test_what_counts_as_flipped_by_hand(tiny: Detector, normals: list[np.ndarray]) -> None:
    result = replace(tiny.predict(normals[0]), threshold=0.5)
    verification = Verification(threshold=0.5)
    pairs = {"a": (0.4, 0.4001), "b": (0.502, 0.499), "c": (0.5004, 0.4999), "d": (0.2, 0.7)}
    for name, (expected, found) in pairs.items():
        verification.add(name, replace(result, score=expected), replace(result, score=found))
    assert verification.scores == pytest.approx([0.0001, 0.003, 0.0005, 0.5])
    assert verification.heatmaps == [0, 0, 0, 0]
    assert verification.flipped == ["b: detector 0.5020, file 0.4990", "d: detector 0.2000, file 0.7000"]
    assert verification.flipped_within_margin == 1


def test_the_first_image_warms_up() -> None:
    verification = Verification(threshold=0.5, detector_s=[9.0, 1.0, 3.0], file_s=[9.0, 1.0, 1.0])
    assert verification.median_s == (2.0, 1.0)
    assert Verification(threshold=0.5, detector_s=[9.0], file_s=[3.0]).median_s == (9.0, 3.0)


def test_a_detector_and_its_file(
    tiny_file: Exported, images: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "export_onnx", lambda *_, **__: None)  # the file is there already
    detector, path = tiny_file
    assert detector.export(path) is None
    verification = detector.export(path, verify=[*images, images[0][:20], tmp_path / "absent.png"])
    assert verification is not None
    assert len(verification.scores) == len(verification.heatmaps) == len(verification.file_s) == 7
    assert max(verification.scores) <= max(verification.heatmaps) < 1e-3
    assert verification.flipped == []
    other_size, absent = verification.unreadable
    assert "20 x 128" in other_size
    assert "absent.png" in absent
    with pytest.raises(ValueError, match="expected a list of images, got one"):
        detector.export(path, verify=images[0])


def test_verdicts_that_flip_are_warned_of(tiny_file: Exported, images: list[np.ndarray]) -> None:
    anomalous = tiny_file.detector.predict(images[2])
    with pytest.warns(UserWarning, match=r"tiny\.onnx: the exported file gives other verdicts on 1 of 2 images"):
        verification = verify(lambda image: anomalous, tiny_file.path, [images[0], images[2]], threads=1)
    assert len(verification.flipped) == 1
