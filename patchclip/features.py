"""Images -> what the detector compares: a text map and, for each bank, a vector per patch, from one forward."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from . import prompts
from .backbone import Backbone
from .descriptors import describe_imagenet, describe_texture, imagenet_network, texture_constants
from .image import model_size, resize, to_pixels
from .scoring import anomaly_probability, name_probabilities, text_map
from .windows import harmonic_aggregate, harmonic_mean

#: Images that are described at once on a CPU: more do not fit its caches.
_DESCRIBED = 2

#: Images, or tiles of one, that go through the network at once.
_CHUNK = 32

#: Sides of WinCLIP's windows in tokens (arXiv 2303.14814, section 4.2).
WINCLIP_SIDES = (2, 3)

#: A defect gets a name when its probability is at least so many times that of a blind guess.
_OPINION = 1.5


@dataclass(frozen=True)
class Features:
    """Of B images on one grid.

    Attributes:
        text: (B, gh, gw), the text map.
        dense: (B, gh, gw, E), to name regions by.
        p_image: (B,), the probability that [CLS] gives to "damaged"; None for recipe dense.
        vectors: bank name -> (B, rows, columns, D) float32; on the grid, on a finer one ("imagenet"), or of
            the windows of recipe winclip.
    """

    text: torch.Tensor
    dense: torch.Tensor
    p_image: torch.Tensor | None
    vectors: dict[str, torch.Tensor]

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Features:
        """`function` of each tensor."""
        p_image = None if self.p_image is None else function(self.p_image)
        vectors = {name: function(value) for name, value in self.vectors.items()}
        return Features(function(self.text), function(self.dense), p_image, vectors)


class Extractor:
    """A backbone with the detector's options: the text embeddings are made once, when first needed.

    Args:
        options: `Detector.options`.
    """

    def __init__(self, backbone: Backbone, options: Mapping[str, Any]):
        self.backbone = backbone
        self.options = options
        self._text: dict[str, torch.Tensor] = {}

    def features(
        self, images: Sequence[np.ndarray], *, for_bank: bool, resized: Sequence[np.ndarray] | None = None
    ) -> list[Features]:
        """Features of each image as a batch of one; images of one model size share a forward.

        Args:
            images: (H, W, 3) uint8 each.
            for_bank: whether the vectors that banks hold are needed too.
            resized: `self.resized` of each image, where another thread has made them already.
        """
        resized = resized or [self.resized(image) for image in images]
        options, backbone = self.options, self.backbone
        banks = set(options["cues"]) if for_bank else set()
        groups: dict[tuple[tuple[int, int], tuple[int, int]], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            groups[self.plan(image.shape[:2])].append(index)
        parts = []
        for (_, tiles_hw), indices in groups.items():  # the tiles of one image are many already
            parts += [(tiles_hw, indices)] if tiles_hw == (1, 1) else [(tiles_hw, [index]) for index in indices]
        out: dict[int, Features] = {}
        for tiles_hw, indices in parts:
            pixels = to_pixels([resized[index] for index in indices], backbone.mean, backbone.std)
            if options["recipe"] == "winclip":
                batch = extract_winclip(
                    backbone, pixels, self.states(), temperature=options["temperature"], for_bank="tokens" in banks
                )
            else:
                batch = extract_dense(
                    backbone,
                    pixels,
                    self.states(),
                    tiles_hw=tiles_hw,
                    scales=options["scales"],
                    temperature=options["temperature"],
                    layers=options["layers"] if "tokens" in banks else (),
                    texture_scale=texture_constants()[0].to(pixels.device) if "texture" in banks else None,
                    imagenet=imagenet_network(pixels.device, backbone.dtype) if "imagenet" in banks else None,
                )
            for place, index in enumerate(indices):
                out[index] = batch.map(itemgetter(slice(place, place + 1)))
        return [out[index] for index in range(len(images))]

    def resized(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 at the size that the network sees it."""
        size_hw, _ = self.plan(image.shape[:2])
        return resize(image, size_hw, self.backbone.model.interpolation, exact=self.options["recipe"] == "winclip")

    def plan(self, image_hw: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """What an image is resized to, in pixels, and into how many tiles (rows, columns) it is then cut."""
        side, patch, tile = self.options["image_size"], self.backbone.patch, self.options["tile"]
        if tile is None or max(image_hw) <= tile:
            return model_size(image_hw, side, patch, squash=self.options["recipe"] == "winclip"), (1, 1)
        rows, columns = math.ceil(image_hw[0] / tile), math.ceil(image_hw[1] / tile)
        height, width = model_size((image_hw[0] // rows, image_hw[1] // columns), side, patch, squash=False)
        return (rows * height, columns * width), (rows, columns)

    def states(self) -> torch.Tensor:
        """(2, E) embeddings of normal and anomalous, each the mean of its prompts."""
        if "states" not in self._text:
            own = self.options
            sentences = own["prompts"]
            if sentences is None:
                templates = own["templates"] or prompts.TEMPLATES
                states = own["states"] or (prompts.NORMAL_STATES, prompts.ANOMALOUS_STATES)
                sentences = [prompts.compose(words, templates, own["object_name"]) for words in states]
            self._text["states"] = torch.stack([self.backbone.encode_text(list(group)).mean(0) for group in sentences])
        return self._text["states"]

    def name(self, token: torch.Tensor) -> tuple[str | None, float | None]:
        """The defect that a dense token (E,) looks like, and its probability; None where the text has no opinion."""
        names = list(self.options["defects"])
        if not names:
            return None, None
        if "names" not in self._text:
            wordings = self.options["defects"].values()
            sentences = [prompts.defect_prompts(words, self.options["object_name"]) for words in wordings]
            embedded = self.backbone.encode_text([sentence for group in sentences for sentence in group])
            groups = embedded.split([len(group) for group in sentences])
            self._text["names"] = torch.stack([group.mean(0) for group in groups])
        probabilities = name_probabilities(token, self._text["names"], self.backbone.naming_temperature)
        best = int(probabilities.argmax())
        confidence = float(probabilities[best])
        if len(names) > 1 and confidence < _OPINION / len(names):
            return None, None
        return names[best], confidence


def extract_dense(
    backbone: Backbone,
    pixels: torch.Tensor,
    states: torch.Tensor,
    *,
    tiles_hw: tuple[int, int],
    scales: Sequence[int],
    temperature: float,
    layers: Sequence[int],
    texture_scale: torch.Tensor | None,
    imagenet: nn.Sequential | None,
) -> Features:
    """Recipe "dense": everything from one forward.

    Args:
        pixels: (B, 3, h, w) normalised.
        states: (2, E) text embeddings, normal and anomalous.
        tiles_hw: cut every image into so many tiles, each a forward of its own.
        layers: blocks whose tokens make the bank "tokens" (`join_layers`); none for no bank.
        texture_scale: (39,) what each value of the texture descriptor is divided by; None for no bank "texture".
        imagenet: the network of the bank of that name; None for no such bank.
    """
    chunks = []
    tiles = pixels if tiles_hw == (1, 1) else _cut(pixels, tiles_hw)
    for tiled in tiles.split(_CHUNK):
        tokens = backbone.encode(tiled, layers)
        vectors = {}
        if layers:
            vectors["tokens"] = join_layers(tokens.layers)
        parts: Sequence[torch.Tensor] = ()
        if texture_scale is not None or imagenet is not None:
            rgb = tiled * backbone.std + backbone.mean
            parts = [rgb] if rgb.is_cuda else rgb.split(_DESCRIBED)
        if texture_scale is not None:
            vectors["texture"] = torch.cat([describe_texture(part, backbone.patch) for part in parts]) / texture_scale
        if imagenet is not None:
            vectors["imagenet"] = torch.cat([describe_imagenet(imagenet, part) for part in parts])
        text = text_map(tokens.cls, tokens.dense, states, scales=scales, temperature=temperature)
        chunks.append(Features(text, tokens.dense, None, vectors))
    features = chunks[0] if len(chunks) == 1 else _concatenate(chunks)
    return features if tiles_hw == (1, 1) else features.map(lambda value: _join(value, tiles_hw))


def join_layers(layers: Sequence[torch.Tensor]) -> torch.Tensor:
    """L tensors (..., D) -> (..., L * D): each of unit length, side by side, the whole of unit length again."""
    return torch.cat([F.normalize(layer, dim=-1) for layer in layers], -1) / len(layers) ** 0.5


def extract_winclip(
    backbone: Backbone, pixels: torch.Tensor, states: torch.Tensor, *, temperature: float, for_bank: bool
) -> Features:
    """Recipe "winclip": every window a sequence of its own; the banks are "patches", "windows_2" and "windows_3"."""
    tokens = backbone.encode(pixels, (backbone.depth,) if for_bank else ())
    windows = backbone.encode_windows(pixels, WINCLIP_SIDES)
    grid_hw = (tokens.dense.shape[1], tokens.dense.shape[2])
    p_image = anomaly_probability(tokens.cls, states, temperature)
    maps = [harmonic_aggregate(anomaly_probability(w, states, temperature), grid_hw) for w in windows]
    text = harmonic_mean([p_image[:, None, None], *maps])
    vectors = {}
    if for_bank:
        vectors["patches"] = F.normalize(tokens.layers[0], dim=-1)  # after ln_post
        for side, embeddings in zip(WINCLIP_SIDES, windows, strict=True):
            vectors[f"windows_{side}"] = F.normalize(embeddings, dim=-1)
    return Features(text, tokens.dense, p_image, vectors)


def _concatenate(parts: Sequence[Features]) -> Features:
    return Features(
        torch.cat([part.text for part in parts]),
        torch.cat([part.dense for part in parts]),
        None,
        {name: torch.cat([part.vectors[name] for part in parts]) for name in parts[0].vectors},
    )


def _cut(pixels: torch.Tensor, tiles_hw: tuple[int, int]) -> torch.Tensor:
    """(B, 3, h, w) -> (B * tiles, 3, h / rows, w / columns), the tiles of an image row by row."""
    rows, columns = tiles_hw
    batch, channels, height, width = pixels.shape
    tiles = pixels.view(batch, channels, rows, height // rows, columns, width // columns)
    return tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def _join(tiles: torch.Tensor, tiles_hw: tuple[int, int]) -> torch.Tensor:
    """(B * tiles, gh, gw, ...) -> (B, rows * gh, columns * gw, ...): the inverse of `_cut` on the grid."""
    rows, columns = tiles_hw
    grid = tiles.unflatten(0, (-1, rows, columns))  # (B, rows, columns, gh, gw, ...)
    return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)
