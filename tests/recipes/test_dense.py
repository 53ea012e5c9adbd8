"""Recipe "dense": one forward gives the text map and the vectors of every bank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from patchclip import Detector
from patchclip.config import Config
from patchclip.encoders.texture import TextureDescriptor
from patchclip.encoders.timm import ImagenetFeatures, load_network
from patchclip.features import FeatureExtractor
from patchclip.images.prepare import to_rgb
from patchclip.recipes import RECIPES, dense
from patchclip.recipes.features import Features
from patchclip.scoring.maps import text_map

CPU = torch.device("cpu")


def make_extractor(model: str, **options: object) -> FeatureExtractor:
    detector = Detector(model, precision="fp32", **options)
    return FeatureExtractor(detector.backbone, Config(**detector.options))


def extract(extractor: FeatureExtractor, images: list[np.ndarray]) -> Features:
    """Of images of one size."""
    prepared = [extractor.prepare(image) for image in images]
    parts = [features for _, features in extractor.extract(prepared, with_text=True, with_banks=True)]
    return Features(
        dense=torch.cat([part.dense for part in parts]),
        text=torch.cat([part.text for part in parts]),
        vectors={name: torch.cat([part.vectors[name] for part in parts]) for name in parts[0].vectors},
    )


def test_features_are_those_of_one_forward(local_model: str, normals: list[np.ndarray]) -> None:
    extractor = make_extractor(
        local_model, cues=("imagenet_fine", "imagenet", "texture", "text", "tokens"), layers=(1, 3), scales=(0, 2)
    )
    features = extract(extractor, normals[:3])
    rgb = to_rgb([extractor.prepare(image).pixels for image in normals[:3]], CPU)
    with torch.no_grad():
        tokens = extractor.backbone.encode(rgb, (1, 3))
        imagenet = ImagenetFeatures(load_network(CPU))(rgb)
    temperature = extractor.config.temperature
    text = text_map(tokens.cls, tokens.dense, extractor.states, scales=(0, 2), temperature=temperature)
    joined = torch.cat([F.normalize(layer, dim=-1) for layer in tokens.layers], -1) / 2**0.5
    expected = {"tokens": joined, "texture": TextureDescriptor(16)(rgb)}
    expected |= {"imagenet": imagenet[0], "imagenet_fine": imagenet[1]}
    assert features.grid_hw == (3, 5)
    assert torch.allclose(features.dense, tokens.dense, atol=1e-5)
    assert torch.allclose(features.text, text, atol=1e-5)
    assert list(features.vectors) == list(expected)  # in the order of the table of cues
    for name, vectors in features.vectors.items():
        assert vectors.shape == expected[name].shape
        assert torch.allclose(vectors, expected[name], atol=1e-4)
    assert torch.allclose(features.vectors["tokens"].norm(dim=-1), torch.ones(3, 3, 5), atol=1e-5)


def test_any_number_of_images_is_as_one_by_one(local_model: str) -> None:
    extractor = make_extractor(local_model, cues=("text", "tokens", "texture"), image_size=48)
    images = list(np.random.default_rng(0).integers(0, 256, (35, 40, 40, 3), np.uint8))
    together = extract(extractor, images)  # more than go through the network at once
    assert together.dense.shape == (35, 3, 3, 24)
    for index in (0, 31, 32, 34):
        single, found = extract(extractor, [images[index]]), together.select(index)
        assert torch.allclose(found.dense, single.dense, atol=1e-5)
        assert torch.allclose(found.text, single.text, atol=1e-5)
        for name, vectors in single.vectors.items():
            assert torch.allclose(found.vectors[name], vectors, atol=1e-5)


def test_the_size_is_the_images_own_proportions_in_tiles(local_model: str) -> None:
    config = make_extractor(local_model, tile=50).config
    assert dense.plan((96, 128), config, 16) == ((128, 192), (2, 3))  # tiles of 48 x 42, at 4 x 4 patches
    assert dense.plan((40, 50), config, 16).tiles_hw == (1, 1)
    assert RECIPES["dense"] is dense


def test_smoothing_scores_and_regions(local_model: str) -> None:
    assert dense.smoothing(make_extractor(local_model, smoothing=0.6).config) == 0.6
    heatmaps = [torch.tensor([[0.1, 0.7]]), torch.tensor([[0.2], [0.3]])]
    features = Features(dense=torch.zeros(2, 1, 2, 4))
    assert dense.scores(heatmaps, {}, features) == pytest.approx([0.7, 0.3])
    assert dense.region_levels(heatmaps[0], 0.4, is_anomalous=True) == (0.0, 0.4)
