"""From an upright image to what the network sees: sizes and tiles by hand, pixels as Pillow resizes them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from patchclip.images.plan import Plan, Prepared, plan_size, plan_square
from patchclip.images.prepare import resize, to_rgb

RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [128, 128, 128], [255, 255, 255]]], np.uint8)


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("image_hw", "patches"),
    [
        ((500, 500), (14, 14)),
        ((1250, 500), (22, 9)),
        ((500, 1250), (9, 22)),
        ((10, 4000), (3, 65)),
        ((4000, 10), (65, 3)),
    ],
)
def test_an_image_keeps_its_proportions_and_the_area_of_the_square(
    image_hw: tuple[int, int], patches: tuple[int, int]
) -> None:
    size_hw = (patches[0] * 16, patches[1] * 16)
    assert plan_size(image_hw, side=224, patch=16, tile=None) == Plan(size_hw, (1, 1))


def test_a_small_square_still_has_three_patches_a_side() -> None:
    assert plan_size((50, 50), side=32, patch=16, tile=None) == Plan((48, 48), (1, 1))
    assert plan_size((50, 500), side=32, patch=16, tile=None) == Plan((48, 48), (1, 1))


@pytest.mark.parametrize(
    ("image_hw", "size_hw", "tiles_hw"),
    [
        ((200, 300), (11 * 16, 18 * 16), (1, 1)),  # no side is longer than a tile
        ((600, 900), (2 * 224, 3 * 224), (2, 3)),  # tiles of 300 x 300
        ((301, 300), (2 * 10 * 16, 20 * 16), (2, 1)),  # of 150 x 300: 10 x 20 patches for 14 x 14
        ((100, 901), (9 * 16, 4 * 22 * 16), (1, 4)),  # of 100 x 225: 9 x 22 patches for 14 x 14
    ],
)
def test_larger_images_are_cut_into_tiles(
    image_hw: tuple[int, int], size_hw: tuple[int, int], tiles_hw: tuple[int, int]
) -> None:
    assert plan_size(image_hw, side=224, patch=16, tile=300) == Plan(size_hw, tiles_hw)


@pytest.mark.parametrize(
    ("side", "patch", "expected"), [(240, 16, 240), (230, 16, 224), (235, 16, 240), (234, 32, 224), (5, 14, 14)]
)
def test_a_square_is_in_whole_patches(side: int, patch: int, expected: int) -> None:
    assert plan_square(side=side, patch=patch) == Plan((expected, expected), (1, 1))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_resize_is_pillows_and_torch_is_within_one_step_of_it(interpolation: str) -> None:
    wide = photo(40, 60)
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    for size_hw in ((10, 20), (70, 90)):
        expected = np.asarray(Image.fromarray(wide).resize(size_hw[::-1], filters[interpolation]))
        np.testing.assert_array_equal(resize(wide, size_hw, interpolation, with_pillow=True), expected)
        quick = resize(wide, size_hw, interpolation, with_pillow=False)
        assert quick.shape == (*size_hw, 3)
        assert quick.dtype == np.uint8
        assert np.abs(quick.astype(int) - expected).max() <= 1


def test_an_image_of_that_size_already_is_left_alone() -> None:
    wide = photo(40, 60)
    for with_pillow in (True, False):
        assert resize(wide, (40, 60), "bicubic", with_pillow=with_pillow) is wide


def test_an_image_that_is_read_only() -> None:
    wide = photo(40, 60)
    wide.flags.writeable = False
    assert resize(wide, (10, 20), "bicubic", with_pillow=False).shape == (10, 20, 3)
    assert not wide.flags.writeable


def test_to_rgb_by_hand() -> None:
    found = to_rgb([RGB, 255 - RGB], torch.device("cpu"))
    assert found.shape == (2, 3, 2, 3)
    assert found.dtype == torch.float32
    assert found[0, :, 0, 0].tolist() == [1, 0, 0]
    assert found[0, :, 0, 2].tolist() == [0, 0, 1]
    assert found[0, :, 1, 0].tolist() == pytest.approx([10 / 255, 20 / 255, 30 / 255])
    assert found[1, :, 0, 0].tolist() == [0, 1, 1]


def test_prepared_says_its_plan_and_can_be_pickled() -> None:
    prepared = Prepared(photo(60, 90), photo(32, 48), (2, 3))
    assert prepared.image_hw == (60, 90)
    assert prepared.plan == Plan((32, 48), (2, 3))
    again = pickle.loads(pickle.dumps(prepared))  # noqa: S301
    np.testing.assert_array_equal(again.image, prepared.image)
    np.testing.assert_array_equal(again.pixels, prepared.pixels)
    assert again.plan == prepared.plan
    assert len({prepared.plan, again.plan, Plan((32, 48), (1, 1))}) == 2  # a key to group images by
