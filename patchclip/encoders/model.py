"""A CLIP with its weights, and what it brings for the detector's options."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class ModelDefaults:
    """What a model brings for options that are left out, and for the threshold.

    Attributes:
        generation: name of the weights; None where the model has none.
        dense_attention: of the last block, as the model was trained; see `clip.run_tower`.
        bank_layers: blocks whose tokens fill the bank, counted from 1; None is half and three quarters of the depth.
        scales: window sides of the text map, in tokens.
        cues: names of the cues in use.
        temperature: of the probabilities of the text; None where the model was not trained for it.
        threshold: zero-shot score that 5 % of normal synthetic images exceed; None where that was not measured.
        score_spread: usual standard deviation of the log odds of normal images' scores after `fit`; None likewise.
        cue_spreads: cue -> usual standard deviation of its maps over normal images, up to a common factor; None
            likewise.
    """

    generation: str | None = None
    dense_attention: str = "qq"
    bank_layers: tuple[int, ...] | None = None
    scales: tuple[int, ...] = (0, 2, 3)
    cues: tuple[str, ...] = ("text", "tokens")
    temperature: float | None = None
    threshold: float | None = None
    score_spread: float | None = None
    cue_spreads: Mapping[str, float] | None = None

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> ModelDefaults:
        """From the section "patchclip" of an open_clip configuration; entries that are not known are left out."""
        values: dict[str, Any] = {}
        for entry in fields(cls):
            if entry.name in section:
                value = section[entry.name]
                values[entry.name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A CLIP ready to run, in float32 on the CPU.

    Attributes:
        name, pretrained: how to load it again ("tiny" has pretrained None).
        mean, std: of the preprocessing, for RGB in [0, 1].
        interpolation: "bicubic" or "bilinear".
        defaults: what it brings for options that are left out.
    """

    name: str
    pretrained: str | None
    clip: Any
    tokenizer: Callable[[list[str]], torch.Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    defaults: ModelDefaults

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of all weights by name, rounded to bfloat16: the same in every precision a detector runs in."""
        return hash_weights(self.clip)

    @property
    def naming_temperature(self) -> float:
        """At which names of defects are compared: the temperature that the model was trained with."""
        if self.defaults.temperature is not None:
            return float(self.defaults.temperature)
        return float(1 / self.clip.logit_scale.detach().float().exp())

    def has_text_tower(self) -> bool:
        """Whether sentences can be encoded."""
        return any(name != "visual" for name, _ in self.clip.named_children())

    def drop_text_tower(self) -> None:
        """Free the text tower's memory, for a detector that compares with no sentence."""
        _ = self.weights_sha256  # of all weights, so it is taken before
        for name, _ in list(self.clip.named_children()):
            if name != "visual":
                delattr(self.clip, name)


def hash_weights(model: nn.Module) -> str:
    """Hash of all weights by name, rounded to bfloat16: the same in every precision a detector runs in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        rounded = tensor.detach().to("cpu", torch.bfloat16).contiguous()
        digest.update(rounded.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()
