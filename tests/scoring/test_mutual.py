"""Mutual scoring: equal to an independent slow loop with the paper's settings, grids of several sizes, edge cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from patchclip.scoring.mutual import mutual_distances


def random_grid(seed: int, rows: int = 4, columns: int = 5, width: int = 6) -> torch.Tensor:
    return torch.randn(rows, columns, width, generator=torch.Generator().manual_seed(seed))


def slow_neighbourhoods(grid: np.ndarray, side: int) -> np.ndarray:
    """(rows, columns, D) -> the same: the mean of what lies inside, at unit length."""
    rows, columns, _ = grid.shape
    reach = side // 2
    means = np.zeros_like(grid)
    for row in range(rows):
        for column in range(columns):
            window = grid[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
            mean = window.mean((0, 1))
            means[row, column] = mean / np.linalg.norm(mean)
    return means


def slow_distance(patch: np.ndarray, others: Sequence[np.ndarray], share: float) -> float:
    """From a patch (D,) to images (rows, columns, D)."""
    nearest = []
    for other in others:
        distances = [float(np.linalg.norm(patch - vector)) for row in other for vector in row]
        nearest.append(min(distances))
    kept = max(1, int(share * len(nearest)))
    return float(np.mean(sorted(nearest)[:kept]))


def slow_musc(layers: Sequence[Sequence[np.ndarray]], sides: Sequence[int], share: float) -> list[np.ndarray]:
    """Maps of N images by the paper, from their tokens (rows, columns, D) of each layer."""
    totals = [np.zeros(grid.shape[:2]) for grid in layers[0]]
    for grids in layers:
        for side in sides:
            prepared = []
            for grid in grids:
                normed = (grid - grid.mean()) / np.sqrt(grid.var() + 1e-5)
                prepared.append(slow_neighbourhoods(normed, side))
            for index, queries in enumerate(prepared):
                others = prepared[:index] + prepared[index + 1 :]
                for row in range(queries.shape[0]):
                    for column in range(queries.shape[1]):
                        totals[index][row, column] += slow_distance(queries[row, column], others, share)
    return [total / (len(layers) * len(sides)) for total in totals]


def test_the_papers_settings_equal_a_slow_loop() -> None:
    """Layer norm over (C, H, W), neighbourhoods of 1, 3 and 5, the lowest 30 %, means over both."""
    sides, share = (1, 3, 5), 0.3
    layers = [[random_grid(10 * layer + image) + 0.2 * layer for image in range(8)] for layer in range(2)]
    expected = slow_musc([[grid.double().numpy() for grid in grids] for grids in layers], sides, share)
    found = [torch.zeros(4, 5) for _ in range(8)]
    for grids in layers:
        for side in sides:
            prepared = []
            for grid in grids:
                normed = F.layer_norm(grid, grid.shape).permute(2, 0, 1)
                means = F.avg_pool2d(normed, side, stride=1, padding=side // 2)
                prepared.append(F.normalize(means, dim=0).permute(1, 2, 0))
            references = [grid.flatten(0, 1) for grid in prepared]
            for index, grid in enumerate(prepared):
                found[index] += mutual_distances(grid, references, skip=index, share=share) / 6
    for single, slow in zip(found, expected, strict=True):
        assert single.shape == slow.shape
        np.testing.assert_allclose(single.numpy(), slow, rtol=0, atol=1e-5)


def test_images_of_several_grids() -> None:
    """References of other numbers of patches; vectors of any length; a query that is none of the references."""
    queries = random_grid(0, 3, 4)
    references = [3 * random_grid(seed, rows, 5) for seed, rows in ((1, 2), (2, 4), (3, 7), (4, 1))]
    found = mutual_distances(queries[None], [grid.flatten(0, 1) for grid in references], share=0.5)
    assert found.shape == (1, 3, 4)
    others = [grid.double().numpy() for grid in references]
    for row in range(3):
        for column in range(4):
            expected = slow_distance(queries[row, column].double().numpy(), others, 0.5)
            assert float(found[0, row, column]) == pytest.approx(expected, abs=1e-5)


def test_blocks_of_queries_change_nothing() -> None:
    """More queries than go through at once: 1,100 patches of references let 476 through."""
    queries = random_grid(5, 30, 40)
    references = [random_grid(seed, 1, 1100).flatten(0, 1) for seed in (6, 7)]
    whole = mutual_distances(queries, references)
    for row in range(0, 30, 7):
        np.testing.assert_allclose(whole[row].numpy(), mutual_distances(queries[row], references).numpy(), atol=1e-5)


def test_shares_by_hand() -> None:
    """A patch at 0 on a line, and references whose nearest patch is at 1, 2, 3 and 4."""
    references = [torch.tensor([[9.0], [float(place)]]) for place in (4, 2, 1, 3)]
    query = torch.zeros(1, 1)
    assert float(mutual_distances(query, references, share=0.5)) == 1.5
    assert float(mutual_distances(query, references, share=0.74)) == 1.5  # rounded down
    assert float(mutual_distances(query, references, share=0.01)) == 1.0  # one at least
    assert float(mutual_distances(query, references, share=1)) == 2.5
    assert float(mutual_distances(query, references, share=0.5, skip=2)) == 2.0  # one of three
    with pytest.raises(ValueError, match="another image"):
        mutual_distances(query, references[:1], skip=0)
