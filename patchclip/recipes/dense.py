"""Recipe "dense": text map and bank vectors from one forward of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ..config import Config
from ..encoders.clip import Backbone
from ..images.prepare import Plan, plan_size
from ..scoring.cues import bank_cues
from ..scoring.maps import bank_maps as bank_maps  # a part of the recipe
from ..scoring.maps import text_map
from .features import Features, concatenate

RESIZES_WITH_PILLOW = False
WEIGHS_CUES = True

#: Images, or tiles of one, that go through the network at once.
_CHUNK = 32

#: Images that are described at once on a CPU: more do not fit into its caches.
_DESCRIBED_AT_ONCE = 2


def plan(image_hw: tuple[int, int], config: Config, patch: int) -> Plan:
    """The image's own proportions, in tiles where the options ask for them."""
    return plan_size(image_hw, side=config.image_size, patch=patch, tile=config.tile)


def extract(
    backbone: Backbone,
    rgb: torch.Tensor,
    config: Config,
    *,
    tiles_hw: tuple[int, int],
    states: torch.Tensor | None,
    descriptors: Mapping[str, nn.Module],
) -> Features:
    """See `Recipe.extract`. Every tile is an image of its own to the network."""
    at_once = _DESCRIBED_AT_ONCE if rgb.device.type == "cpu" else None
    tiles = rgb if tiles_hw == (1, 1) else _cut(rgb, tiles_hw)
    chunks = []
    for chunk in tiles.split(_CHUNK):
        chunks.append(
            encode(backbone, chunk, config, states=states, descriptors=descriptors, described_at_once=at_once)
        )
    features = concatenate(chunks)
    if tiles_hw == (1, 1):
        return features
    return features.map(lambda grid: _join(grid, tiles_hw))


def encode(
    backbone: Backbone,
    rgb: torch.Tensor,
    config: Config,
    *,
    states: torch.Tensor | None,
    descriptors: Mapping[str, nn.Module],
    described_at_once: int | None = None,
) -> Features:
    """One forward of the network, and of the descriptors; it branches on no value and can be traced.

    Args:
        described_at_once: images that go through the descriptors at once; None for all.
    """
    reads_layers = any(cue.reads_layers for cue in bank_cues(descriptors))
    layers = config.layers if reads_layers else None
    tokens = backbone.encode(rgb, layers or ())
    text = None
    if states is not None:
        scales = config.scales or ()
        text = text_map(tokens.cls, tokens.dense, states, scales=scales, temperature=config.temperature)
    vectors = _describe(descriptors, rgb, tokens.layers, described_at_once)
    return Features(tokens.dense, text, None, vectors)


def _describe(
    descriptors: Mapping[str, nn.Module], rgb: torch.Tensor, layers: Sequence[torch.Tensor], at_once: int | None
) -> dict[str, torch.Tensor]:
    """Bank cue -> (B, rows, columns, D)."""
    if at_once is None or len(rgb) <= at_once:
        return {name: describe(rgb, layers) for name, describe in descriptors.items()}
    vectors = {}
    for name, describe in descriptors.items():
        parts = []
        for start in range(0, len(rgb), at_once):
            images = slice(start, start + at_once)
            parts.append(describe(rgb[images], [layer[images] for layer in layers]))
        vectors[name] = torch.cat(parts)
    return vectors


def smoothing(config: Config) -> float:
    """As the options say."""
    return config.smoothing


def scores(heatmaps: Sequence[torch.Tensor], maps: Mapping[str, torch.Tensor], features: Features) -> list[float]:
    """The maximum of each heatmap."""
    return torch.stack([heatmap.amax() for heatmap in heatmaps]).tolist()


def region_levels(heatmap: torch.Tensor, threshold: float, *, is_anomalous: bool) -> tuple[float, float]:
    """Regions are what lies above the threshold."""
    return 0.0, threshold


def _cut(rgb: torch.Tensor, tiles_hw: tuple[int, int]) -> torch.Tensor:
    """(B, 3, h, w) -> (B * tiles, 3, h / rows, w / columns), the tiles of an image row by row."""
    rows, columns = tiles_hw
    batch, channels, height, width = rgb.shape
    tiles = rgb.view(batch, channels, rows, height // rows, columns, width // columns)
    return tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def _join(tiles: torch.Tensor, tiles_hw: tuple[int, int]) -> torch.Tensor:
    """(B * tiles, gh, gw, ...) -> (B, rows * gh, columns * gw, ...): the inverse of `_cut` on the grid."""
    rows, columns = tiles_hw
    grid = tiles.unflatten(0, (-1, rows, columns))  # (B, rows, columns, gh, gw, ...)
    return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)
