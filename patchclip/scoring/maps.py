"""Tokens and distances -> maps on the grid of patches: text, banks, and their fusion.

Every map is (..., gh, gw) float32 in [0, 1], higher = more anomalous.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional as F

from .cues import TEXT, bank_cues
from .windows import harmonic_aggregate, harmonic_mean, window_means

#: The least spread that the text counts with: probabilities near 0 hardly move, and would take all the weight.
_MIN_TEXT_SPREAD = 0.04


def anomaly_probability(embeddings: torch.Tensor, states: torch.Tensor, temperature: float) -> torch.Tensor:
    """Probability of the anomalous state (WinCLIP, equation 2).

    Args:
        embeddings: (..., E), any length.
        states: (2, E), normal and anomalous, any length.

    Returns:
        (...) float32 in (0, 1).
    """
    direction = F.normalize(states[1], dim=0) - F.normalize(states[0], dim=0)
    # One product with a matrix, and no scaling after it: OpenVINO cannot compile (..., E) @ (E,) / temperature, and
    # OpenCV has no product with a vector.
    column = (direction / temperature)[:, None]  # (E, 1)
    return torch.sigmoid(F.normalize(embeddings, dim=-1) @ column)[..., 0]


def text_map(
    cls: torch.Tensor, dense: torch.Tensor, states: torch.Tensor, *, scales: Sequence[int], temperature: float
) -> torch.Tensor:
    """Harmonic mean over scales of the windows' probability of the anomalous state.

    Args:
        cls: (B, E); dense: (B, gh, gw, E) text-aligned tokens; both any length.
        states: (2, E).
        scales: window sides in tokens; 0 stands for the whole image, by its [CLS].

    Returns:
        (B, gh, gw).
    """
    grid_hw = (dense.shape[1], dense.shape[2])
    dense = F.normalize(dense, dim=-1)
    maps = []
    for side in scales:
        if side == 0:
            whole_image = anomaly_probability(cls, states, temperature)
            maps.append(whole_image[:, None, None])
        else:
            windows = anomaly_probability(window_means(dense, side), states, temperature)
            maps.append(harmonic_aggregate(windows, grid_hw))
    return harmonic_mean(maps).expand(-1, *grid_hw)


def bank_map(squared: torch.Tensor, half_at: float | None) -> torch.Tensor:
    """Squared distances to a bank -> a map of the same shape.

    Args:
        squared: (..., rows, columns).
        half_at: the squared distance that counts as one half, d^2 / (d^2 + half_at); None for vectors of unit length,
            (1 - cosine) / 2.
    """
    if half_at is None:
        return squared / 4
    return squared / (squared + half_at)


def to_grid(fine: torch.Tensor, grid_hw: tuple[int, int]) -> torch.Tensor:
    """(B, rows, columns) of a finer grid, at most three cells to a patch either way -> (B, gh, gw), each patch with its
    highest value."""
    if fine.shape[-2:] == grid_hw:
        return fine
    thirds = F.interpolate(fine[:, None], [3 * side for side in grid_hw], mode="nearest")
    return F.max_pool2d(thirds, 3)[:, 0]


def bank_maps(squared: Mapping[str, torch.Tensor], grid_hw: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Bank cue -> its map (B, gh, gw).

    Args:
        squared: bank cue -> (B, rows, columns) squared distances.
    """
    maps = {}
    for cue in bank_cues(squared):
        maps[cue.name] = to_grid(bank_map(squared[cue.name], cue.half_at), grid_hw)
    return maps


def fusion_weights(spreads: Mapping[str, float], usual: Mapping[str, float] | None = None) -> dict[str, float]:
    """Weights in inverse proportion to each cue's spread over normal images, times its gain; they add up to 1.

    Where the usual spreads of all the cues are known, the ratios of the spreads are brought half of the way to the
    usual ones (geometric mean): few normal images that happen to be alike in one cue would give it nearly all the
    weight.

    Args:
        spreads: cue -> standard deviation of its maps over normal images.
        usual: cue -> the same for normal images in general, up to a common factor; None where it is not known.
    """
    limited = {}
    for cue, spread in spreads.items():
        limited[cue] = max(spread, _MIN_TEXT_SPREAD if cue == TEXT else 1e-9)
    if usual is not None and usual.keys() >= spreads.keys():
        limited = {cue: math.sqrt(spread * usual[cue]) for cue, spread in limited.items()}
    gains = {cue.name: cue.gain for cue in bank_cues(spreads)}
    raw = {cue: gains.get(cue, 1.0) / spread for cue, spread in limited.items()}
    total = sum(raw.values())
    return {cue: weight / total for cue, weight in raw.items()}


def fuse(
    maps: Mapping[str, torch.Tensor], weights: Mapping[str, float], *, level: torch.Tensor | None = None
) -> torch.Tensor:
    """Weighted sum of maps of one shape.

    Args:
        maps: cue -> (B, gh, gw).
        weights: cue -> weight, together 1; none for equal weights.
        level: (B,) of each image's class (`class_levels`), where the result is one half: a scale that classes share.

    Returns:
        (B, gh, gw) in [0, 1].
    """
    if not weights:
        weights = dict.fromkeys(maps, 1 / len(maps))
    fused = torch.stack([weights[cue] * cue_map for cue, cue_map in maps.items()]).sum(0)
    if level is None:
        return fused
    return fused / (fused + level[:, None, None])


def class_levels(scores: Sequence[float], class_indices: Sequence[int]) -> tuple[float, ...]:
    """What counts as normal in each class: the root of (mean score of its normal images x geometric mean of all these).

    Half of the way from one level for all to one each, since a few images fix a level badly: on synthetic classes with
    five images either end is worse.

    Args:
        scores: of normal images, > 0.
        class_indices: of their classes, 0 to K - 1.

    Returns:
        K levels.
    """
    score = torch.tensor(scores, dtype=torch.float32).clamp(min=1e-6)
    class_index = torch.tensor(class_indices)
    class_count = max(class_indices) + 1
    log_means = torch.stack([score[class_index == index].mean().log() for index in range(class_count)])
    return tuple(((log_means + log_means.mean()) / 2).exp().tolist())
