"""Heatmaps, by hand-derived numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from patchclip.scoring.heatmap import separate_heatmaps, to_heatmaps


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
