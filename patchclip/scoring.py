"""Tokens -> maps on the grid: text, banks, their fusion; and names for regions. Functions only.

Every map is (..., gh, gw) float32 in [0, 1], higher = more anomalous.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional as F

from .windows import harmonic_aggregate, harmonic_mean, window_means

#: The least spread that the text counts with.
_TEXT_SPREAD = 0.04

#: These tell more than the other cues at the same spread.
_COUNTS = {"tokens": 2, "imagenet": 4}


def anomaly_probability(embeddings: torch.Tensor, states: torch.Tensor, temperature: float) -> torch.Tensor:
    """Probability of the anomalous state (WinCLIP, equation 2).

    Args:
        embeddings: (..., E), any length.
        states: (2, E), normal and anomalous, any length.

    Returns:
        (...) float32 in (0, 1).
    """
    direction = F.normalize(states[1], dim=0) - F.normalize(states[0], dim=0)
    return torch.sigmoid(F.normalize(embeddings, dim=-1) @ direction / temperature)


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
            maps.append(anomaly_probability(cls, states, temperature)[:, None, None])
        else:
            windows = anomaly_probability(window_means(dense, side), states, temperature)
            maps.append(harmonic_aggregate(windows, grid_hw))
    return harmonic_mean(maps).expand(-1, *grid_hw)


def distance_maps(
    squared: Mapping[str, torch.Tensor],
    *,
    half_at: Mapping[str, float],
    grid_hw: tuple[int, int] | None = None,
) -> dict[str, torch.Tensor]:
    """Squared distances to each bank -> its map: (1 - cos) / 2 for vectors of unit length, else d^2 / (d^2 + half_at).

    Args:
        squared: bank name -> (..., rows, columns).
        half_at: bank name -> the squared distance that counts as one half, for banks of vectors of any length.
        grid_hw: of the maps; a finer one, at most three to a patch either way, gives each patch its highest value. None
            leaves each its own.
    """
    maps = {name: d / (d + half_at[name]) if name in half_at else d / 4 for name, d in squared.items()}
    for name, fine in maps.items():
        if grid_hw is not None and fine.shape[-2:] != grid_hw:
            alone = fine.reshape(-1, 1, *fine.shape[-2:])
            thirds = F.interpolate(alone, [3 * side for side in grid_hw], mode="nearest")
            maps[name] = F.max_pool2d(thirds, 3).reshape(*fine.shape[:-2], *grid_hw)
    return maps


def fusion_weights(spreads: Mapping[str, float]) -> dict[str, float]:
    """Weights in inverse proportion to each cue's spread over normal images, the tokens' doubled and those of the
    ImageNet features fourfold; they add up to 1.

    The text's spread counts as 0.04 at least: probabilities near 0 hardly move, and would take all the weight.
    """
    inverse = {cue: 1 / max(spread, _TEXT_SPREAD if cue == "text" else 1e-9) for cue, spread in spreads.items()}
    counted = {cue: _COUNTS.get(cue, 1) * value for cue, value in inverse.items()}
    return {cue: value / sum(counted.values()) for cue, value in counted.items()}


def fuse(
    maps: Mapping[str, torch.Tensor], weights: Mapping[str, float], *, level: float | torch.Tensor | None = None
) -> torch.Tensor:
    """Weighted sum of maps of one shape.

    Args:
        maps: cue -> (..., gh, gw), of weights that add up to 1.
        level: of the class (`class_levels`), where the result is one half: a scale that classes share.

    Returns:
        (..., gh, gw) in [0, 1].
    """
    fused = torch.stack([weights[cue] * value for cue, value in maps.items()]).sum(0)
    return fused if level is None else fused / (fused + level)


def class_levels(scores: Sequence[float], numbers: Sequence[int]) -> tuple[float, ...]:
    """What counts as normal in each class: the root of (mean score of its normal images x geometric mean of all these).

    Half of the way from one level for all to one each, for a few images fix a level badly: on synthetic classes with
    five images either end is worse.

    Args:
        scores: of normal images, > 0; numbers: of their classes, 0 to K - 1.

    Returns:
        K levels.
    """
    own = torch.tensor(scores).clamp(min=1e-6)
    classes = torch.tensor(numbers)
    logs = torch.stack([own[classes == number].mean().log() for number in range(max(numbers) + 1)])
    return tuple(((logs + logs.mean()) / 2).exp().tolist())


def winclip_few_shot_map(squared: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """WinCLIP's F = (A_patch + H_2 + H_3) / 3.

    Args:
        squared: squared distances of unit vectors: "patches" (gh, gw), and "windows_<side>" (rows, columns) each.

    Returns:
        (gh, gw).
    """
    maps = distance_maps(squared, half_at={})
    patches = maps.pop("patches")
    spread = [harmonic_aggregate(windows[None], (patches.shape[0], patches.shape[1]))[0] for windows in maps.values()]
    return torch.stack([patches, *spread]).mean(0)


def winclip_score(p_image: torch.Tensor | None, few_shot: torch.Tensor | None) -> float:
    """WinCLIP's image score: p_image, or its mean with the maximum of F on the token grid."""
    parts = [] if p_image is None else [float(p_image)]
    if few_shot is not None:
        parts.append(float(few_shot.max()))
    return sum(parts) / len(parts)


def name_probabilities(token: torch.Tensor, names: torch.Tensor, temperature: float) -> torch.Tensor:
    """Which defect a token looks like.

    Args:
        token: (E,); names: (K, E), one embedding for each defect.

    Returns:
        (K,) probabilities.
    """
    return torch.softmax(F.normalize(names, dim=-1) @ F.normalize(token, dim=0) / temperature, 0)
