"""Turned and mirrored copies of a normal image, and its mild variations."""

from __future__ import annotations

import numpy as np
import pytest

from patchclip.images.augment import mild_variations, rotated_and_flipped

SQUARE = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)


def test_quarter_turns_and_mirrored_ones() -> None:
    copies = rotated_and_flipped(SQUARE, rotations=4, flips=True)
    turns = [np.rot90(SQUARE, k) for k in range(4)]
    assert len(copies) == 8
    for copy, expected in zip(copies, turns + [turn[:, ::-1] for turn in turns], strict=True):
        np.testing.assert_array_equal(copy, expected)


@pytest.mark.parametrize(("rotations", "flips", "count"), [(1, False, 1), (1, True, 2), (2, False, 2), (8, False, 8)])
def test_the_image_itself_comes_first(rotations: int, flips: bool, count: int) -> None:
    copies = rotated_and_flipped(SQUARE, rotations=rotations, flips=flips)
    assert len(copies) == count
    np.testing.assert_array_equal(copies[0], SQUARE)
    if rotations == 2:
        np.testing.assert_array_equal(copies[1], np.rot90(SQUARE, 2))


def test_diagonal_turns_mirror_what_they_uncover() -> None:
    image = np.zeros((65, 65, 3), np.uint8)
    image[32, 8:57] = 255  # a horizontal line through the middle
    copies = rotated_and_flipped(image, rotations=8, flips=False)
    diagonal = copies[1][..., 0]
    assert diagonal.shape == (65, 65)
    assert diagonal[20, 44] > 100  # counter-clockwise: up on the right
    assert diagonal[44, 20] > 100
    assert diagonal[20, 20] == diagonal[44, 44] == diagonal[32, 10] == 0
    grey = np.full((40, 60, 3), 90, np.uint8)
    for copy in rotated_and_flipped(grey, rotations=8, flips=True):
        assert (copy == 90).all()  # no black corners


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (40, 60, 3)])
def test_copies_are_whole_arrays_of_their_own(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for copy in (*rotated_and_flipped(image, rotations=8, flips=True), *mild_variations(image)):
        assert copy.flags.c_contiguous  # torch takes no negative strides
        assert copy.dtype == np.uint8
        assert not np.shares_memory(copy, image)


def test_six_mild_variations() -> None:
    columns = np.linspace(0, 240, 60, dtype=np.uint8)
    image = np.broadcast_to(columns[None, :, None], (40, 60, 3)).copy()  # brighter to the right
    image[:20] += 10
    variations = mild_variations(image)
    assert len(variations) == 6
    np.testing.assert_array_equal(variations[0], image[:, ::-1])
    np.testing.assert_array_equal(variations[1], image[::-1])
    for warped in variations[2:]:
        assert warped.shape == image.shape
        difference = np.abs(warped.astype(int) - image)
        assert 0 < difference.mean() < 10
        assert difference[20, 30].max() <= 10  # the middle stays where it is
    closer = variations[4][30, :, 0].astype(int)
    assert closer[5] > image[30, 5, 0]
    assert closer[54] < image[30, 54, 0]
