"""Results: heatmaps that stay on the device, their form in JSON, their pictures."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from patchclip import Detector


def test_heatmaps_stay_on_the_device_until_asked_for(local: Detector, normals: list[np.ndarray]) -> None:
    result = local.predict(normals[0])
    assert "heatmap" not in vars(result)
    assert result.to_dict()["size_hw"] == list(normals[0].shape[:2])
    assert "heatmap" not in vars(result)
    assert result.heatmap is result.heatmap
    assert result.heatmap.shape == normals[0].shape[:2]
    assert float(result.heatmap.max()) == result.score


def test_the_image_is_upright_and_public(local: Detector, normals: list[np.ndarray]) -> None:
    result = local.predict(normals[0].astype(np.float32) / 255)
    assert result.image.dtype == np.uint8
    np.testing.assert_array_equal(result.image, normals[0])


def test_to_dict_and_overlay(local_model: str, detector: Detector, normals: list[np.ndarray]) -> None:
    whole_image = Detector(local_model, scales=(0,), smoothing=0, precision="fp32")  # one value everywhere
    whole_image.threshold = 0.0
    result = whole_image.predict(normals[0])
    entries = json.loads(json.dumps(result.to_dict()))
    assert entries["size_hw"] == [96, 128]
    assert entries["threshold_source"] == "user"
    assert entries["is_anomalous"]
    assert entries["score"] == result.score
    [region] = entries["regions"]
    assert region["box_xyxy"] == [0, 0, 128, 96]
    assert region["area_px"] == 96 * 128
    picture = result.overlay()
    assert picture.size == (256, 192)  # enlarged for the labels
    assert result.overlay(max_side=100).size == (100, 75)
    assert result.overlay(max_side=200).size == (200, 150)
    detector.threshold = 1.0
    large = np.repeat(np.repeat(normals[0], 3, 0), 3, 1)
    plain = np.asarray(detector.predict(large).overlay()).astype(int)
    assert np.abs(plain - large).max() <= 2  # a normal image stays as it is


def test_masks_hold_the_regions(fitted: Detector, defective: tuple[np.ndarray, np.ndarray]) -> None:
    result = fitted.predict(defective[0])
    assert result.is_anomalous
    assert result.mask.dtype == bool
    np.testing.assert_array_equal(result.mask, result.heatmap > result.threshold)
    left, top, right, bottom = result.regions[0].box_xyxy
    assert result.mask[top:bottom, left:right].sum() >= result.regions[0].area_px
    high = copy.copy(fitted)
    high.threshold = 1.0
    assert not high.predict(defective[0]).mask.any()


@pytest.mark.parametrize("shape", [(1, 5000, 3), (5000, 1, 3), (1, 1, 3)])
def test_strips_have_overlays(local: Detector, shape: tuple[int, int, int]) -> None:
    assert max(local.predict(np.zeros(shape, np.uint8)).overlay().size) <= 1024
