"""anomalib's PatchCore and WinCLIP on patchclip's weights, and PatchCore on the embedded EfficientNet-Lite0.

Their own code computes everything from the tokens on; only where they would download a network of their own do they
get ours.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import nn

import internals
from patchclip import Detector, MissingDependencyError


def import_model(module: str) -> Any:
    """anomalib's model of that name.

    Raises:
        MissingDependencyError: anomalib is not installed.
    """
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


def patchcore_model(detector: Detector) -> Any:
    """anomalib's PatchcoreModel on the tokens of the detector's layers, ready for training; it takes RGB in [0, 1]."""
    names = [f"layer{layer}" for layer in detector.options["layers"]]
    return _patchcore_on(_Tokens(detector), names).to(internals.device_of(detector))


def patchcore_imagenet_model(device: torch.device) -> Any:
    """anomalib's PatchcoreModel on the embedded EfficientNet-Lite0, ready for training; it takes RGB in [0, 1]."""
    return _patchcore_on(_EfficientNet(), _EfficientNet.LAYERS).to(device)


def _patchcore_on(extractor: nn.Module, layers: Sequence[str]) -> Any:
    """anomalib's PatchcoreModel in training, with that in place of its feature extractor."""
    module = import_model("patchcore")
    with mock.patch.object(module, "TimmFeatureExtractor", return_value=extractor):
        model = module.PatchcoreModel(layers=layers)
    return model.train()


class _Tokens(nn.Module):
    """Stands in for anomalib's feature extractor: the tokens of the detector's layers."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.detector = detector

    def forward(self, rgb: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, h, w) in [0, 1] -> layer -> (B, D, gh, gw)."""
        layers = internals.encode_layers(self.detector, rgb)
        return {f"layer{layer}": tokens.permute(0, 3, 1, 2) for layer, tokens in layers.items()}


class _EfficientNet(nn.Module):
    """Stands in for anomalib's feature extractor: the embedded network's features of strides 8 and 16."""

    #: timm's names of the groups of blocks that they come from.
    LAYERS = ("blocks.2", "blocks.4")

    def forward(self, rgb: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, h, w) in [0, 1] -> layer -> (B, 40, h / 8, w / 8) and (B, 112, h / 16, w / 16)."""
        return dict(zip(self.LAYERS, internals.encode_imagenet(rgb), strict=True))


def winclip_model(name: str, pretrained: str | None, object_name: str) -> Any:
    """anomalib's WinClipModel on a copy of these weights in float32, with its text embeddings of that object.

    Its windows' sequences are batch first, as open_clip 2.26 and later wants them.
    """
    module = import_model("winclip")
    loaded = internals.load_model(name, pretrained)
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
        cls_index = torch.zeros(1, count, dtype=torch.int64, device=masks.device)
        windows = torch.cat((cls_index, masks + 1)).T.long()  # (windows, 1 + tokens)
        sequences = torch.cat([torch.index_select(feature_map, 1, window) for window in windows])
        tokens = visual.ln_post(visual.transformer(visual.ln_pre(visual.patch_dropout(sequences))))
        pooled = visual._global_pool(tokens)[0]
        if visual.proj is not None:
            pooled = pooled @ visual.proj
        return pooled.reshape((count, feature_map.shape[0], -1)).permute(1, 0, 2)

    return embed
