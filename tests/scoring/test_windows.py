"""Windows over the grid of tokens, and their harmonic aggregation, against loops and by hand."""

from __future__ import annotations

import pytest
import torch

from patchclip.scoring.windows import harmonic_aggregate, harmonic_mean, window_indices, window_means


def test_window_indices_are_row_by_row() -> None:
    found = window_indices((2, 3), 2)
    assert found.dtype == torch.int64
    assert found.tolist() == [[0, 1, 3, 4], [1, 2, 4, 5]]
    assert window_indices((2, 2), 3).tolist() == [[0, 1, 2, 3]]  # a window larger than the grid is the grid
    assert window_indices((50, 60), 1).flatten().tolist() == list(range(3000))
    assert window_indices((2, 3), 2, torch.device("meta")).device.type == "meta"


def test_window_means_and_a_window_larger_than_the_grid() -> None:
    tokens = torch.arange(6, dtype=torch.float32).view(1, 2, 3, 1)
    assert window_means(tokens, 2)[0, ..., 0].tolist() == [[2, 3]]
    assert window_means(tokens, 3)[0, ..., 0].tolist() == [[2.5]]
    assert window_means(tokens, 1) is tokens


def test_harmonic_aggregation_of_four_windows() -> None:
    scores = torch.tensor([[[1, 0.75], [0.5, 0.25]]])
    expected = torch.tensor([[1, 0.8571, 0.75], [0.6667, 0.48, 0.375], [0.5, 0.3333, 0.25]])
    found = harmonic_aggregate(scores, (3, 3))
    assert found.shape == (1, 3, 3)
    assert torch.allclose(found[0], expected, atol=1e-4)


def test_harmonic_aggregate_of_a_rectangle_against_a_loop() -> None:
    scores = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(0)) + 0.01
    found = harmonic_aggregate(scores, (5, 6))  # windows of 3 x 2
    assert found.shape == (2, 5, 6)
    for b in range(2):
        for i in range(5):
            for j in range(6):
                covering = [scores[b, r, c] for r in range(3) for c in range(5) if r <= i < r + 3 and c <= j < c + 2]
                expected = len(covering) / sum(1 / s for s in covering)
                assert float(found[b, i, j]) == pytest.approx(float(expected), abs=1e-6)


def test_harmonic_aggregation_of_windows_as_high_as_the_grid() -> None:
    found = harmonic_aggregate(torch.tensor([[[0.5, 0.25]]]), (1, 3))
    assert found.flatten().tolist() == pytest.approx([0.5, 1 / 3, 0.25])


def test_windows_of_one_token_and_a_score_of_zero() -> None:
    scores = torch.tensor([[[0.5, 0.0], [0.25, 1.0]]])
    assert harmonic_aggregate(scores, (2, 2)) is scores
    found = harmonic_aggregate(scores, (3, 3))[0]
    assert found.flatten().tolist() == pytest.approx([0.5, 0, 0, 1 / 3, 0, 0, 0.25, 0.4, 1])


def test_harmonic_mean_broadcasts() -> None:
    found = harmonic_mean([torch.tensor([[[0.5]]]), torch.tensor([[[1.0, 0.25]]])])
    assert found[0, 0].tolist() == pytest.approx([2 / 3, 1 / 3])
