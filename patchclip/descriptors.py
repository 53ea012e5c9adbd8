"""What a patch looks like without the CLIP: a fixed descriptor of its texture, and the features of a network trained on
photographs. Small models see less than either."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

_ASSETS = Path(__file__).parent / "assets"

# --- texture: colour, Gabor and difference-of-Gaussian energies; nothing in it is learnt ---------------------------

CONSTANTS = _ASSETS / "texture.json"

_RADIUS = 7  # of the filters, in pixels
_WAVELENGTHS = (4.0, 8.0)  # of the Gabor pairs, in pixels
_ORIENTATIONS = 4
_DOG_SIGMAS = (0.8, 1.6, 3.2)  # centre; the surround is 1.6 times as wide

#: An image of a lower mean luminance counts as if it had this one.
_DARKEST = 0.02

#: Luminance and two opponent colours of RGB in [0, 1].
_COLOURS = ((0.299, 0.587, 0.114), (0.5, -0.5, 0.0), (0.25, 0.25, -0.5))


def _gaussian(sigma_x: float, sigma_y: float, angle: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A normalised Gaussian and the coordinate across it, (15, 15) each."""
    span = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float32)
    y, x = torch.meshgrid(span, span, indexing="ij")
    turn = torch.tensor(angle, dtype=torch.float32)
    across, along = x * torch.cos(turn) + y * torch.sin(turn), -x * torch.sin(turn) + y * torch.cos(turn)
    weight = torch.exp(-0.5 * ((across / sigma_x) ** 2 + (along / sigma_y) ** 2))
    return weight / weight.sum(), across


@lru_cache(maxsize=1)
def filters() -> tuple[torch.Tensor, torch.Tensor]:
    """Zero-mean filters: even and odd Gabor pairs (16, 1, 15, 15), and differences of Gaussians (3, 1, 15, 15)."""
    pairs = []
    for wavelength in _WAVELENGTHS:
        for k in range(_ORIENTATIONS):
            weight, across = _gaussian(0.4 * wavelength, 0.6 * wavelength, torch.pi * k / _ORIENTATIONS)
            phase = 2 * torch.pi * across / wavelength
            for wave in (torch.cos(phase), torch.sin(phase)):
                gabor = weight * wave
                pairs.append(gabor - weight * gabor.sum())
    blobs = [_gaussian(sigma, sigma)[0] - _gaussian(1.6 * sigma, 1.6 * sigma)[0] for sigma in _DOG_SIGMAS]
    return torch.stack(pairs)[:, None], torch.stack(blobs)[:, None]


def describe_texture(rgb: torch.Tensor, patch: int) -> torch.Tensor:
    """The descriptor of every patch, after the image's mean luminance is brought to 0.5: exposure does not count.

    Args:
        rgb: (B, 3, h, w) float32 in [0, 1]; h and w are multiples of `patch`.
        patch: side of a patch in pixels.

    Returns:
        (B, h / patch, w / patch, 39): mean and deviation of 3 colours, then mean, deviation and maximum of
        the energies of 8 Gabor pairs (at every second pixel, for they vary slowly) and 3 differences of Gaussians.
    """
    colours = torch.tensor(_COLOURS, dtype=torch.float32, device=rgb.device)
    colour = torch.einsum("bchw,kc->bkhw", rgb, colours)  # (B, 3, h, w)
    colour = colour * (0.5 / colour[:, :1].mean((2, 3), keepdim=True).clamp(min=_DARKEST))
    padded = F.pad(colour[:, :1], (_RADIUS,) * 4, mode="reflect")
    pairs, blobs = (bank.to(rgb.device) for bank in filters())
    step = 2 if patch % 2 == 0 else 1
    gabor = F.conv2d(padded, pairs, stride=step).unflatten(1, (-1, 2)).square().sum(2).add(1e-12).sqrt()
    dog = F.conv2d(padded, blobs).abs()
    parts = ((colour, patch), (gabor, patch // step), (dog, patch))
    means = [F.avg_pool2d(values, side) for values, side in parts]
    squares = [F.avg_pool2d(values.square(), side) for values, side in parts]
    deviations = [(s - m.square()).clamp(min=0).add(1e-8).sqrt() for s, m in zip(squares, means, strict=True)]
    maxima = [F.max_pool2d(gabor, patch // step), F.max_pool2d(dog, patch)]
    return torch.cat([*means, *deviations, *maxima], 1).permute(0, 2, 3, 1)


@lru_cache(maxsize=1)
def texture_constants() -> tuple[torch.Tensor, float]:
    """What each value of the descriptor is divided by, (39,), and the squared distance, so divided, that counts as one
    half.

    Measured on synthetic normal surfaces by `python -m patchclip.pretrain.constants`, fixed since.
    """
    constants = json.loads(CONSTANTS.read_text())
    return torch.tensor(constants["scale"], dtype=torch.float32), float(constants["half_at"])


# --- imagenet: the first two thirds of EfficientNet-Lite0, frozen ---------------------------------------------------

#: Pixels between its features.
_STEP = 16

#: How much larger than to the CLIP the image is to it.
_ENLARGED = 1.5

IMAGENET_WEIGHTS = _ASSETS / "efficientnet_lite0" / "model.safetensors"


def imagenet_parts(model: Any) -> nn.Sequential:
    """Of timm's `tf_efficientnet_lite0`: all up to the third group of blocks, and from there to the fifth."""
    return nn.Sequential(
        nn.Sequential(model.conv_stem, model.bn1, *model.blocks[:3]), nn.Sequential(*model.blocks[3:5])
    )


@lru_cache(maxsize=4)
def imagenet_network(device: torch.device, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """EfficientNet-Lite0 of ImageNet (arXiv 1905.11946), embedded: nothing is downloaded. For `describe_imagenet`.

    Three parts, which end at every 2, 8 and 16 pixels; the last two are of that dtype. What begins with pixels stays in
    float32: in bfloat16 it moves the scores twice as far, and is no faster.
    """
    import timm
    from safetensors.torch import load_file

    with torch.random.fork_rng(devices=[]):  # it draws random weights first
        parts = imagenet_parts(timm.create_model("tf_efficientnet_lite0"))
    parts.load_state_dict({name: tensor.float() for name, tensor in load_file(IMAGENET_WEIGHTS).items()})
    _fold_norms(parts.eval().float())
    parts.to(memory_format=torch.channels_last)  # two thirds of the time on a CPU
    first, coarse = parts.requires_grad_(False).to(device).children()
    stem, norm, *blocks = first.children()
    return nn.Sequential(nn.Sequential(stem, norm, blocks[0]), nn.Sequential(*blocks[1:]).to(dtype), coarse.to(dtype))


def describe_imagenet(network: nn.Sequential, rgb: torch.Tensor) -> torch.Tensor:
    """The features at every 16 pixels of the image, enlarged by half: on a grid that is finer than that of patches, a
    defect has a place of its own, and a normal place finds its like.

    Args:
        network: `imagenet_network`, or `imagenet_parts` of a model of other weights.
        rgb: (B, 3, h, w) float32 in [0, 1].

    Returns:
        (B, rows, columns, 112) float32 of unit length; rows = round(1.5 * h / 16), columns likewise.
    """
    size_hw = [_STEP * max(1, round(_ENLARGED * side / _STEP)) for side in rgb.shape[2:]]
    x = F.interpolate(2 * rgb - 1, size_hw, mode="bilinear").contiguous(memory_format=torch.channels_last)
    for part in network:
        x = part(x.to(next(part.parameters()).dtype))
    return F.normalize(x.float(), dim=1).permute(0, 2, 3, 1)


def identity(cues: Iterable[str]) -> dict[str, list[str | float]]:
    """What the vectors of these cues depend on: banks of another kind are not comparable.

    Returns:
        cue -> hash of its file, then its constants.
    """
    files = {"texture": (CONSTANTS, []), "imagenet": (IMAGENET_WEIGHTS, [_STEP, _ENLARGED])}
    return {
        cue: [hashlib.sha256(file.read_bytes()).hexdigest(), *constants]
        for cue, (file, constants) in files.items()
        if cue in cues
    }


def _fold_norms(module: nn.Module) -> None:
    """Put every batch norm into the convolution before it: the same values in less time."""
    convolution = ""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            convolution = name
        elif isinstance(child, nn.BatchNorm2d):
            folded = nn.utils.fusion.fuse_conv_bn_eval(getattr(module, convolution), child)
            setattr(module, convolution, folded)
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            _fold_norms(child)
