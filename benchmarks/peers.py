"""Peers: anomalib's PatchCore and WinCLIP on the very same weights, pixels and images.

Their own code computes everything from the tokens on; only where they would download a backbone of their own do they
get ours. They set a threshold from labelled anomalies alone, so the columns of decisions stay empty.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from patchclip import Detector, ImageError, MissingDependencyError
from patchclip.image import load_image, model_size, resize, to_pixels
from patchclip.models import load_model

from .methods import Prediction, References, Settings, make_detector

#: What anomalib's own PatchCore keeps of its bank.
_CORESET = 0.1


def _anomalib(module: str) -> Any:
    logging.getLogger("anomalib").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what anomalib imports
            return importlib.import_module(f"anomalib.models.image.{module}.torch_model")
    except ImportError as error:
        raise MissingDependencyError(
            f"anomalib is not installed here ({error}): make an environment of its own, in it pip install patchclip "
            "anomalib, and run this benchmark there; or leave the anomalib methods out of --methods"
        ) from error


def _load_pixels(
    detector: Detector, paths: Sequence[Path], *, squash: bool
) -> list[tuple[torch.Tensor, tuple[int, int]]]:
    """The (1, 3, h, w) pixels that patchclip's own detector would see, and the size of the upright image."""
    backbone, out = detector.backbone, []
    for path in paths:
        image = load_image(path)
        size_hw = model_size(image.shape[:2], detector.options["image_size"], backbone.patch, squash=squash)
        small = resize(image, size_hw, backbone.model.interpolation)
        out.append((to_pixels([small], backbone.mean, backbone.std), (image.shape[0], image.shape[1])))
    return out


def _flatten(references: References) -> list[Path]:
    return [path for paths in references.values() for path in paths]


def _predictions(
    model: Callable[[torch.Tensor], Any], detector: Detector, paths: Sequence[Path], batch_size: int, *, squash: bool
) -> Iterator[Prediction | ImageError]:
    """Batches of one size go through the model together; its map is brought to the image's size, bilinear."""
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        out: list[Prediction | ImageError | None] = [None] * len(batch)
        groups: dict[tuple[int, ...], list[tuple[int, torch.Tensor, tuple[int, int]]]] = {}
        for place, path in enumerate(batch):
            try:
                ((pixels, size_hw),) = _load_pixels(detector, [path], squash=squash)
            except ImageError as error:
                out[place] = error
                continue
            groups.setdefault(tuple(pixels.shape), []).append((place, pixels, size_hw))
        for group in groups.values():
            with torch.inference_mode():
                found = model(torch.cat([pixels for _, pixels, _ in group]))
            maps = found.anomaly_map.reshape(len(group), 1, *found.anomaly_map.shape[-2:]).float()
            for (place, _, size_hw), score, one in zip(group, found.pred_score.flatten().tolist(), maps, strict=True):
                heatmap = F.interpolate(one[None], size_hw, mode="bilinear")[0, 0]
                out[place] = Prediction(score, None, heatmap.cpu().numpy().astype(np.float32))
        yield from (prediction for prediction in out if prediction is not None)


class _Tokens(nn.Module):
    """In the place of anomalib's feature extractor: our tokens of the bank's layers."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.encode = detector.backbone.encode
        self.layers = detector.options["layers"]

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, h, w) -> layer -> (B, D, gh, gw)."""
        kept = self.encode(pixels, self.layers).layers
        return {f"layer{k}": tokens.permute(0, 3, 1, 2) for k, tokens in zip(self.layers, kept, strict=True)}


@dataclass
class AnomalibPatchcore:
    """anomalib's PatchcoreModel: 3 x 3 pooling, coreset of 10 %, re-weighted score, Gaussian of 4 pixels."""

    settings: Settings
    notes: dict[str, object] = field(default_factory=dict)
    detector: Detector | None = None

    def __post_init__(self) -> None:
        self.module = _anomalib("patchcore")
        self.ours = make_detector(self.settings, cues=("tokens",))

    def fit(self, references: References, *, seed: int) -> None:
        tokens = _Tokens(self.ours)
        names = [f"layer{layer}" for layer in tokens.layers]
        with mock.patch.object(self.module, "TimmFeatureExtractor", return_value=tokens):
            model = self.module.PatchcoreModel(layers=names)
        model = model.to(self.ours.backbone.device).train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # the coreset starts anywhere
            for pixels, _ in _load_pixels(self.ours, _flatten(references), squash=False):
                model(pixels)
            model.subsample_embedding(_CORESET)
        self._model = model.eval()
        self.notes = {"threshold_source": None, "coreset": _CORESET}

    def predict(self, paths: Sequence[Path], *, batch_size: int) -> Iterator[Prediction | ImageError]:
        return _predictions(self._model, self.ours, paths, batch_size, squash=False)


@dataclass
class AnomalibWinclip:
    """anomalib's WinClipModel, with the windows' sequences batch first as open_clip 2.26 and later wants them."""

    settings: Settings
    notes: dict[str, object] = field(default_factory=dict)
    detector: Detector | None = None

    def __post_init__(self) -> None:
        own = self.settings
        self._model = winclip_model(own.model, own.pretrained, own.object_name)
        self.ours = make_detector(self.settings, recipe="winclip")
        self._model.temperature = self.ours.options["temperature"]
        self._model.to(self.ours.backbone.device)
        self.notes = {"threshold_source": None}

    def fit(self, references: References, *, seed: int) -> None:
        self._model.k_shot, self._model.reference_images = 0, None
        if references:
            pixels = [pixels for pixels, _ in _load_pixels(self.ours, _flatten(references), squash=True)]
            with torch.no_grad():
                self._model.setup(reference_images=torch.cat(pixels))

    def predict(self, paths: Sequence[Path], *, batch_size: int) -> Iterator[Prediction | ImageError]:
        return _predictions(self._model, self.ours, paths, batch_size, squash=True)


def winclip_model(name: str, pretrained: str | None, object_name: str) -> Any:
    """anomalib's WinClipModel on a copy of these weights in float32, with its text embeddings for that object."""
    module = _anomalib("winclip")
    loaded = load_model(name, pretrained)
    ours = SimpleNamespace(create_model_and_transforms=lambda *_, **__: (loaded.clip, None, None))
    with mock.patch.object(module, "open_clip", ours), mock.patch.object(module, "tokenize", loaded.tokenizer):
        model = module.WinClipModel()
        model._get_window_embeddings = _batch_first_windows(loaded.clip.visual)
        with torch.no_grad():
            model.setup(object_name)
    model.class_name = None  # a later setup() adds references alone
    return model.eval()


def _batch_first_windows(visual: Any) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """anomalib's `_get_window_embeddings` less its change to sequence-first, which open_clip does by itself now."""

    def embed(feature_map: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        count = masks.shape[1]
        index = torch.cat((torch.zeros(1, count, dtype=torch.int64, device=masks.device), masks + 1)).T.long()
        sequences = torch.cat([torch.index_select(feature_map, 1, window) for window in index])
        tokens = visual.ln_post(visual.transformer(visual.ln_pre(visual.patch_dropout(sequences))))
        pooled = visual._global_pool(tokens)[0]
        if visual.proj is not None:
            pooled = pooled @ visual.proj
        return pooled.reshape((count, feature_map.shape[0], -1)).permute(1, 0, 2)

    return embed
