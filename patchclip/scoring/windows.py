"""Sliding windows over a token grid and the harmonic aggregation of their scores (WinCLIP, arXiv 2303.14814)."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def window_indices(grid_hw: tuple[int, int], side: int, device: torch.device | None = None) -> torch.Tensor:
    """Token indices of every window of side x side tokens, stride 1, row by row.

    Returns:
        (windows, side * side) int64 into the flattened grid; a side larger than the grid is cut to it.
    """
    gh, gw = grid_hw
    indices = torch.arange(gh * gw, dtype=torch.float32, device=device).view(1, 1, gh, gw)
    return F.unfold(indices, (min(side, gh), min(side, gw)))[0].T.long()


def window_means(tokens: torch.Tensor, side: int) -> torch.Tensor:
    """Mean token of every window: (B, gh, gw, E) -> (B, gh - side + 1, gw - side + 1, E)."""
    if side == 1:
        return tokens
    gh, gw = tokens.shape[1:3]
    kernel = (min(side, gh), min(side, gw))
    return F.avg_pool2d(tokens.permute(0, 3, 1, 2), kernel, stride=1).permute(0, 2, 3, 1)


def harmonic_aggregate(scores: torch.Tensor, grid_hw: tuple[int, int]) -> torch.Tensor:
    """Each token's harmonic mean of the scores of the windows that cover it (equation 6).

    Args:
        scores: (B, rows, columns) of windows at stride 1, in (0, 1]; a zero gives a zero.
        grid_hw: the token grid; the windows have side grid - rows + 1.

    Returns:
        (B, gh, gw), between the smallest and largest score that covers the token.
    """
    if tuple(scores.shape[1:]) == tuple(grid_hw):
        return scores
    kernel = torch.ones(
        (1, 1, grid_hw[0] - scores.shape[1] + 1, grid_hw[1] - scores.shape[2] + 1),
        dtype=scores.dtype,
        device=scores.device,
    )
    inverse = F.conv_transpose2d(1 / scores[:, None], kernel)  # sum over the windows that cover a token
    count = F.conv_transpose2d(torch.ones_like(scores[:1, None]), kernel)
    return (count / inverse)[:, 0]


def harmonic_mean(maps: list[torch.Tensor]) -> torch.Tensor:
    """Harmonic mean of maps that broadcast against each other."""
    inverse = torch.broadcast_tensors(*[1 / m for m in maps])
    return len(maps) / torch.stack(inverse).sum(0)
