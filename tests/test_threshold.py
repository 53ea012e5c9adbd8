"""Thresholds of fitted and calibrated detectors, what guarantees them, and the warnings about too few images."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import FEW, fit_quietly

from patchclip import Detector
from patchclip.synthetic import sample_surface
from patchclip.threshold import from_normal_scores


@FEW
def test_one_shot_has_a_threshold_from_its_variations(detector: Detector, normals: list[np.ndarray]) -> None:
    detector.fit(normals[:1])
    assert detector.threshold_source == "fit"
    assert not detector.threshold_guaranteed
    assert not detector.predict(normals[0]).is_anomalous


def test_fewer_images_than_the_rate_needs_are_warned_of(
    detector: Detector, local: Detector, normals: list[np.ndarray]
) -> None:
    with pytest.warns(UserWarning, match="6 normal images cannot fix a false-positive rate of 0.05, which takes 19"):
        detector.fit(normals)
    with pytest.warns(UserWarning, match="calibrate: 2 normal images cannot fix a .* rate of 0.3, which takes 3"):
        copy.copy(local).calibrate(normals[:2], max_false_positive_rate=0.3)


def test_warnings_name_the_line_that_called(detector: Detector, normals: list[np.ndarray]) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        detector.fit([normals[0], normals[0]])
        detector.calibrate([normals[0], normals[0]])
    assert len(found) == 4  # of copies and of an extrapolation each
    assert {Path(warning.filename).name for warning in found} == {"test_threshold.py"}


def test_calibration_moves_the_threshold_alone(detector: Detector, normals: list[np.ndarray]) -> None:
    before = detector.predict(normals[0]).heatmap
    many = [np.roll(normals[k % 6], 5 * k, axis=1) for k in range(24)]
    detector.calibrate(many)  # at the detector's rate of 0.05
    assert (detector.threshold_source, detector.threshold_guaranteed) == ("calibrate", True)
    highest = max(detector.predict(normal).score for normal in many)
    assert detector.threshold == pytest.approx(highest, abs=1e-5)  # a batch rounds otherwise than one image
    assert np.array_equal(detector.predict(normals[0]).heatmap, before)
    with pytest.raises(ValueError, match="at least 2"):
        detector.calibrate(normals[:1])
    assert detector.threshold_source == "calibrate"


@FEW
def test_leave_one_out_scores_leave_one_out(local_model: str) -> None:
    """The threshold of 9 images at 10 % is the largest score that an image has against the 8 others."""
    surface = sample_surface(np.random.default_rng(1), ["leather"])
    images = [surface.photograph(surface.render(seed, (64, 64)), seed) for seed in range(9)]
    detector = Detector(local_model, cues=("tokens",), precision="fp32", max_false_positive_rate=0.1)
    scores = []
    for index, image in enumerate(images):
        detector.fit(images[:index] + images[index + 1 :])
        scores.append(detector.predict(image).score)
    assert detector.fit(images).threshold == pytest.approx(max(scores), abs=1e-6)


def test_variations_of_single_images_fix_no_rate(local_model: str, normals: list[np.ndarray]) -> None:
    """20 classes of one image each have 120 variations, which vary less than 19 images would."""
    detector = Detector(local_model, image_size=32)
    several = {str(index): [np.roll(normals[index % 6], 5 * index, axis=1)] for index in range(20)}
    with pytest.warns(UserWarning, match=r"20 normal images cannot fix .* since images alone in their class do not"):
        detector.fit(several)
    several["0"] = [np.roll(normals[0], 7 * shift, axis=1) for shift in range(19)]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*extrapolation")
        detector.fit(several)  # the 19 fix it


@FEW
def test_images_that_fit_has_seen_calibrate_nothing(
    fitted: Detector, detector: Detector, normals: list[np.ndarray], tmp_path: Path
) -> None:
    fitted.save(tmp_path / "d.safetensors")
    for seen in (copy.copy(fitted), Detector.load(tmp_path / "d.safetensors")):
        with pytest.warns(UserWarning, match="2 of 4 images are copies"):
            seen.calibrate([normals[0], normals[1], normals[4], normals[5]], max_false_positive_rate=0.3)
        assert not seen.threshold_guaranteed
    with pytest.warns(UserWarning, match="1 of 3 images are copies"):
        detector.calibrate([normals[4], normals[5], normals[4].copy()])


@FEW
def test_the_usual_spread_counts_after_a_fit_alone(
    tiny: Detector, fitted_tiny: Detector, normals: list[np.ndarray]
) -> None:
    """Scores before a fit are on the scale of the text, whose spread is another."""
    spread = tiny.backbone.model.defaults.score_spread
    assert spread is not None
    for unchanged, expected_spread in ((tiny, None), (fitted_tiny, spread)):
        detector = copy.copy(unchanged)
        scores = np.array([result.score for result in detector.predict_batch(normals[3:])])
        expected = from_normal_scores(scores, 0.05, "calibrate", usual_spread=expected_spread)
        assert detector.calibrate(normals[3:]).threshold == pytest.approx(expected.value, abs=1e-6)


@FEW
def test_a_fit_without_mapping_and_one_of_one_class_agree(detector: Detector, normals: list[np.ndarray]) -> None:
    threshold = fit_quietly(detector, normals[:3]).threshold
    assert fit_quietly(detector, {"all": normals[:3]}).threshold == threshold
