"""The memory bank on a network of the model's shape with random weights: what training is worth."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

import internals
from accuracy.methods.base import Prediction, References, Settings
from accuracy.methods.detector import DetectorMethod, make_bare_detector
from patchclip import Detector, ImageError


class RandomVit:
    """Random weights are drawn anew for each seed."""

    def __init__(self, settings: Settings, kinds: Sequence[str]):
        self.settings = settings
        self.kinds = kinds
        self.notes: dict[str, object] = {}
        self.detector: Detector | None = None

    def fit(self, references: References, *, seed: int) -> None:
        folder = self.settings.work / f"random-vit-{seed}"
        write_random_model(self.settings, folder, seed=seed)
        untrained = replace(self.settings, model=f"local-dir:{folder}", pretrained=None)
        self._method = DetectorMethod(untrained, self.kinds, cues=("tokens",))
        self._method.fit(references, seed=seed)
        self.notes = self._method.notes
        self.detector = self._method.detector

    def predict(self, paths: Sequence[Path], *, batch_size: int) -> Iterator[Prediction | ImageError]:
        return self._method.predict(paths, batch_size=batch_size)


def write_random_model(settings: Settings, folder: Path, *, seed: int) -> None:
    """The configuration of the settings' model, with weights as its constructor draws them.

    Raises:
        ValueError: the model is on a hub, where its configuration is not at hand.
    """
    if settings.model.startswith("hf-hub:"):
        raise ValueError(f"random-vit cannot copy the shape of {settings.model!r}: leave it out of --methods")
    folder.mkdir(parents=True, exist_ok=True)
    source = internals.model_folder(settings.model)
    if source is None:
        config = _open_clip_config(settings)
    else:
        config = json.loads((source / "open_clip_config.json").read_text())
        config.get("patchclip", {}).pop("threshold", None)  # it was measured with the trained weights
        vocabulary = source / "bpe_simple_vocab.txt.gz"
        if vocabulary.is_file():
            (folder / vocabulary.name).write_bytes(vocabulary.read_bytes())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip: torch.nn.Module = open_clip.CLIP(**config["model_cfg"])
    state = {name: value.contiguous() for name, value in clip.state_dict().items()}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(state, folder / "open_clip_model.safetensors")


def _open_clip_config(settings: Settings) -> dict[str, Any]:
    """Of a model that open_clip knows by name."""
    model: dict[str, Any] = open_clip.get_model_config(settings.model)
    model.setdefault("text_cfg", {}).setdefault("context_length", 77)
    return {"model_cfg": model, "preprocess_cfg": internals.preprocessing(make_bare_detector(settings))}
