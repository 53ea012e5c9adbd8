"""Shared fixtures: synthetic images, and small CLIPs with random weights saved to local files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from patchclip import Detector
from patchclip.synthetic import Surface, sample_defective, sample_surface

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


def write_local_dir(clip: open_clip.CLIP, folder: Path, **about: object) -> Path:
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
    config = {"model_cfg": {**MODEL_CFG, "vision_cfg": vision}, "preprocess_cfg": preprocess, "patchclip": about}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


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
