"""Masks with soft edges are cut at half; what is implausible about a mask is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_files import mask_of
from PIL import Image

from patchclip.datasets import Sample, read_mask

SIZE_HW = (72, 96)


def grey_mask() -> np.ndarray:
    values = np.zeros(SIZE_HW, np.uint8)
    cv2.ellipse(values, (40, 36), (20, 14), 20, 0, 360, 255, -1)
    return values


def overlap(mask: np.ndarray | None, problem: str | None) -> float:
    """Intersection over union with the true mask."""
    assert mask is not None, problem
    true = grey_mask() > 0
    return float((mask & true).sum() / (mask | true).sum())


def read(path: Path) -> tuple[np.ndarray | None, str | None]:
    return read_mask(mask_of(path), SIZE_HW)


def read_values(tmp_path: Path, values: np.ndarray) -> tuple[np.ndarray | None, str | None]:
    Image.fromarray(values).save(tmp_path / "mask.png")
    return read(tmp_path / "mask.png")


@pytest.mark.parametrize("quality", [30, 60, 90])
@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_lossy_formats_under_any_name(tmp_path: Path, form: str, quality: int) -> None:
    for name in (f"mask.{form}", "mask.png"):
        Image.fromarray(grey_mask()).save(tmp_path / name, form, quality=quality)
        assert overlap(*read(tmp_path / name)) > 0.97
    with Image.open(tmp_path / "mask.png") as decoded:
        decoded.convert("L").save(tmp_path / "again.png")
    assert overlap(*read(tmp_path / "again.png")) > 0.97


def test_soft_edges(tmp_path: Path) -> None:
    for sigma in (0.5, 1, 2):
        mask, problem = read_values(tmp_path, cv2.GaussianBlur(grey_mask(), (0, 0), sigma))
        assert problem is None
        assert overlap(mask, problem) > 0.96
    small = cv2.resize(grey_mask(), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    mask, problem = read_values(tmp_path, cv2.resize(small, SIZE_HW[::-1], interpolation=cv2.INTER_LINEAR))
    assert problem is None
    assert overlap(mask, problem) > 0.95


def test_jpeg_noise_alone_is_an_empty_mask(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 6, SIZE_HW).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "mask.jpg")
    mask, problem = read(tmp_path / "mask.jpg")
    assert mask is None
    assert problem is not None
    assert "empty mask of an anomalous image" in problem


@pytest.mark.parametrize("palette", [False, True])
def test_255_beside_classes_is_ignore(tmp_path: Path, palette: bool) -> None:
    classes = (grey_mask() > 0).astype(np.uint8)
    classes[30:40, 30:40] = 2
    values = np.where((cv2.dilate(classes, np.ones((5, 5))) > 0) & (classes == 0), 255, classes).astype(np.uint8)
    image = Image.frombytes("P", SIZE_HW[::-1], values.tobytes()) if palette else Image.fromarray(values)
    if palette:  # the colours of PASCAL VOC
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 756 + [224, 224, 192])
    image.save(tmp_path / "mask.png")
    mask, problem = read(tmp_path / "mask.png")
    assert overlap(mask, problem) == 1
    assert problem is not None
    assert "mask with values up to 2 and 255, which counts as 'ignore'" in problem


def test_255_is_a_defect_where_black_is_not_0(tmp_path: Path) -> None:
    """A palette of black, white and red, whose indices are no classes."""
    indices = np.where(grey_mask() > 0, 255, 1).astype(np.uint8)
    indices[30:40, 30:40] = 2
    image = Image.frombytes("P", SIZE_HW[::-1], indices.tobytes())
    image.putpalette([255, 0, 0, 0, 0, 0, 255, 0, 0] + [0] * 756 + [255, 255, 255])
    image.save(tmp_path / "mask.png")
    mask, problem = read(tmp_path / "mask.png")
    assert problem is None
    assert overlap(mask, problem) == 1


def test_rare_low_values_beside_255_are_noise(tmp_path: Path) -> None:
    values = grey_mask()
    values[0, :5] = 1
    mask, problem = read_values(tmp_path, values)
    assert overlap(mask, problem) == 1
    assert problem is not None
    assert "the low ones are rare and count as noise" in problem


@pytest.mark.parametrize("grey", [40, 64, 100])
def test_grey_areas_are_classes(tmp_path: Path, grey: int) -> None:
    values = grey_mask()
    values[:, :40][values[:, :40] > 0] = grey
    mask, problem = read_values(tmp_path, values)
    assert overlap(mask, problem) == 1
    assert problem is not None
    assert f"mask with areas of grey (values {grey}), which count as defective" in problem


def test_a_faint_piece_beside_a_strong_one_is_named(tmp_path: Path) -> None:
    values = grey_mask().astype(np.float32)
    cv2.line(values, (5, 66), (90, 66), 110, 2)
    values = cv2.GaussianBlur(values, (0, 0), 1)
    mask, problem = read_values(tmp_path, values.astype(np.uint8))
    assert mask is not None
    assert not mask[64:69].any()
    assert problem is not None
    assert "mask with pieces of grey below half, not counted" in problem


def test_a_faint_mask_is_cut_at_half_of_its_highest_value(tmp_path: Path) -> None:
    for highest in (25, 110):
        soft = cv2.GaussianBlur(grey_mask(), (0, 0), 2).astype(np.float32)
        mask, problem = read_values(tmp_path, (soft * highest / 255).astype(np.uint8))
        assert overlap(mask, problem) > 0.95
        assert problem is not None
        assert "mask is faint, its highest value is" in problem


def test_inverted_masks_are_left_out(tmp_path: Path) -> None:
    values = 255 - grey_mask()
    for inverted in (values, cv2.GaussianBlur(values, (0, 0), 1), (values > 0).astype(np.uint8)):
        mask, problem = read_values(tmp_path, inverted)
        assert mask is None
        assert problem is not None
        assert "of the image, perhaps inverted, left out" in problem
    at_the_edge = np.full(SIZE_HW, 255, np.uint8)
    at_the_edge[20:30, :20] = 0
    assert read_values(tmp_path, at_the_edge)[0] is None


def test_a_large_defect_is_not_inverted(tmp_path: Path) -> None:
    values = np.zeros(SIZE_HW, np.uint8)
    values[15:] = 255
    mask, problem = read_values(tmp_path, values)
    assert problem is None
    assert mask is not None
    assert mask.mean() == pytest.approx(57 / 72)


def test_pictures_are_no_masks(tmp_path: Path) -> None:
    y, x = np.mgrid[:72, :96]
    picture = 120 + 40 * np.sin(x / 9) + 20 * np.sin(y / 7) + np.random.default_rng(0).normal(0, 4, SIZE_HW)
    mask, problem = read_values(tmp_path, picture.clip(0, 255).astype(np.uint8))
    assert mask is None
    assert problem is not None
    assert "mask is a picture or a map" in problem


def test_of_several_pages_the_first_is_read(tmp_path: Path) -> None:
    first = Image.fromarray(grey_mask())
    for name in ("mask.tif", "mask.gif"):
        first.save(tmp_path / name, save_all=True, append_images=[Image.fromarray(255 - grey_mask())])
        mask, problem = read(tmp_path / name)
        assert overlap(mask, problem) == 1
        assert problem is not None
        assert "mask of 2 pages, the first is read" in problem


def test_all_problems_of_an_image_are_told(tmp_path: Path) -> None:
    Image.fromarray(grey_mask()[::2, ::2]).save(
        tmp_path / "a.tif", save_all=True, append_images=[Image.new("L", (9, 9))]
    )
    (tmp_path / "b.png").write_bytes(b"nothing")
    mask, problem = read_mask(Sample(tmp_path / "i.png", 1, None, (tmp_path / "a.tif", tmp_path / "b.png")), SIZE_HW)
    assert mask is None
    assert problem is not None
    for part in ("mask of 2 pages", "mask of another size, resized", "mask unreadable"):
        assert part in problem


def test_the_mask_of_a_normal_image_is_checked(tmp_path: Path) -> None:
    Image.fromarray(grey_mask()).save(tmp_path / "mask.png")
    Image.new("L", SIZE_HW[::-1]).save(tmp_path / "empty.png")
    mask, problem = read_mask(Sample(tmp_path / "i.png", 0, None, (tmp_path / "empty.png",)), SIZE_HW)
    assert mask is not None
    assert problem is None
    mask, problem = read_mask(Sample(tmp_path / "i.png", 0, None, (tmp_path / "mask.png",)), SIZE_HW)
    assert mask is not None
    assert not mask.any()
    assert problem is not None
    assert "mask of a normal image is not empty, its label counts" in problem
