"""The texture descriptor, by hand-derived values."""

from __future__ import annotations

import pytest
import torch

from patchclip.encoders.texture import HALF_AT, SCALE, TextureDescriptor, make_filters


def describe(rgb: torch.Tensor, patch: int = 16) -> torch.Tensor:
    return TextureDescriptor(patch).describe(rgb)


def random_rgb(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_a_plain_image_is_its_colour() -> None:
    rgb = torch.tensor([0.2, 0.6, 0.4]).view(1, 3, 1, 1).expand(1, 3, 64, 48)
    found = describe(rgb)
    assert found.shape == (1, 4, 3, 39)
    luminance = 0.299 * 0.2 + 0.587 * 0.6 + 0.114 * 0.4
    colour = [0.5, -0.2 * 0.5 / luminance, 0.0]
    assert found[0, 1, 1, :3].tolist() == pytest.approx(colour, abs=1e-5)
    assert float(found[0, :, :, 3:14].abs().max()) < 1e-3  # no energy
    assert float(found[0, :, :, 14:].abs().max()) < 2e-3  # no deviation, no peak


def test_mean_and_deviation_of_half_a_patch() -> None:
    rgb = torch.full((1, 3, 32, 32), 0.25)
    rgb[..., 8:16, :16] = 0.75  # the lower half of the first patch
    colour = describe(rgb)[0, 0, 0]
    exposure = 0.5 / (0.25 + 0.5 / 8)  # the mean luminance becomes one half
    assert float(colour[0]) == pytest.approx(0.5 * exposure, abs=1e-5)
    assert float(colour[14]) == pytest.approx(0.25 * exposure, abs=1e-4)  # after 3 means of colours and 11 of energies
    assert colour[[1, 2, 15, 16]].tolist() == pytest.approx([0, 0, 1e-4, 1e-4], abs=1e-6)  # grey


def test_filters_have_no_mean_and_feel_their_orientation() -> None:
    pairs, blobs = make_filters()
    assert (pairs.shape, blobs.shape) == ((16, 1, 15, 15), (3, 1, 15, 15))
    assert float(torch.cat([pairs, blobs]).sum((1, 2, 3)).abs().max()) < 1e-5
    x = torch.arange(64.0)
    stripes = (0.5 + 0.5 * torch.cos(2 * torch.pi * x / 4)).expand(1, 3, 64, 64)
    energies = describe(stripes)[0, 1, 1, 3:14]
    assert int(energies[:8].argmax()) == 0  # wavelength 4, across x
    turned = describe(stripes.transpose(2, 3))[0, 1, 1, 3:14]
    assert int(turned[:8].argmax()) == 2  # wavelength 4, across y


def test_it_does_not_see_the_exposure() -> None:
    rgb = 0.6 * random_rgb(1, 3, 64, 64) + 0.05
    assert torch.allclose(describe(rgb), describe(0.4 * rgb), atol=1e-3)
    assert torch.isfinite(describe(torch.zeros(1, 3, 64, 64))).all()


def test_it_depends_on_nothing_far_away() -> None:
    rgb = random_rgb(1, 3, 96, 96)
    changed = rgb.clone()
    changed[..., 80:, 80:] = rgb[..., 80:, 80:].mean((2, 3), keepdim=True)  # the mean luminance stays
    difference = (describe(rgb) - describe(changed)).abs().amax(-1)[0]
    assert float(difference[5, 5]) > 0.05
    assert float(difference[:4, :4].max()) < 1e-5


def test_a_bank_holds_it_scaled() -> None:
    assert len(SCALE) == 39
    assert min(SCALE) > 0
    assert HALF_AT > 0
    rgb = random_rgb(2, 3, 64, 48)
    found = TextureDescriptor(16)(rgb, [torch.zeros(2, 4, 3, 8)])
    assert found.shape == (2, 4, 3, 39)
    assert torch.allclose(found, describe(rgb) / torch.tensor(SCALE))
    assert torch.allclose(found[1:], TextureDescriptor(16)(rgb[1:]), atol=1e-5)  # of each image alone


def test_patches_of_an_odd_side() -> None:
    assert describe(random_rgb(1, 3, 45, 60), patch=15).shape == (1, 3, 4, 39)


def test_nothing_depends_on_the_default_dtype() -> None:
    rgb = random_rgb(1, 3, 64, 64)
    expected = TextureDescriptor(16)(rgb)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(TextureDescriptor(16)(rgb), expected)
    finally:
        torch.set_default_dtype(torch.float32)
