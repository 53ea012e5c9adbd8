"""The two ways from an image to maps: "dense", one forward, and "winclip", the paper's method to the letter.

Both are modules with the functions of `Recipe`; a detector chooses one once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import nn

from ..config import DENSE, WINCLIP, Config
from ..encoders.clip import Backbone
from ..images.plan import Plan
from . import dense, winclip
from .features import Features


class Recipe(Protocol):
    """What differs between the recipes.

    Attributes:
        RESIZES_WITH_PILLOW: whether images are resized exactly as open_clip does.
        WEIGHS_CUES: whether `fit` weighs the cues and the classes against each other.
    """

    RESIZES_WITH_PILLOW: bool
    WEIGHS_CUES: bool

    def plan(self, image_hw: tuple[int, int], config: Config, patch: int) -> Plan:
        """The size at which the network sees an image of that height and width, and its tiles."""

    def extract(
        self,
        backbone: Backbone,
        rgb: torch.Tensor,
        config: Config,
        *,
        states: torch.Tensor | None,
        descriptors: Mapping[str, nn.Module],
    ) -> Features:
        """Features of images, or of tiles of one, that go through the network at once.

        Args:
            rgb: (B, 3, h, w) float32 in [0, 1].
            states: (2, E) embeddings of the prompts for normal and anomalous; None for no text map.
            descriptors: bank cue -> the module that gives its vectors; none for no banks.
        """

    def bank_maps(self, squared: Mapping[str, torch.Tensor], grid_hw: tuple[int, int]) -> dict[str, torch.Tensor]:
        """Squared distances to the banks, (B, rows, columns) each -> cue -> map (B, gh, gw)."""

    def smoothing(self, config: Config) -> float:
        """Sigma of the heatmap's Gaussian, in tokens."""

    def scores(
        self, heatmaps: Sequence[torch.Tensor], maps: Mapping[str, torch.Tensor], features: Features
    ) -> list[float]:
        """The scores of B images, from their heatmaps (H, W), their cues' maps (B, gh, gw) and their features."""

    def region_levels(self, heatmap: torch.Tensor, threshold: float, *, is_anomalous: bool) -> tuple[float, float]:
        """Of a heatmap (H, W): the value that pictures leave clear, and the one above which regions are."""


RECIPES: dict[str, Recipe] = {DENSE: dense, WINCLIP: winclip}
