"""The embedded model's shape, its first weights, and the folder it is released as."""

from __future__ import annotations

import gzip
import json
import math
from itertools import islice
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import default_bpe
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from ..encoders.clip import Tokens, run_tower
from ..files import atomic_write

VOCABULARY_MERGES = 2000
CONTEXT_LENGTH = 32
PATCH = 16

#: open_clip's own configuration: plain ViT with [CLS], so that any peer can load the weights.
MODEL_CFG: dict[str, Any] = {
    "embed_dim": 192,
    "vision_cfg": {"image_size": 224, "layers": 8, "width": 192, "head_width": 64, "patch_size": PATCH},
    "text_cfg": {
        "context_length": CONTEXT_LENGTH,
        "vocab_size": 512 + VOCABULARY_MERGES + 2,
        "width": 128,
        "heads": 2,
        "layers": 2,
    },
}

#: Blocks (counted from 1) whose tokens are trained to be compared between images.
COMPARED_LAYERS = (3, 6)

#: Blocks whose tokens the detector's bank takes: on synthetic products the later ones tell more.
BANK_LAYERS = (6, 8)

#: The attention of the last block: the dense tokens are trained, so it needs no surgery.
DENSE_ATTENTION = "qk"


def new_model(seed: int) -> open_clip.CLIP:
    """A fresh model, its patch projection set to low-frequency cosines of three opponent colours."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**MODEL_CFG)
        visual: Any = model.visual
        layers, width = MODEL_CFG["vision_cfg"]["layers"], MODEL_CFG["vision_cfg"]["width"]
        for block in visual.transformer.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=(2 * layers * width) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=(2 * layers * width) ** -0.5)
        nn.init.normal_(visual.positional_embedding, std=0.02)
        with torch.no_grad():
            visual.conv1.weight.copy_(_cosine_patches(width))
            model.logit_scale.fill_(math.log(10))
    return model


def _cosine_patches(width: int) -> torch.Tensor:
    """(width, 3, 16, 16): the lowest frequencies of a cosine transform, two thirds luminance, the rest colour."""
    position = torch.arange(PATCH) + 0.5
    waves = torch.cos(math.pi * torch.arange(PATCH)[:, None] * position / PATCH)  # (frequency, position)
    order = sorted((u * u + v * v, u, v) for u in range(PATCH) for v in range(PATCH))
    colours = F.normalize(torch.tensor([[1.0, 1, 1], [1, -1, 0], [0.5, 0.5, -1]]), dim=1)
    luminance = 2 * width // 3
    counts = (luminance, (width - luminance) // 2, width - luminance - (width - luminance) // 2)
    filters = []
    for colour, count in zip(colours, counts, strict=True):
        for _, u, v in order[:count]:
            wave = torch.outer(waves[u], waves[v])
            gain = 1.0 if u or v else 0.25  # plain brightness would drown the rest
            filters.append(gain * colour[:, None, None] * wave / wave.norm())
    return torch.stack(filters)


def encode_window(visual: Any, pixels: torch.Tensor, window: tuple[int, int, int, int] | None = None) -> Tokens:
    """The detector's own forward, on a window of the full grid of positions.

    Args:
        pixels: (B, 3, S, S) normalised.
        window: first row, first column, rows and columns of the positions, interpolated to the grid of the pixels as
            the detector's are; None for all of them.
    """
    cells = pixels.shape[-1] // PATCH
    positions = visual.positional_embedding[1:].view(*visual.grid_size, -1)
    if window is not None:
        row, column, rows, columns = window
        positions = positions[row : row + rows, column : column + columns]
    if positions.shape[:2] != (cells, cells):
        image = positions.permute(2, 0, 1)[None]
        positions = F.interpolate(image, (cells, cells), mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    return run_tower(visual, pixels, positions, layers=COMPARED_LAYERS, dense_attention=DENSE_ATTENTION)


def write_vocabulary(folder: Path) -> Path:
    """CLIP's byte-pair file, cut after the first merges, in `folder`."""
    path = folder / "bpe_simple_vocab.txt.gz"
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as whole:
        lines = [line.rstrip("\n") for line in islice(whole, 1 + VOCABULARY_MERGES)]
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
        packed.write("\n".join(lines).encode())
    return path


def write_release(model: open_clip.CLIP, folder: Path, about: dict) -> None:
    """Write the open_clip `local-dir` folder: config, fp16 safetensors, vocabulary.

    Args:
        about: what the detector must know of the model beside its shape, saved under "patchclip" in the config.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_vocabulary(folder)
    config = {
        "model_cfg": MODEL_CFG,
        "preprocess_cfg": {
            "mean": list(open_clip.OPENAI_DATASET_MEAN),
            "std": list(open_clip.OPENAI_DATASET_STD),
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
        "patchclip": about,
    }
    weights = {name: tensor.to(torch.float16).contiguous() for name, tensor in model.state_dict().items()}
    with atomic_write(folder / "open_clip_model.safetensors") as temporary:
        save_file(weights, temporary)
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
