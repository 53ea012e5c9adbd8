"""Recipe "winclip": WinCLIP (arXiv 2303.14814) to the letter, every window a sequence of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from ..config import Config
from ..encoders.clip import Backbone
from ..images.plan import Plan, plan_square
from ..scoring.cues import TOKENS
from ..scoring.maps import anomaly_probability, bank_map
from ..scoring.regions import median_and_half_maximum
from ..scoring.windows import harmonic_aggregate, harmonic_mean, window_indices
from .features import Features

RESIZES_WITH_PILLOW = True
WEIGHS_CUES = False

#: Sides of the windows in tokens (section 4.2).
WINDOW_SIDES = (2, 3)

_PATCHES = "patches"


def plan(image_hw: tuple[int, int], config: Config, patch: int) -> Plan:
    """A square, whatever the image's proportions."""
    return plan_square(side=config.image_size, patch=patch)


def extract(
    backbone: Backbone,
    rgb: torch.Tensor,
    config: Config,
    *,
    states: torch.Tensor | None,
    descriptors: Mapping[str, nn.Module],
) -> Features:
    """See `Recipe.extract`. The cue of the tokens has three banks: "patches", "windows_2" and "windows_3"."""
    with_banks = TOKENS in descriptors
    tokens = backbone.encode(rgb, (backbone.depth,) if with_banks else ())
    grid_hw = (tokens.dense.shape[1], tokens.dense.shape[2])
    window_sets = [window_indices(grid_hw, side, rgb.device) for side in WINDOW_SIDES]
    windows = []
    for side, embeddings in zip(WINDOW_SIDES, backbone.encode_windows(rgb, window_sets), strict=True):
        rows = max(1, grid_hw[0] - side + 1)
        windows.append(embeddings.unflatten(1, (rows, -1)))  # (B, rows, columns, E)
    text = p_image = None
    if states is not None:
        p_image = anomaly_probability(tokens.cls, states, config.temperature)  # (B,)
        maps = [harmonic_aggregate(anomaly_probability(w, states, config.temperature), grid_hw) for w in windows]
        text = harmonic_mean([p_image[:, None, None], *maps])
    vectors = {}
    if with_banks:
        vectors[_PATCHES] = F.normalize(tokens.layers[0], dim=-1)  # after ln_post
        for side, embeddings in zip(WINDOW_SIDES, windows, strict=True):
            vectors[f"windows_{side}"] = F.normalize(embeddings, dim=-1)
    return Features(tokens.dense, text, p_image, vectors)


def bank_maps(squared: Mapping[str, torch.Tensor], grid_hw: tuple[int, int]) -> dict[str, torch.Tensor]:
    """WinCLIP's F = (A_patch + H_2 + H_3) / 3, from squared distances of unit vectors."""
    maps = []
    for name, distances in squared.items():
        associations = bank_map(distances, half_at=None)  # (1 - cosine) / 2
        maps.append(associations if name == _PATCHES else harmonic_aggregate(associations, grid_hw))
    return {TOKENS: torch.stack(maps).mean(0)}


def smoothing(config: Config) -> float:
    """The paper has none."""
    return 0.0


def scores(heatmaps: Sequence[torch.Tensor], maps: Mapping[str, torch.Tensor], features: Features) -> list[float]:
    """p_image, the maximum of F on the grid of tokens, or the mean of both."""
    parts = []
    if features.p_image is not None:
        parts.append(features.p_image)
    if TOKENS in maps:
        parts.append(maps[TOKENS].amax((1, 2)))
    return torch.stack(parts).double().mean(0).tolist()


def region_levels(heatmap: torch.Tensor, threshold: float, *, is_anomalous: bool) -> tuple[float, float]:
    """The score has another scale than the heatmap: regions of an anomalous image are above half of the way from the
    heatmap's median to its maximum."""
    if not is_anomalous:
        return 0.0, float("inf")
    return median_and_half_maximum(heatmap.cpu().numpy())
