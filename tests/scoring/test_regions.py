"""Regions and their names, by hand-derived numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from patchclip.scoring.regions import (
    DefectNames,
    find_regions,
    median_and_half_maximum,
    name_probabilities,
    named_regions,
)


def test_median_and_half_maximum_by_hand() -> None:
    heatmap = np.array([[0.1, 0.1, 0.3], [0.1, 0.2, 0.9]], np.float32)
    assert median_and_half_maximum(heatmap) == pytest.approx((0.15, 0.525))


def test_regions_by_hand() -> None:
    heatmap = np.zeros((8, 12), np.float32)
    heatmap[1:3, 2:5] = 0.6
    heatmap[2, 4] = 0.7
    heatmap[6, 10] = 0.9
    found = find_regions(heatmap, 0.5, (4, 6))  # tokens of 2 x 2 pixels, middles at odd pixels
    assert [(region.box_xyxy, region.area_px, round(region.score, 3)) for region, _ in found] == [
        ((10, 6, 11, 7), 1, 0.9),
        ((2, 1, 5, 3), 6, 0.7),
    ]
    assert {(region.defect, region.confidence) for region, _ in found} == {(None, None)}
    first, second = (patches for _, patches in found)
    assert first.shape == second.shape == (4, 6)
    assert np.argwhere(first).tolist() == [[3, 5]]  # its middle lies outside, its peak inside
    assert np.argwhere(second).tolist() == [[0, 1], [1, 2]]
    assert find_regions(heatmap, 0.9, (4, 6)) == []  # above means above


def test_a_threshold_is_compared_unrounded() -> None:
    heatmap = np.zeros((8, 12), np.float32)
    heatmap[3, 3] = 0.1  # 0.1000000015 in float32
    for threshold, count in ((0.1, 1), (float(np.float32(0.1)), 0)):
        assert len(find_regions(heatmap, threshold, (4, 6))) == count


def test_a_higher_region_inside_the_box_of_another() -> None:
    heatmap = np.zeros((9, 18), np.float32)
    heatmap[1:8, 1] = heatmap[7, 1:8] = 0.625  # an L, and a pixel in its angle
    heatmap[2, 6] = 0.875
    found = [(region.box_xyxy, region.area_px, region.score) for region, _ in find_regions(heatmap, 0.5, (3, 6))]
    assert found == [((6, 2, 7, 3), 1, 0.875), ((1, 1, 8, 8), 13, 0.625)]


def test_pieces_that_touch_at_a_corner_are_one_region() -> None:
    heatmap = np.zeros((6, 6), np.float32)
    heatmap[1, 1] = heatmap[2, 2] = heatmap[4, 4] = 0.8
    assert [region.area_px for region, _ in find_regions(heatmap, 0.5, (3, 3))] == [2, 1]


def test_regions_are_prominent_in_their_own_image() -> None:
    heatmap = np.full((8, 12), 0.5, np.float32)  # all of it above the threshold, as where a defect moves every token
    heatmap[6, 10] = 0.9
    heatmap[1, 1], heatmap[1, 5] = 0.59, 0.61  # below and above 0.5 + (0.9 - 0.5) / 4
    boxes = [region.box_xyxy for region, _ in find_regions(heatmap, 0.4, (4, 6))]
    assert boxes == [(10, 6, 11, 7), (5, 1, 6, 2)]
    flat = np.full((8, 12), 0.5, np.float32)  # nothing is prominent: the image as a whole is anomalous
    assert [region.box_xyxy for region, _ in find_regions(flat, 0.4, (4, 6))] == [(0, 0, 12, 8)]
    assert find_regions(flat, 0.5, (4, 6)) == []  # none of it is above the threshold


@pytest.mark.parametrize("share", [0.8, 0.95])  # the prominence is the narrower bound, then the threshold
def test_regions_against_scipy(share: float) -> None:
    heatmap = ndimage.gaussian_filter(np.random.default_rng(0).random((120, 160)), 4).astype(np.float32)
    threshold = float(np.quantile(heatmap, share))
    median = np.median(heatmap[10::20, 10::20])
    prominent = median + (heatmap.max() - median) / 4
    assert (threshold < prominent) == (share == 0.8)
    labels, count = ndimage.label(heatmap > max(threshold, prominent), np.ones((3, 3)))
    assert count > 5
    expected = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        inside = labels == label
        row, column = ndimage.maximum_position(heatmap, labels, label)
        patches = inside[10::20, 10::20].copy()  # their middles
        patches[row // 20, column // 20] = True
        box = (columns.start, rows.start, columns.stop, rows.stop)
        expected.append((float(heatmap[row, column]), box, int(inside.sum()), patches))
    expected.sort(key=lambda region: -region[0])
    found = find_regions(heatmap, threshold, (6, 8))
    assert len(found) == count
    for (region, patches), (score, box, area, wanted) in zip(found, expected, strict=True):
        assert (region.score, region.box_xyxy, region.area_px) == (score, box, area)
        assert patches.shape == (6, 8)
        np.testing.assert_array_equal(patches, wanted)


def test_names_are_probabilities() -> None:
    found = name_probabilities(np.array([2.0, 0.0]), np.array([[5.0, 0.0], [0.0, 1.0]]), 0.5)
    assert found.tolist() == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))])


def test_a_region_is_named_by_the_mean_of_its_tokens() -> None:
    heatmap = np.zeros((4, 8), np.float32)
    heatmap[:, :4] = 0.9
    dense = np.zeros((2, 4, 2), np.float32)
    dense[:, 0], dense[:, 1] = (3, 0), (1, 4)  # their mean is (2, 2)
    axes = np.eye(2, dtype=np.float32)
    [region] = named_regions(heatmap, 0.5, [dense], DefectNames(("dent", "hole"), axes, 0.1))
    assert (region.defect, region.confidence) == (None, None)  # a blind guess
    dense[:, 1] = (1, 0)
    [region] = named_regions(heatmap, 0.5, [dense], DefectNames(("dent", "hole"), axes, 0.1))
    assert region.defect == "dent"
    assert region.confidence == pytest.approx(1 / (1 + math.exp(-10)))
    [region] = named_regions(heatmap, 0.5, [dense], None)
    assert (region.box_xyxy, region.defect) == ((0, 0, 4, 4), None)
