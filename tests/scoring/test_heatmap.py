"""Heatmaps and regions, by hand-derived numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from patchclip.scoring.heatmap import find_regions, median_and_half_maximum, separate_heatmaps, to_heatmaps


@pytest.mark.parametrize("size_hw", [(50, 70), (1, 40_000), (3, 2), (300, 1)])
def test_separate_heatmaps_are_the_same(size_hw: tuple[int, int]) -> None:
    maps = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    for smoothing in (0.0, 0.4):
        separate = separate_heatmaps(maps, [size_hw] * 3, smoothing)
        torch.testing.assert_close(torch.stack(separate), to_heatmaps(maps, size_hw, smoothing), atol=1e-5, rtol=0)


def test_separate_heatmaps_of_several_sizes_own_their_memory() -> None:
    maps = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0))
    sizes_hw = [(50, 70), (20, 30)]
    for index, heatmap in enumerate(separate_heatmaps(maps, sizes_hw, 0.25)):
        assert heatmap.shape == sizes_hw[index]
        assert heatmap.dtype == torch.float32
        assert heatmap.untyped_storage().nbytes() == 4 * heatmap.numel()
        expected = to_heatmaps(maps[index : index + 1], sizes_hw[index], 0.25)[0]
        torch.testing.assert_close(heatmap, expected, atol=1e-5, rtol=0)


def test_heatmap_without_smoothing_is_bilinear() -> None:
    found = to_heatmaps(torch.tensor([[[0.0, 1.0]]]), (2, 4), 0.0)
    assert found.shape == (1, 2, 4)
    assert found[0, 0].tolist() == pytest.approx([0, 0.25, 0.75, 1])
    half = to_heatmaps(torch.tensor([[[0.0, 1.0]]], dtype=torch.bfloat16), (2, 4), 0.0)
    assert half.dtype == torch.float32
    assert half.tolist() == found.tolist()


@pytest.mark.parametrize("smoothing", [0.25, 0.4])
def test_smoothing_against_scipy(smoothing: float) -> None:
    maps = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0))
    found = to_heatmaps(maps, (20, 28), smoothing)  # four cells to a patch, so that the last step changes nothing
    for index in range(2):
        fine = ndimage.zoom(maps[index].double().numpy(), 4, order=1, mode="nearest", grid_mode=True)
        expected = ndimage.gaussian_filter(fine, 4 * smoothing, mode="nearest", truncate=3)
        np.testing.assert_allclose(found[index].numpy(), expected, atol=1e-6, rtol=0)


def test_smoothing_keeps_a_constant_and_lowers_a_peak() -> None:
    flat = to_heatmaps(torch.full((1, 4, 4), 0.3), (50, 70), 0.7)
    assert torch.allclose(flat, torch.tensor(0.3), atol=1e-6)
    peak = torch.zeros(1, 7, 7)
    peak[0, 3, 3] = 1
    sharp, smooth = (to_heatmaps(peak, (112, 112), sigma)[0] for sigma in (0.0, 0.5))
    assert sharp.max() > smooth.max() > 0.2
    assert divmod(int(smooth.argmax()), 112)[0] in range(48, 64)
    assert torch.allclose(smooth, smooth.flip(0), atol=1e-5)


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
