"""The model together with its losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import open_clip
import torch
from torch import nn
from torch.nn import functional as F

from ..encoders.clip import default_precision
from ..encoders.text import run_text
from ..synthetic import KINDS
from . import losses
from .data import Batch
from .model import COMPARED_LAYERS, PATCH, encode_window
from .sentences import NAMES_PER_STEP, PROMPTS_PER_STATE, STATE_COUNT, Sentences
from .teacher import Distillation, draw_patches


class Objective(nn.Module):
    """The model together with its losses, so that one forward serves DistributedDataParallel."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: open_clip.CLIP, *, taught: bool):
        super().__init__()
        self.model: Any = model
        self.pair_distance = losses.PairDistance(len(COMPARED_LAYERS))
        self.distillation = Distillation(self.model.visual.transformer.width) if taught else None
        self.dense_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.register_buffer("mean", torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(
        self, batch: Batch, sentences: Sentences, rng: np.random.Generator, features: list[torch.Tensor] | None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss, and its terms without gradients.

        Args:
            features: what a teacher says of the queries, or None.
        """
        device = self.mean.device
        pairs, side = len(batch.names), batch.queries.shape[-1]
        windows = [position_window(rng, side // PATCH, self.model.visual.grid_size[0]) for _ in range(2)]
        with torch.autocast(device.type, torch.bfloat16, enabled=default_precision(device) == "bf16"):
            views = [
                encode_window(self.model.visual, (images.to(device) / 255 - self.mean) / self.std, window)
                for images, window in zip((batch.queries, batch.supports), windows, strict=True)
            ]
            text = run_text(self.model, sentences.ids.to(device))
        text = F.normalize(text.float(), dim=-1)
        cls = F.normalize(torch.cat([view.cls for view in views]).float(), dim=-1)
        dense = F.normalize(torch.cat([view.dense for view in views]).float().flatten(1, 2), dim=-1)
        layers = [torch.cat(taps).flatten(1, 2) for taps in zip(*(view.layers for view in views), strict=True)]
        state_text, kind_text, caption_text = text.split([STATE_COUNT, len(KINDS), 2 * pairs])
        caption_text = caption_text[: sentences.captions]
        state_text = F.normalize(state_text.view(NAMES_PER_STEP, 2, PROMPTS_PER_STATE, -1).mean(2), dim=-1)
        direction = (state_text[:, 1] - state_text[:, 0])[sentences.names.to(device)]  # (2B, E), anomalous minus normal

        coverage = batch.coverage.to(device)
        query_targets = losses.patch_targets(coverage)
        targets = losses.patch_targets(torch.cat([coverage, torch.zeros_like(coverage)]))
        scale = self.dense_scale.exp().clamp(max=100)
        logits = scale * torch.einsum("bne,be->bn", dense, direction)
        damaged = torch.cat([batch.kinds >= 0, torch.zeros(pairs, dtype=torch.bool)]).float().to(device)
        image_scale = self.model.logit_scale.exp().clamp(max=100)
        terms = {
            "dense": losses.focal(logits, targets) + 0.5 * losses.dice(logits, targets),
            "max": 0.3 * F.binary_cross_entropy_with_logits(logits.topk(3, 1)[0].mean(1), damaged),
            "cls": 0.2 * F.binary_cross_entropy_with_logits(image_scale.detach() * (cls * direction).sum(-1), damaged),
            "pair": self.pair_distance(layers, query_targets),
            "caption": 0.2 * losses.contrastive(cls, caption_text, sentences.matches.to(device), image_scale),
        }
        named = query_targets.label * (batch.kinds >= 0).to(device)[:, None]
        weight = named / named.sum(1, keepdim=True).clamp(min=1)  # a defect counts once
        kind_logits = scale * dense[:pairs] @ kind_text.T  # (B, N, kinds)
        kind_labels = batch.kinds.to(device).clamp(min=0)[:, None].expand_as(named)
        entropy = F.cross_entropy(kind_logits.transpose(1, 2), kind_labels, reduction="none")
        terms["kind"] = 0.3 * (entropy * weight).sum() / weight.sum().clamp(min=1)
        if self.distillation is not None and features is not None:
            chosen = draw_patches(pairs * layers[0].shape[1], rng).to(device)
            terms["teacher"] = self.distillation([layer[:pairs] for layer in layers], features, chosen)
        return torch.stack(list(terms.values())).sum(), {key: value.detach() for key, value in terms.items()}


def position_window(rng: np.random.Generator, cells: int, grid: int) -> tuple[int, int, int, int]:
    """A part of the grid of positions for `cells` x `cells` patches: as they are, or stretched as for other shapes."""
    rows = columns = min(cells, grid)
    if rng.random() < 0.5:
        low, high = round(0.62 * cells), min(grid, round(1.6 * cells))
        rows, columns = rng.integers(low, high + 1, 2).tolist()
    return int(rng.integers(grid - rows + 1)), int(rng.integers(grid - columns + 1)), rows, columns
