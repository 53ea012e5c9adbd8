"""A fixed descriptor of each patch: colour, Gabor and difference-of-Gaussian energies, pooled by mean, deviation
and maximum. Nothing in it is learnt; small models see less than it does."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import torch
from torch.nn import functional as F

CONSTANTS = Path(__file__).parent / "assets" / "texture.json"

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
    turn = torch.tensor(angle)
    across, along = x * torch.cos(turn) + y * torch.sin(turn), -x * torch.sin(turn) + y * torch.cos(turn)
    weight = torch.exp(-0.5 * ((across / sigma_x) ** 2 + (along / sigma_y) ** 2))
    return weight / weight.sum(), across


@lru_cache(maxsize=1)
def filters() -> torch.Tensor:
    """(F, 1, 15, 15) zero-mean filters: even and odd Gabor pairs, then differences of Gaussians."""
    bank = []
    for wavelength in _WAVELENGTHS:
        for k in range(_ORIENTATIONS):
            weight, across = _gaussian(0.4 * wavelength, 0.6 * wavelength, torch.pi * k / _ORIENTATIONS)
            phase = 2 * torch.pi * across / wavelength
            for wave in (torch.cos(phase), torch.sin(phase)):
                gabor = weight * wave
                bank.append(gabor - weight * gabor.sum())
    for sigma in _DOG_SIGMAS:
        bank.append(_gaussian(sigma, sigma)[0] - _gaussian(1.6 * sigma, 1.6 * sigma)[0])
    return torch.stack(bank)[:, None]


def describe_patches(rgb: torch.Tensor, patch: int) -> torch.Tensor:
    """The descriptor of every patch, after the image's mean luminance is brought to 0.5: exposure does not count.

    Args:
        rgb: (B, 3, h, w) float32 in [0, 1]; h and w are multiples of `patch`.
        patch: side of a patch in pixels.

    Returns:
        (B, h / patch, w / patch, 39): mean and deviation of 3 colours, then mean, deviation and maximum of
        the energies of 8 Gabor pairs and 3 differences of Gaussians.
    """
    colours = torch.tensor(_COLOURS, device=rgb.device)
    colour = torch.einsum("bchw,kc->bkhw", rgb, colours)  # (B, 3, h, w)
    colour = colour * (0.5 / colour[:, :1].mean((2, 3), keepdim=True).clamp(min=_DARKEST))
    padded = F.pad(colour[:, :1], (_RADIUS,) * 4, mode="reflect")
    response = F.conv2d(padded, filters().to(rgb.device))  # (B, F, h, w)
    pairs = 2 * len(_WAVELENGTHS) * _ORIENTATIONS
    gabor = response[:, :pairs].unflatten(1, (-1, 2)).square().sum(2).add(1e-12).sqrt()
    energy = torch.cat([gabor, response[:, pairs:].abs()], 1)  # (B, 11, h, w)
    both = torch.cat([colour, energy], 1)
    mean = F.avg_pool2d(both, patch)
    deviation = (F.avg_pool2d(both.square(), patch) - mean.square()).clamp(min=0).add(1e-8).sqrt()
    pooled = torch.cat([mean, deviation, F.max_pool2d(energy, patch)], 1)
    return pooled.permute(0, 2, 3, 1)


@lru_cache(maxsize=1)
def whitening() -> tuple[torch.Tensor, float]:
    """What each value is divided by, (39,), and the squared whitened distance that counts as one half.

    Measured on synthetic normal surfaces by `python -m patchclip.pretrain.constants`, fixed since.
    """
    constants = json.loads(CONSTANTS.read_text())
    return torch.tensor(constants["scale"]), float(constants["half_at"])
