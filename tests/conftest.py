"""Shared fixtures: synthetic images, and small CLIPs with random weights saved to local files."""

from __future__ import annotations

import copy
import json
import os
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from patchclip import Detector, Ranking
from patchclip.config import Config
from patchclip.features import FeatureExtractor
from patchclip.synthetic import Surface, sample_defective, sample_surface

if "PYTEST_XDIST_WORKER" in os.environ:  # pytest -n 2: each worker has a core, and more threads would only wait
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

#: For tests that fit on fewer images than a false-positive rate needs, where that is not the point.
FEW = pytest.mark.filterwarnings("ignore:.*extrapolation")

MODEL_CFG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def random_clip(seed: int, **vision: object) -> open_clip.CLIP:
    """A small CLIP with lively random weights (position embeddings and norms too, so that mistakes show)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip = open_clip.CLIP(**{**MODEL_CFG, "vision_cfg": {**MODEL_CFG["vision_cfg"], **vision}})
        with torch.no_grad():
            for parameter in clip.visual.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return clip.eval()


def write_local_dir(clip: open_clip.CLIP, folder: Path, **defaults: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in clip.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    visual = clip.visual
    vision = {
        "image_size": visual.image_size[0],
        "layers": len(visual.transformer.resblocks),
        "width": visual.transformer.width,
        "head_width": 16,
        "patch_size": visual.patch_size[0],
    }
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic"}
    config = {"model_cfg": {**MODEL_CFG, "vision_cfg": vision}, "preprocess_cfg": preprocess, "patchclip": defaults}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def fit_quietly(detector: Detector, images: Sequence[np.ndarray] | Mapping[str, Sequence[np.ndarray]]) -> Detector:
    """`detector.fit` without its warnings about few images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return detector.fit(images, progress=False)


def make_extractor(detector: Detector) -> FeatureExtractor:
    """A second extractor with the backbone and the options of a detector."""
    return FeatureExtractor(detector.backbone, Config(**detector.options))


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """No test asks another machine for anything: a connection that is tried fails it."""
    connect = socket.socket.connect

    def connect_on_this_machine(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:  # worker processes hand over tensors by those
            raise AssertionError(f"a test may not use the network: {address}")
        connect(self, address)

    def refuse(host: object, *arguments: object, **options: object) -> None:
        raise AssertionError(f"a test may not use the network: {host}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_on_this_machine)
        patch.setattr(socket, "create_connection", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


@pytest.fixture(scope="session")
def local_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """`model=` of a small random CLIP: 4 x 4 tokens at 64 px, 3 blocks."""
    return f"local-dir:{write_local_dir(random_clip(0), tmp_path_factory.mktemp('clip'))}"


@pytest.fixture(scope="session")
def surface() -> Surface:
    return sample_surface(np.random.default_rng(3), ["fabric"])


@pytest.fixture(scope="session")
def normals(surface: Surface) -> list[np.ndarray]:
    """Six flawless images (96, 128, 3) uint8 of one product."""
    return [surface.photograph(surface.render(seed, (96, 128)), seed) for seed in range(6)]


@pytest.fixture(scope="session")
def defective(surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    """A (96, 128, 3) uint8 image with a hole, and its mask."""
    image, mask, _ = sample_defective(surface, 9, np.random.default_rng(4), kind="hole", size_hw=(96, 128))
    return image, mask


@pytest.fixture(scope="session")
def tiny() -> Detector:
    """The embedded model, zero-shot, in float32; tests do not change it."""
    return Detector(precision="fp32")


@pytest.fixture(scope="session")
def local(local_model: str) -> Detector:
    """The small random CLIP, zero-shot, in float32; tests do not change it."""
    return Detector(local_model, precision="fp32")


@pytest.fixture
def detector(local: Detector) -> Detector:
    """As `local`, with a fitted state and a threshold of its own: a test may fit, calibrate and set it."""
    return copy.copy(local)


@pytest.fixture(scope="session")
def fitted(local: Detector, normals: list[np.ndarray]) -> Detector:
    """The small random CLIP, fitted with the first three normal images; tests do not change it."""
    return fit_quietly(copy.copy(local), normals[:3])


@pytest.fixture(scope="session")
def fitted_tiny(tiny: Detector, normals: list[np.ndarray]) -> Detector:
    """The embedded model, fitted with the first three normal images; tests do not change it."""
    return fit_quietly(copy.copy(tiny), normals[:3])


@pytest.fixture(scope="session")
def images(normals: list[np.ndarray], defective: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """Six flawless images and one with a hole, the third."""
    return [*normals[:2], defective[0], *normals[2:]]


@pytest.fixture(scope="session")
def ranking(local: Detector, images: list[np.ndarray]) -> Ranking:
    """Of `images`, by the small random CLIP."""
    return local.rank(images, progress=False)
