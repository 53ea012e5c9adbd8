"""Masks are read by colour: palettes, classes, transparency, 16 bits and floats."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from dataset_files import mask_of
from PIL import Image

from patchclip.datasets import Sample, read_mask

SIZE_HW = (48, 64)


def true_mask() -> np.ndarray:
    """A block of 12 x 20 pixels inside 48 x 64."""
    mask = np.zeros(SIZE_HW, bool)
    mask[18:30, 30:50] = True
    return mask


def read(path: Path) -> tuple[np.ndarray, str | None]:
    mask, problem = read_mask(mask_of(path), SIZE_HW)
    assert mask is not None, problem
    assert (mask.shape, mask.dtype) == (SIZE_HW, bool)
    return mask, problem


def save(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


def save_palette(path: Path, indices: np.ndarray, palette: dict[int, tuple[int, int, int]]) -> Path:
    image = Image.fromarray(indices.astype(np.uint8)).convert("P")
    image.putdata(indices.ravel().tolist())
    colours = [palette.get(index, (0, 0, 0)) for index in range(256)]
    image.putpalette([channel for colour in colours for channel in colour])
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("palette", "defect_index"),
    [
        ({0: (255, 255, 255), 1: (0, 0, 0)}, 0),  # white first, as quantised pictures have it
        ({0: (0, 0, 0), 1: (255, 255, 255)}, 1),
        ({0: (0, 0, 0), 1: (128, 0, 0)}, 1),  # the colours of PASCAL VOC
        ({0: (0, 0, 0), 9: (64, 128, 0)}, 9),
        ({0: (0, 0, 0), 8: (64, 0, 0)}, 8),
        ({0: (68, 1, 84), 1: (253, 231, 37)}, 1),  # viridis, of a plot
        ({0: (1, 1, 1), 1: (2, 2, 2), 2: (0, 0, 0)}, 0),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif"])
def test_palettes_are_read_by_their_colours(
    tmp_path: Path, palette: dict[int, tuple[int, int, int]], defect_index: int, suffix: str
) -> None:
    (background,) = set(list(palette)[-1:] if defect_index == 0 else [0])
    indices = np.where(true_mask(), defect_index, background)
    mask, problem = read(save_palette(tmp_path / f"mask{suffix}", indices, palette))
    assert problem is None
    assert (mask == true_mask()).all()


def test_one_bit_files_of_either_palette(tmp_path: Path) -> None:
    image = Image.fromarray(true_mask())
    for suffix in (".png", ".bmp", ".tif", ".gif"):
        image.save(tmp_path / f"mask{suffix}")
        assert (read(tmp_path / f"mask{suffix}")[0] == true_mask()).all()
    image.save(tmp_path / "pbm.ppm", format="PPM")  # where 1 is black
    assert (read(tmp_path / "pbm.ppm")[0] == true_mask()).all()


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 128, 0), (0, 0, 64), (128, 0, 128), (255, 255, 255)])
def test_colours_on_black(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    values = np.zeros((*SIZE_HW, 3), np.uint8)
    values[true_mask()] = colour
    mask, problem = read(save(tmp_path / "mask.png", values))
    assert problem is None
    assert (mask == true_mask()).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("highest", [1, 3, 40, 200])
def test_classes_count_from_1(tmp_path: Path, dtype: type, highest: int) -> None:
    values = true_mask().astype(dtype)
    values[true_mask()] = highest
    values[20:26, 32:40] = min(highest, 2)
    mask, problem = read(save(tmp_path / "mask.tif", values))
    assert (mask == true_mask()).all()
    assert (problem is None) == (highest < 40)
    if problem is not None:
        assert f"mask with values up to 2 and {highest}, which all count as defective" in problem


@pytest.mark.parametrize("highest", [1, 255, 300, 4095, 65535])
def test_16_bits(tmp_path: Path, highest: int) -> None:
    values = true_mask().astype(np.uint16) * np.uint16(highest)
    mask, problem = read(save(tmp_path / "mask.png", values))
    assert problem is None
    assert (mask == true_mask()).all()


def test_16_bits_with_soft_edges_are_cut_at_half(tmp_path: Path) -> None:
    soft = cv2.GaussianBlur(true_mask().astype(np.float32), (0, 0), 1.5)
    mask, _ = read(save(tmp_path / "mask.png", (soft * 65535).astype(np.uint16)))
    assert (mask == (soft > 0.5 * soft.max())).all()


def test_floats(tmp_path: Path) -> None:
    soft = cv2.GaussianBlur(true_mask().astype(np.float32), (0, 0), 1.5)
    for scale in (1, 255):
        mask, problem = read(save(tmp_path / "mask.tif", soft * scale))
        assert problem is None
        assert (mask == (soft > 0.5 * soft.max())).all()
    soft[0, 0] = np.nan
    save(tmp_path / "mask.tif", soft)
    mask, problem = read_mask(Sample(tmp_path / "i.png", 1, None, (tmp_path / "mask.tif",)), SIZE_HW)
    assert mask is None
    assert problem is not None
    assert "mask with NaN or infinite values, left out" in problem


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "uint32"])
def test_tiff_in_colour_of_any_depth_and_planes(tmp_path: Path, dtype: str, planar: str) -> None:
    highest = 1 if dtype.startswith("float") else np.iinfo(dtype).max
    red = np.zeros((*SIZE_HW, 3), dtype)
    red[true_mask(), 0] = highest
    values = red if planar == "contig" else np.moveaxis(red, 2, 0)
    tifffile.imwrite(tmp_path / "mask.tif", values, photometric="rgb", planarconfig=planar)
    mask, problem = read(tmp_path / "mask.tif")
    assert problem is None
    assert (mask == true_mask()).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiff_whose_0_is_white(tmp_path: Path, dtype: str) -> None:
    values = np.where(true_mask(), 0, np.iinfo(dtype).max).astype(dtype)
    tifffile.imwrite(tmp_path / "mask.tif", values, photometric="miniswhite")
    mask, problem = read(tmp_path / "mask.tif")
    assert problem is None
    assert (mask == true_mask()).all()


@pytest.mark.parametrize("highest", [255, 65535])
def test_tiff_palettes_of_8_and_16_bits(tmp_path: Path, highest: int) -> None:
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 0] = highest  # white comes first
    indices = np.where(true_mask(), 0, 1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "mask.tif", indices, photometric="palette", colormap=colours)
    mask, problem = read(tmp_path / "mask.tif")
    assert problem is None
    assert (mask == true_mask()).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiff_orientation(tmp_path: Path, dtype: str) -> None:
    sideways = np.rot90(true_mask()).astype(dtype)
    tag = (274, 3, 1, 6, True)  # to be turned by 90 degrees clockwise
    tifffile.imwrite(tmp_path / "mask.tif", sideways, photometric="minisblack", extratags=[tag])
    mask, problem = read(tmp_path / "mask.tif")
    assert problem is None
    assert (mask == true_mask()).all()


def test_values_below_zero_are_background(tmp_path: Path) -> None:
    values = true_mask().astype(np.int32)
    values[0] = -1
    mask, problem = read(save(tmp_path / "mask.tif", values))
    assert (mask == true_mask()).all()
    assert problem is not None
    assert "values below 0" in problem


@pytest.mark.parametrize("painted", [(255, 255, 255), (0, 0, 0), (200, 0, 0)])
@pytest.mark.parametrize("under", [(255, 255, 255), (0, 0, 0)])
def test_painted_on_transparency(tmp_path: Path, painted: tuple[int, int, int], under: tuple[int, int, int]) -> None:
    values = np.zeros((*SIZE_HW, 4), np.uint8)
    values[..., :3] = under
    values[true_mask()] = (*painted, 255)
    mask, problem = read(save(tmp_path / "mask.png", values))
    assert problem is None
    assert (mask == true_mask()).all()


def test_alpha_that_is_the_same_everywhere_says_nothing(tmp_path: Path) -> None:
    grey = true_mask().astype(np.uint8) * 255
    for alpha in (0, 255):
        for channels in (1, 3):
            values = np.dstack([grey] * channels + [np.full_like(grey, alpha)])
            mask, problem = read(save(tmp_path / "mask.png", values))
            assert problem is None
            assert (mask == true_mask()).all()


def test_a_photographs_orientation_counts_for_its_mask(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = Image.fromarray(true_mask().astype(np.uint8) * 255).rotate(180)
    turned.save(tmp_path / "mask.png", exif=exif)
    assert (read(tmp_path / "mask.png")[0] == true_mask()).all()
