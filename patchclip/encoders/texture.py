"""A fixed descriptor of a patch's texture: colour, Gabor and difference-of-Gaussian energies; nothing in it is learnt.

Small CLIPs see less than it does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from .clip import Backbone

#: Measured on synthetic normal surfaces by `python -m patchclip.pretrain.constants`, fixed since.
CONSTANTS_FILE = Path(__file__).parent.parent / "assets" / "texture.json"
_CONSTANTS = json.loads(CONSTANTS_FILE.read_text())

#: What each of the 39 values is divided by in a bank.
SCALE: tuple[float, ...] = tuple(_CONSTANTS["scale"])

#: The squared distance between descriptors, so divided, that counts as one half.
HALF_AT = float(_CONSTANTS["half_at"])

_RADIUS = 7  # of the filters, in pixels
_WAVELENGTHS = (4.0, 8.0)  # of the Gabor pairs, in pixels
_ORIENTATIONS = 4
_DOG_SIGMAS = (0.8, 1.6, 3.2)  # of the centre; the surround is 1.6 times as wide

#: Darker images are brightened no further than one of this mean luminance.
_MIN_LUMINANCE = 0.02

#: Luminance and two opponent colours of RGB in [0, 1].
_COLOURS = ((0.299, 0.587, 0.114), (0.5, -0.5, 0.0), (0.25, 0.25, -0.5))


class TextureDescriptor(nn.Module):
    """The descriptor of every patch, after the image's mean luminance is brought to 0.5: exposure does not count.

    Its 39 values: mean and deviation of 3 colours, then mean, deviation and maximum of the energies of 8 Gabor pairs
    (computed at every second pixel, since they vary slowly) and 3 differences of Gaussians.

    All filters are one convolution at every second pixel; the differences of Gaussians, which are wanted at every
    pixel, have four filters each in it, shifted by a pixel: half the time of two convolutions.

    Args:
        patch: side of a patch in pixels.
    """

    colours: torch.Tensor
    scale: torch.Tensor
    filters: torch.Tensor

    def __init__(self, patch: int):
        super().__init__()
        self.patch = patch
        self.step = 2 if patch % 2 == 0 else 1
        self.register_buffer("colours", torch.tensor(_COLOURS, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(SCALE, dtype=torch.float32))
        gabor, dog = make_filters()
        later = self.step - 1  # pixels by which the filters grow, so that they can be shifted
        self.gabor_count = len(gabor)
        self.register_buffer("filters", torch.cat([F.pad(gabor, (0, later, 0, later)), _shifted(dog, self.step)]))

    def forward(self, rgb: torch.Tensor, layers: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        """What a bank holds: the descriptor, each value divided by its usual deviation.

        Args:
            rgb: (B, 3, h, w) float32 in [0, 1]; h and w are multiples of the patch.
            layers: not used.

        Returns:
            (B, h / patch, w / patch, 39).
        """
        return self.describe(rgb) / self.scale

    def describe(self, rgb: torch.Tensor) -> torch.Tensor:
        """(B, 3, h, w) float32 in [0, 1] -> (B, h / patch, w / patch, 39), not scaled."""
        colour = (self.colours @ rgb.flatten(2)).unflatten(2, rgb.shape[2:])  # (B, 3, h, w)
        luminance = colour[:, :1].mean((2, 3), keepdim=True)
        colour = colour * (0.5 / luminance.clamp(min=_MIN_LUMINANCE))
        padded = F.pad(colour[:, :1], (_RADIUS,) * 4, mode="reflect")
        later = self.step - 1
        filtered = F.conv2d(F.pad(padded, (0, later, 0, later)), self.filters, stride=self.step)
        pairs = filtered[:, : self.gabor_count].unflatten(1, (-1, 2))  # even and odd
        gabor_energy = pairs.square().sum(2).add(1e-12).sqrt()
        dog_energy = F.pixel_shuffle(filtered[:, self.gabor_count :], self.step).abs()
        pooled = [(colour, self.patch), (gabor_energy, self.patch // self.step), (dog_energy, self.patch)]
        means, deviations = [], []
        for values, side in pooled:
            mean = F.avg_pool2d(values, side)
            variance = F.avg_pool2d(values.square(), side) - mean.square()
            means.append(mean)
            deviations.append(variance.clamp(min=0).add(1e-8).sqrt())
        maxima = [F.max_pool2d(values, side) for values, side in pooled[1:]]
        return torch.cat([*means, *deviations, *maxima], 1).permute(0, 2, 3, 1)


def make_filters() -> tuple[torch.Tensor, torch.Tensor]:
    """Zero-mean filters: even and odd Gabor pairs (16, 1, 15, 15), and differences of Gaussians (3, 1, 15, 15)."""
    pairs = []
    for wavelength in _WAVELENGTHS:
        for k in range(_ORIENTATIONS):
            envelope, across = _gaussian(0.4 * wavelength, 0.6 * wavelength, torch.pi * k / _ORIENTATIONS)
            phase = 2 * torch.pi * across / wavelength
            for wave in (torch.cos(phase), torch.sin(phase)):
                gabor = envelope * wave
                pairs.append(gabor - envelope * gabor.sum())
    differences = [_gaussian(sigma, sigma)[0] - _gaussian(1.6 * sigma, 1.6 * sigma)[0] for sigma in _DOG_SIGMAS]
    return torch.stack(pairs)[:, None], torch.stack(differences)[:, None]


def _shifted(filters: torch.Tensor, step: int) -> torch.Tensor:
    """(N, 1, k, k) -> (N * step^2, 1, k + step - 1, k + step - 1): each filter at every shift down and to the right, in
    the order of `pixel_shuffle`."""
    later = step - 1
    shifted = [F.pad(filters, (x, later - x, y, later - y)) for y in range(step) for x in range(step)]
    return torch.stack(shifted, 1).flatten(0, 1)


def _gaussian(sigma_x: float, sigma_y: float, angle: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A normalised Gaussian, and the coordinate across it, (15, 15) each."""
    span = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float32)
    y, x = torch.meshgrid(span, span, indexing="ij")
    turn = torch.tensor(angle, dtype=torch.float32)
    across = x * torch.cos(turn) + y * torch.sin(turn)
    along = -x * torch.sin(turn) + y * torch.cos(turn)
    envelope = torch.exp(-0.5 * ((across / sigma_x) ** 2 + (along / sigma_y) ** 2))
    return envelope / envelope.sum(), across


def make_descriptor(backbone: Backbone) -> TextureDescriptor:
    """For the patches of that backbone, on its device."""
    return TextureDescriptor(backbone.patch).to(backbone.device)


def fingerprint() -> list[str | float]:
    """What the vectors depend on: banks of descriptors with another fingerprint are not comparable."""
    return [hashlib.sha256(CONSTANTS_FILE.read_bytes()).hexdigest()]
