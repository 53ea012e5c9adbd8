"""The resizing without torch, against that with torch."""

from __future__ import annotations

import numpy as np
import pytest

from patchclip.images.prepare import resize
from patchclip.images.resample import resample

SIZES = [
    ((900, 900), (224, 224)),
    ((480, 640), (192, 256)),
    ((1250, 500), (352, 144)),
    ((96, 128), (192, 256)),  # larger
    ((300, 100), (224, 224)),  # larger one way, smaller the other
    ((224, 500), (224, 224)),  # one way alone
    ((3, 2), (48, 64)),
    ((1, 4000), (48, 48)),
]


def photograph(size_hw: tuple[int, int]) -> np.ndarray:
    """Sharp edges up to black and white, where the bicubic filter leaves the range of bytes."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 2, (size_hw[0] // 5 + 1, size_hw[1] // 5 + 1, 3), dtype=np.uint8) * 255
    enlarged = coarse.repeat(5, 0).repeat(5, 1)[: size_hw[0], : size_hw[1]]
    noise = random.integers(0, 40, enlarged.shape, dtype=np.uint8)
    return np.where(enlarged > 0, enlarged - noise // 2, noise // 2).astype(np.uint8)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("size_hw", "new_hw"), SIZES)
def test_it_is_that_of_torch(size_hw: tuple[int, int], new_hw: tuple[int, int], interpolation: str) -> None:
    image = photograph(size_hw)
    found = resample(image, new_hw, interpolation)
    expected = resize(image, new_hw, interpolation, with_pillow=False)
    assert found.shape == (*new_hw, 3)
    assert found.dtype == np.uint8
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-4


def test_an_image_of_that_size_is_given_back() -> None:
    image = photograph((48, 64))
    assert resample(image, (48, 64), "bicubic") is image


def test_views_and_constants() -> None:
    image = photograph((96, 128))
    np.testing.assert_array_equal(
        resample(image[:, ::-1], (48, 64), "bicubic"), resample(image[:, ::-1].copy(), (48, 64), "bicubic")
    )
    flat = np.full((70, 50, 3), 201, np.uint8)
    assert (resample(flat, (48, 64), "bicubic") == 201).all()
