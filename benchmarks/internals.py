"""All that the benchmarks use of patchclip beyond its public names: the one file to change with the package's inside.

Shapes: B images, E the width of an embedding, D that of a token, a grid of gh x gw tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

import patchclip.features
import patchclip.inference
import patchclip.recipes.dense
import patchclip.recipes.winclip
from patchclip import Detector
from patchclip.encoders.clip import Backbone, default_precision, resolve_device
from patchclip.encoders.loading import ASSETS, EMBEDDED, load_model
from patchclip.encoders.texture import TextureDescriptor
from patchclip.encoders.timm import ImagenetFeatures, load_network
from patchclip.images.load import load_image
from patchclip.images.prepare import resize, to_rgb
from patchclip.scoring.bank import FaissBank, PatchBank
from patchclip.scoring.kinds import choose_kind, learn_kinds
from patchclip.scoring.windows import window_indices
from patchclip.teaching import Example
from patchclip.teaching import describe_defect as describe_example
from patchclip.threshold import Threshold

__all__ = [
    "TIMED_FUNCTIONS",
    "FaissBank",
    "PatchBank",
    "choose_kind",
    "default_precision",
    "describe_defect",
    "describe_model",
    "describe_views",
    "device_of",
    "embed_whole",
    "encode_imagenet",
    "encode_layers",
    "forward",
    "image_tower",
    "learn_kinds",
    "load_image",
    "load_model",
    "load_rgb",
    "load_square_rgb",
    "model_folder",
    "normalise",
    "preprocessing",
    "resize_to_square",
    "resolve_device",
    "square_rgb",
    "square_side",
    "window_indices",
]

#: What `Detector.predict` calls: (where it is looked up, its name there, the part of the time that it counts as).
TIMED_FUNCTIONS: tuple[tuple[Any, str, str], ...] = (
    (patchclip.features, "load_image", "decode"),
    (patchclip.features, "resize", "resize"),
    (Backbone, "encode", "forward"),
    (Backbone, "encode_windows", "windows"),
    (patchclip.recipes.dense, "text_map", "text"),
    (patchclip.recipes.winclip, "anomaly_probability", "text"),
    (TextureDescriptor, "forward", "texture"),
    (ImagenetFeatures, "forward", "imagenet"),
    (PatchBank, "nearest", "bank"),
    (patchclip.inference, "separate_heatmaps", "heatmap"),
    (patchclip.scoring.regions, "find_regions", "heatmap"),
)


# --- the model ----------------------------------------------------------------------------------------------------


def describe_model(detector: Detector) -> dict[str, Any]:
    """JSON-ready: the model as it is in force."""
    backbone, options = detector.backbone, detector.options
    return {
        "name": options["model"],
        "pretrained": options["pretrained"],
        "generation": backbone.model.defaults.generation,
        "weights_sha256": backbone.model.weights_sha256,
        "input": backbone.preprocessing,
        "image_size": options["image_size"],
        "precision": backbone.precision,
        "device": str(backbone.device),
    }


def device_of(detector: Detector) -> torch.device:
    return detector.backbone.device


def square_side(detector: Detector) -> int:
    """Side in pixels of the square that the model was trained at."""
    return detector.backbone.image_size


def image_tower(detector: Detector) -> Any:
    """open_clip's `visual`, on the detector's device and in its precision."""
    return detector.backbone.visual


def model_folder(name: str) -> Path | None:
    """Where configuration and vocabulary of the embedded model or of a "local-dir:" are; None for other names."""
    if name in EMBEDDED:
        return ASSETS / name
    if name.startswith("local-dir:"):
        return Path(name.removeprefix("local-dir:"))
    return None


def preprocessing(detector: Detector) -> dict[str, Any]:
    """As open_clip's configurations have it: mean, std, interpolation."""
    model = detector.backbone.model
    return {"mean": model.mean, "std": model.std, "interpolation": model.interpolation}


# --- images -------------------------------------------------------------------------------------------------------


def load_rgb(detector: Detector, path: Path) -> tuple[torch.Tensor, tuple[int, int]]:
    """What the network of the detector sees of an image: (1, 3, h, w) in [0, 1]; and (H, W) of the upright image."""
    prepared = detector.prepare(path)
    return to_rgb([prepared.pixels], device_of(detector)), prepared.image_hw


def load_square_rgb(path: Path, side: int, device: torch.device) -> tuple[torch.Tensor, tuple[int, int]]:
    """An image squashed to a square, bilinear: (1, 3, side, side) in [0, 1]; and (H, W) of the upright image."""
    image = load_image(path)
    height, width = image.shape[:2]
    return to_rgb([resize(image, (side, side), "bilinear", with_pillow=True)], device), (height, width)


def resize_to_square(detector: Detector, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """(H, W, 3) uint8 each -> (side, side, 3) uint8 each, squashed to the square that the model was trained at."""
    side, interpolation = square_side(detector), detector.backbone.model.interpolation
    return [resize(image, (side, side), interpolation, with_pillow=True) for image in images]


def square_rgb(detector: Detector, images: Sequence[np.ndarray]) -> torch.Tensor:
    """(H, W, 3) uint8 each -> (B, 3, side, side) float32 in [0, 1]."""
    return to_rgb(resize_to_square(detector, images), device_of(detector))


def normalise(detector: Detector, rgb: torch.Tensor) -> torch.Tensor:
    """(B, 3, h, w) in [0, 1] -> the same as open_clip's image tower wants it; patchclip's forward does it by itself."""
    return (rgb - detector.backbone.mean) / detector.backbone.std


# --- the network --------------------------------------------------------------------------------------------------


@torch.inference_mode()
def forward(detector: Detector, rgb: torch.Tensor) -> None:
    """patchclip's pass of (B, 3, h, w) in [0, 1] through the network, without text, banks and heatmaps."""
    detector.backbone.encode(rgb)


@torch.inference_mode()
def encode_layers(detector: Detector, rgb: torch.Tensor) -> dict[int, torch.Tensor]:
    """Layer of the bank -> its tokens, (B, gh, gw, D)."""
    layers = detector.options["layers"]
    return dict(zip(layers, detector.backbone.encode(rgb, layers).layers, strict=True))


@torch.inference_mode()
def encode_imagenet(rgb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The embedded EfficientNet-Lite0 in float32: (B, 3, h, w) in [0, 1] -> its features of strides 8 and 16, (B, 40,
    h / 8, w / 8) and (B, 112, h / 16, w / 16)."""
    fine, coarse = load_network(rgb.device)(2 * rgb - 1)
    return fine, coarse


@torch.inference_mode()
def embed_whole(detector: Detector, images: Sequence[np.ndarray]) -> torch.Tensor:
    """(H, W, 3) uint8 each -> (B, E), unit embeddings of the whole images, squashed so that no part is cut off."""
    return F.normalize(detector.backbone.encode(square_rgb(detector, images)).cls, dim=-1)


# --- names of defects ---------------------------------------------------------------------------------------------


def describe_views(detector: Detector, image: Path | np.ndarray, *, threshold: float) -> np.ndarray | None:
    """The vectors (V, D) by which kinds that are taught are told, of the strongest region of an image and of its
    flipped views; None without a region above the threshold."""
    if detector._fitted is None:
        raise ValueError("expected a fitted detector")
    example, prepared = Example("", "image", image, None), detector.prepare(image)
    return describe_example(detector._extractor, detector._fitted, Threshold(threshold, "user"), example, prepared)


def describe_defect(detector: Detector, path: Path) -> tuple[np.ndarray, str | None] | None:
    """`describe_views` of an image as if the threshold were 0, and the name by the text; None without a region."""
    views = describe_views(detector, path, threshold=0.0)
    lowered = copy.copy(detector)
    lowered.threshold = 0.0
    regions = lowered.predict(path).regions
    if views is None or not regions:
        return None
    return views, regions[0].defect
