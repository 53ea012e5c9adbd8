"""Recipe "dense": text map and bank vectors from one forward of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ..config import Config
from ..encoders.clip import Backbone
from ..images.plan import Plan, plan_size
from ..scoring.cues import bank_cues
from ..scoring.maps import bank_maps as bank_maps  # a part of the recipe
from ..scoring.maps import text_map
from .features import Features

RESIZES_WITH_PILLOW = False
WEIGHS_CUES = True

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
    states: torch.Tensor | None,
    descriptors: Mapping[str, nn.Module],
    in_one_pass: bool = False,
) -> Features:
    """See `Recipe.extract`.

    Args:
        in_one_pass: describe all images at once, and branch on no value: for tracing.
    """
    reads_layers = any(cue.reads_layers for cue in bank_cues(descriptors))
    layers = config.layers if reads_layers else None
    tokens = backbone.encode(rgb, layers or ())
    text = None
    if states is not None:
        scales = config.scales or ()
        text = text_map(tokens.cls, tokens.dense, states, scales=scales, temperature=config.temperature)
    at_once = _DESCRIBED_AT_ONCE if rgb.device.type == "cpu" and not in_one_pass else None
    return Features(tokens.dense, text, None, _describe(descriptors, rgb, tokens.layers, at_once))


def _describe(
    descriptors: Mapping[str, nn.Module], rgb: torch.Tensor, layers: Sequence[torch.Tensor], at_once: int | None
) -> dict[str, torch.Tensor]:
    """Bank cue -> (B, rows, columns, D)."""
    if at_once is None or len(rgb) <= at_once:
        outputs = {describe: describe(rgb, layers) for describe in dict.fromkeys(descriptors.values())}
        vectors = {}
        for cue in bank_cues(descriptors):
            output = outputs[descriptors[cue.name]]
            vectors[cue.name] = output if cue.output is None else output[cue.output]
        return vectors
    parts = []
    for start in range(0, len(rgb), at_once):
        images = slice(start, start + at_once)
        parts.append(_describe(descriptors, rgb[images], [layer[images] for layer in layers], at_once))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def smoothing(config: Config) -> float:
    """As the options say."""
    return config.smoothing


def scores(heatmaps: Sequence[torch.Tensor], maps: Mapping[str, torch.Tensor], features: Features) -> list[float]:
    """The maximum of each heatmap."""
    return torch.stack([heatmap.amax() for heatmap in heatmaps]).tolist()


def region_levels(heatmap: torch.Tensor, threshold: float, *, is_anomalous: bool) -> tuple[float, float]:
    """Regions are what lies above the threshold."""
    return 0.0, threshold
