"""The pixels of masks, of every kind of file, and the masks that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchclip.datasets import Sample, read_mask


def mask_sample(tmp_path: Path, values: np.ndarray, *, suffix: str = ".png", mode: str | None = None) -> Sample:
    path = tmp_path / f"mask{suffix}"
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([0, 0, 0] * 256)  # all black: only the indices tell
    image.save(path)
    return Sample(tmp_path / "image.png", 1, None, (path,))


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        (np.array([[0, 255], [0, 0], [7, 0]], np.uint8), None),
        (np.array([[0, 1], [0, 0], [2, 0]], np.uint8), "P"),  # VisA: class indices
        (np.array([[0, 300], [0, 0], [1, 0]], np.uint16), None),
        (np.array([[0, 1], [0, 0], [1, 0]], bool), None),
        (np.dstack([np.zeros((3, 2, 2), np.uint8), np.array([[0, 9], [0, 0], [9, 0]], np.uint8)]), None),
        (np.dstack([np.array([[[0] * 3, [9] * 3], [[0] * 3] * 2, [[9] * 3, [0] * 3]], np.uint8),
                    np.full((3, 2), 255, np.uint8)]), None),  # alpha says nothing
    ],
)  # fmt: skip
def test_any_value_but_zero_is_defect(tmp_path: Path, values: np.ndarray, mode: str | None) -> None:
    mask, problem = read_mask(mask_sample(tmp_path, values, mode=mode), (3, 2))
    assert problem is None
    assert mask is not None
    assert mask.dtype == bool
    assert mask.tolist() == [[False, True], [False, False], [True, False]]


def test_masks_of_everything_are_doubted(tmp_path: Path) -> None:
    mask, problem = read_mask(mask_sample(tmp_path, np.full((2, 2), 255, np.uint8)), (2, 2))
    assert mask is not None
    assert problem is not None
    assert "covers the whole image" in problem


def test_jpg_masks_have_a_soft_edge(tmp_path: Path) -> None:
    values = np.zeros((32, 32), np.uint8)
    values[8:24, 8:24] = 255
    mask, _ = read_mask(mask_sample(tmp_path, values, suffix=".jpg"), (32, 32))
    assert mask is not None
    assert mask.sum() == 256


def test_masks_of_one_image_are_joined(tmp_path: Path) -> None:
    paths = []
    for row in range(2):
        values = np.zeros((2, 2), np.uint8)
        values[row, 0] = 255
        Image.fromarray(values).save(tmp_path / f"{row}.png")
        paths.append(tmp_path / f"{row}.png")
    mask, _ = read_mask(Sample(tmp_path / "i.png", 1, None, tuple(paths)), (2, 2))
    assert mask is not None
    assert mask.tolist() == [[True, False], [True, False]]


def test_masks_of_another_size(tmp_path: Path) -> None:
    values = np.array([[255, 0], [0, 0]], np.uint8)
    mask, problem = read_mask(mask_sample(tmp_path, values), (4, 4))
    assert mask is not None
    assert mask.tolist() == [[True, True, False, False]] * 2 + [[False] * 4] * 2
    assert problem is not None
    assert "mask of another size, resized" in problem
    assert "is 2 x 2, its image 4 x 4" in problem
    mask, problem = read_mask(mask_sample(tmp_path, values), (4, 6))
    assert mask is None
    assert problem is not None
    assert "mask with another aspect ratio, left out of the pixel metrics" in problem


def test_masks_that_say_nothing(tmp_path: Path) -> None:
    normal, _ = read_mask(Sample(tmp_path / "i.png", 0), (2, 3))
    assert normal is not None
    assert normal.shape == (2, 3)
    assert not normal.any()
    assert read_mask(Sample(tmp_path / "i.png", 1), (2, 3)) == (None, None)
    mask, problem = read_mask(mask_sample(tmp_path, np.zeros((2, 2), np.uint8)), (2, 2))
    assert mask is None
    assert problem is not None
    assert "empty mask of an anomalous image" in problem
    (tmp_path / "broken.png").write_bytes(b"nothing")
    mask, problem = read_mask(Sample(tmp_path / "i.png", 1, None, (tmp_path / "broken.png",)), (2, 2))
    assert mask is None
    assert problem is not None
    assert "mask unreadable" in problem
