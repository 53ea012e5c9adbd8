"""Regions and their names, and neighbours by faiss."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import fit_quietly

from patchclip import Detector
from patchclip.scoring.bank import FaissBank


def test_regions_are_consistent_with_the_heatmap(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model, defects=("dot", "ink blot"), precision="fp32")
    heatmap = detector.predict(normals[0]).heatmap
    detector.threshold = float(np.quantile(heatmap, 0.9))
    result = detector.predict(normals[0])
    assert result.is_anomalous
    assert sum(region.area_px for region in result.regions) == int((heatmap > detector.threshold).sum())
    assert [region.score for region in result.regions] == sorted((r.score for r in result.regions), reverse=True)
    assert result.regions[0].score == result.score
    for region in result.regions:
        left, top, right, bottom = region.box_xyxy
        assert 0 <= left < right <= 128
        assert 0 <= top < bottom <= 96
        highest = heatmap[top:bottom, left:right].max()  # another region may reach into the box
        assert highest >= region.score
        assert highest == pytest.approx(region.score) or len(result.regions) > 1
        assert region.defect in (None, "dot", "ink blot")
        assert (region.defect is None) == (region.confidence is None)
    detector.threshold = 1.0
    quiet = detector.predict(normals[0])
    assert (quiet.is_anomalous, quiet.regions, quiet.defect) == (False, (), None)


def test_a_single_defect_word_is_always_the_name(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model, defects=["crack"])
    detector.threshold = 0.0
    assert detector.predict(normals[0]).defect == "crack"
    nameless = Detector(local_model, defects=())
    nameless.threshold = 0.0
    assert nameless.predict(normals[0]).regions[0].defect is None


def test_a_threshold_changes_regions_and_nothing_else(fitted: Detector, normals: list[np.ndarray]) -> None:
    detector = copy.copy(fitted)
    before = detector.predict(normals[4])
    detector.threshold = 0.5 * before.score
    after = detector.predict(normals[4])
    assert (after.score, after.threshold, after.threshold_source) == (before.score, detector.threshold, "user")
    assert after.regions
    np.testing.assert_array_equal(after.heatmap, before.heatmap)


def test_faiss_gives_the_same_heatmaps(tiny: Detector, normals: list[np.ndarray], tmp_path: Path) -> None:
    exact = fit_quietly(copy.copy(tiny), normals[:4])
    fast = fit_quietly(Detector(neighbours="faiss", precision="fp32"), normals[:4])
    fast.save(tmp_path / "fast.safetensors")
    for detector in (fast, Detector.load(tmp_path / "fast.safetensors")):
        assert detector.options["neighbours"] == "faiss"
        assert detector.memory_ is not None
        assert all(isinstance(bank, FaissBank) for bank in detector.memory_.banks[0].values())
        apart = np.abs(detector.predict(normals[5]).heatmap - exact.predict(normals[5]).heatmap)
        assert apart.mean() < 1e-3


@pytest.mark.parametrize("recipe", ["dense", "winclip"])
def test_a_moved_threshold_needs_no_network(
    recipe: str, local_model: str, normals: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = fit_quietly(Detector(local_model, recipe=recipe, precision="fp32"), normals[:2])
    prepared = [detector.prepare(normals[4])]
    score = detector.predict(normals[4]).score
    expected = {}
    for threshold in (0.0, score - 1e-4, score + 1e-4):
        detector.threshold = threshold
        expected[threshold] = detector.predict(normals[4])
    [measured] = detector.measure(prepared)
    monkeypatch.setattr(detector.backbone, "encode", None)
    small = measured.shrunk(50)
    assert small.image.shape == (38, 50, 3)
    assert small.heatmap.shape == (38, 50)
    assert measured.shrunk(1000).image.shape == measured.image.shape
    assert float(small.heatmap.max()) == pytest.approx(float(measured.heatmap.max()), rel=1e-6)
    for threshold, result in expected.items():
        detector.threshold = threshold
        again = detector.judge(measured)
        assert again.to_dict() == result.to_dict()
        assert np.array_equal(again.mask, result.mask)
        shown = detector.judge(small)
        assert (shown.score, shown.is_anomalous) == (result.score, result.is_anomalous)
        assert bool(shown.regions) == bool(result.regions)


def test_the_callers_precision_does_not_reach_the_names() -> None:
    """The text is encoded at the first name."""
    image = Path(__file__).parent.parent / "examples" / "images" / "tile_crack.jpg"
    expected, detector = Detector(precision="fp32"), Detector(precision="fp32")
    expected.threshold = detector.threshold = 0.1
    [measured] = detector.measure([detector.prepare(image)])
    with torch.autocast("cpu", torch.bfloat16):
        result = detector.judge(measured)
    assert result.confidence is not None
    assert result.to_dict() == expected.predict(image).to_dict()
