"""benchmarks/kinds.py."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import kinds
from kinds import Defects, calibration_error, make_product, measure
from patchclip import Detector


def drawn(seed: int, spread: float) -> Defects:
    """Twelve defects of each of six kinds, each about an axis of its own, of four equal views."""
    rng = np.random.default_rng(seed)
    names = np.repeat([f"kind {index}" for index in range(6)], 12)
    vectors = np.repeat(np.eye(6, 8), 12, axis=0) + spread * rng.normal(size=(72, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return names, np.repeat(vectors.astype(np.float32)[:, None], 4, axis=1)


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55, 1.0])
    right = np.array([1, 0, 1, 0, 1])
    weights = np.array([1, 1, 1, 3, 1])
    error, bins = calibration_error(np.stack([confidence, right, weights], 1))
    assert bins == [pytest.approx((4 / 7, 0.55, 1 / 4)), pytest.approx((3 / 7, 2.9 / 3, 2 / 3))]
    assert error == pytest.approx(4 / 7 * 0.3 + 3 / 7 * 0.3)


def test_kinds_apart_are_named_and_kinds_alike_are_not() -> None:
    figures, shown = measure([drawn(0, 0.05)], [1, 4], draws=4)
    assert set(figures) == {(12, 1), (12, 4), (5, 1), (5, 4)}
    for (_, count), found in figures.items():
        assert np.mean(found.likeliest) == 1
        assert len(found.right) == 4
        if count == 4:
            assert np.mean(found.untaught_without_name) > 0.9
        for right, without in zip(found.right, found.without_name, strict=True):
            assert right + without == pytest.approx(1)
    assert shown[:, 1].mean() > 0.8
    alike, _ = measure([drawn(0, 5.0)], [4], draws=4)
    assert np.mean(alike[5, 4].likeliest) < 0.5


def test_a_product(tiny: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = copy.copy(tiny)
    monkeypatch.setattr(kinds, "KINDS", ("hole", "scratch"))
    monkeypatch.setattr(kinds, "_NORMALS", 3)
    names, views = make_product(detector, 1, 2)
    assert set(names) <= {"hole", "scratch"}
    assert views.shape == (len(names), 4, 1376)
    again, _ = make_product(detector, 1, 2)
    assert again.tolist() == names.tolist()
