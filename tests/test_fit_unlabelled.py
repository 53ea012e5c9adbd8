"""`Detector.fit_unlabelled`: which patches stay out of the banks, and the threshold."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FEW, fit_quietly, make_extractor

from patchclip import Detector, Ranking
from patchclip.normal_scores import NormalScore
from patchclip.threshold import Threshold, threshold_of


def bank_of(detector: Detector) -> torch.Tensor:
    memory = detector.memory_
    assert memory is not None
    return memory.banks[0]["tokens"].vectors


def odd_level(ranking: Ranking) -> float:
    """The oddest patch of half of the five most normal images of seven."""
    return float(np.median([float(item.patch_map.max()) for item in ranking.most_anomalous(7)[2:]]))


def test_fit_on_unlabelled_images(
    detector: Detector, ranking: Ranking, images: list[np.ndarray], tmp_path: Path
) -> None:
    """All patches but the odd ones: 0.2 of seven images are two, rounded up, and five are the most normal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert detector.fit_unlabelled(iter(images), progress=False) is detector
    assert (detector.threshold_source, detector.threshold_guaranteed) == ("fit_unlabelled", False)
    assert [normal.name for normal in detector.normal_scores_] == [f"image {index}" for index in range(7)]
    level = odd_level(ranking)
    anomalous = {item.index for item in ranking.most_anomalous(2)}
    extractor = make_extractor(detector)
    kept = []
    odd_counts = []
    for item, image in zip(ranking.items, images, strict=True):
        [(_, features)] = extractor.extract([detector.prepare(image)], with_text=False, with_banks=True)
        is_odd = item.patch_map > (level if item.index in anomalous else 1)
        kept.append(features.vectors["tokens"][0][~is_odd])
        odd_counts.append(int(is_odd.sum()))
    assert odd_counts[2] > 0
    assert np.count_nonzero(odd_counts) <= 2
    torch.testing.assert_close(bank_of(detector), torch.cat(kept))
    plain = fit_quietly(copy.copy(detector), images)
    assert detector.predict(images[2]).score > plain.predict(images[2]).score
    detector.save(tmp_path / "detector.safetensors")
    loaded = Detector.load(tmp_path / "detector.safetensors")
    assert (loaded.threshold_source, loaded.threshold) == ("fit_unlabelled", detector.threshold)


@FEW
def test_odd_patches_stay_out_of_turned_copies(
    detector: Detector, local_model: str, images: list[np.ndarray], ranking: Ranking
) -> None:
    detector.fit_unlabelled(images, progress=False)
    turning = Detector(local_model, precision="fp32", cues=("tokens",), rotations=4, flips=True)
    turning.fit_unlabelled(images, progress=False)
    assert len(bank_of(turning)) == 8 * len(bank_of(detector))
    odd = ranking.items[2].patch_map > odd_level(ranking)
    assert len(bank_of(detector)) < 7 * odd.numel()
    detector.fit_unlabelled(images, at_most_anomalous=0, progress=False)
    assert len(bank_of(detector)) == 7 * odd.numel()


@FEW
def test_odd_patches_stay_out_of_every_bank(tiny: Detector, images: list[np.ndarray]) -> None:
    """On grids of several sizes."""
    detector = copy.copy(tiny)
    detector.fit_unlabelled(images, progress=False)
    memory = detector.memory_
    assert memory is not None
    unlabelled = {name: len(bank) for name, bank in memory.banks[0].items()}
    detector.fit_unlabelled(images, at_most_anomalous=0, progress=False)
    memory = detector.memory_
    assert memory is not None
    for name, bank in memory.banks[0].items():
        assert 0.5 * len(bank) < unlabelled[name] < len(bank), name


def test_the_threshold_leaves_out_as_many_as_stated() -> None:
    """Six of 42, without a warning; a fit counts them, since more than a tenth may be a second kind."""

    def set_threshold(source: str, **most_left_out: float) -> Threshold:
        normals = [NormalScore(f"image {index}", None, score) for index, score in enumerate(scores)]
        return threshold_of(normals, 0.05, source, usual_spread=None, **most_left_out)

    scores = [*np.linspace(0.04, 0.05, 36), 0.5, 0.5, 0.6, 0.6, 0.6, 0.6]
    found = set_threshold("fit_unlabelled", most_left_out=0.2)
    assert (found.value, found.source, found.guaranteed) == (0.05, "fit_unlabelled", False)
    assert [normal.counts for normal in found.normal_scores] == [True] * 36 + [False] * 6
    with pytest.warns(UserWarning, match="too many to be left out"):
        assert set_threshold("fit").value == 0.6


@FEW
def test_unreadable_unlabelled_images_are_left_out(detector: Detector, normals: list[np.ndarray]) -> None:
    with pytest.warns(UserWarning, match="1 of 7 images are unreadable and left out; the first is image 6"):
        detector.fit_unlabelled([*normals, b"bad"], at_most_anomalous=0, progress=False)
    assert len(detector.normal_scores_) == 6
    before = detector.memory_
    for wrong in (-0.1, 1.0):
        with pytest.raises(ValueError, match="at_most_anomalous"):
            detector.fit_unlabelled(normals, at_most_anomalous=wrong, progress=False)
    with pytest.raises(ValueError, match="at least two readable"):
        detector.fit_unlabelled(normals[:1], progress=False)
    assert detector.memory_ is before
