"""Masks that lie among images are masks, not images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import read_one, relative_paths, write_images
from PIL import Image

from patchclip.datasets import Sample, images_in

TEST = "test/scratch"

#: Masks of 000.png and 001.png, from their folder on.
NAMES = (
    ("000_mask.png", "001_mask.png"),
    ("000_MASK.PNG", "001_Mask.png"),
    ("000_gt.png", "001_GT.png"),
    ("000_label.bmp", "001_label.bmp"),
    ("000_seg.png", "001_seg.png"),
    ("000-mask.png", "001 mask.png"),
    ("000.mask.png", "001.gt.png"),
    ("000_ground_truth.png", "001_groundtruth.png"),
    ("000_annotation.png", "001_labels.png"),
    ("mask_000.png", "gt_001.png"),
    ("000_mask_0.png", "001_mask_12.png"),
    ("000.png_mask.png", "001.png_mask.png"),
    ("masks/000.png", "masks/001.png"),
    ("Mask/000_mask.png", "Mask/001_mask.png"),
    ("gt/000.png", "gt/001.png"),
    ("Label/000_label.PNG", "Label/001_label.PNG"),
    ("ground_truth/000.png", "ground_truth/001_gt.tif"),
    ("masks/000/a.png", "masks/001/b.png"),
)


@pytest.mark.parametrize("names", NAMES)
def test_masks_beside_images(tmp_path: Path, names: tuple[str, str]) -> None:
    write_images(tmp_path, "train/good/0.png", "test/good/0.png", f"{TEST}/000.png", f"{TEST}/001.png")
    write_images(tmp_path, *(f"{TEST}/{name}" for name in names))
    category = read_one(tmp_path)
    assert category.problems == ()
    assert relative_paths(category, 1) == [f"{TEST}/000.png", f"{TEST}/001.png"]
    assert [sample.masks for sample in category.test if sample.label] == [
        (tmp_path / TEST / names[0],),
        (tmp_path / TEST / names[1],),
    ]


@pytest.mark.parametrize("names", NAMES)
def test_masks_beside_images_of_good_and_bad(tmp_path: Path, names: tuple[str, str]) -> None:
    write_images(tmp_path, "good/0.png", "good/1.png", "bad/000.png", "bad/001.png")
    write_images(tmp_path, *(f"bad/{name}" for name in names))
    assert relative_paths(read_one(tmp_path), 1) == ["bad/000.png", "bad/001.png"]


def test_masks_of_normal_images(tmp_path: Path) -> None:
    write_images(tmp_path, "train/good/0.png", "train/good/0_mask.png", "test/good/1.png", "test/good/1_GT.png")
    write_images(tmp_path, "test/hole/2.png", "ground_truth/hole/2.png", "ground_truth/good/1.png")
    category = read_one(tmp_path)
    assert category.references == {None: (tmp_path / "train/good/0.png",)}
    both = (tmp_path / "ground_truth/good/1.png", tmp_path / "test/good/1_GT.png")
    assert category.test[0] == Sample(tmp_path / "test/good/1.png", 0, None, both)
    assert relative_paths(category, 1) == ["test/hole/2.png"]
    assert category.problems == (f"{tmp_path / 'train/good'}: 1 normal images have masks, which are not used",)


def test_two_files_of_one_name(tmp_path: Path) -> None:
    """As the data set of magnetic tiles has them: exp1.jpg and its mask exp1.png."""
    write_images(tmp_path, "good/0.jpg", "good/1.jpg")
    picture = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    mask = np.zeros((24, 32), np.uint8)
    mask[5:9, 7:12] = 255
    (tmp_path / "bad").mkdir()
    Image.fromarray(picture).save(tmp_path / "bad/a.jpg")
    Image.fromarray(mask).save(tmp_path / "bad/a.png")
    Image.fromarray(picture).save(tmp_path / "bad/b.jpg")
    Image.fromarray(picture).save(tmp_path / "bad/b.png")
    category = read_one(tmp_path)
    assert category.test[0] == Sample(tmp_path / "bad/a.jpg", 1, None, (tmp_path / "bad/a.png",))
    assert relative_paths(category, 1) == ["bad/a.jpg", "bad/b.jpg", "bad/b.png"]
    assert f"{tmp_path / 'bad'}: b.jpg and b.png have one name, all count as images" in category.problems


def test_masks_without_an_image_are_left_out_and_named(tmp_path: Path) -> None:
    write_images(tmp_path, "train/good/0.png", "test/good/0.png", f"{TEST}/0.png", f"{TEST}/0_mask.png")
    write_images(tmp_path, f"{TEST}/9_mask.png", "test/hole/1.png", "test/hole/gt/8.png", "test/dent/2.png")
    category = read_one(tmp_path)
    assert relative_paths(category, 1) == ["test/dent/2.png", "test/hole/1.png", f"{TEST}/0.png"]
    assert category.problems == (
        f"{tmp_path / 'test/hole/gt'}: 1 masks have no image, such as 8.png",
        f"{tmp_path / TEST}: 1 masks have no image and are left out, such as 9_mask.png",
        f"{tmp_path / 'test/dent'}: no anomalous image has a mask",
        f"{tmp_path / 'test/hole'}: no anomalous image has a mask",
    )


def test_images_that_are_named_like_masks_are_named(tmp_path: Path) -> None:
    write_images(tmp_path, "train/good/part_label.png", "test/good/0.png", "test/hole/1_seg.png")
    category = read_one(tmp_path)
    assert category.references == {None: (tmp_path / "train/good/part_label.png",)}
    assert category.problems == (
        f"{tmp_path / 'train/good'}: 1 images are named like masks, such as part_label.png",
        f"{tmp_path / 'test/hole'}: 1 images are named like masks, such as 1_seg.png",
    )


def test_words_inside_a_name_are_no_mask(tmp_path: Path) -> None:
    names = ("mask.png", "label.png", "000.png", "000_masked.png", "000_legacy.png", "gt40.png", "unlabel.png")
    write_images(tmp_path, *names)
    assert [path.name for path in images_in(tmp_path)] == sorted(names)


def test_images_in_a_folder_leaves_masks_out(tmp_path: Path) -> None:
    write_images(tmp_path, "0.jpg", "0_mask.png", "1.jpg", "1_mask.png")
    with pytest.warns(UserWarning, match=r"2 masks beside images are left out, such as 0_mask\.png"):
        assert [path.name for path in images_in(tmp_path)] == ["0.jpg", "1.jpg"]


def test_masks_in_other_letters_than_their_images(tmp_path: Path) -> None:
    write_images(tmp_path, "train/good/0.png", "test/good/0.png", "test/Hole/IMG_1.png", "test/Hole/img_2.PNG")
    write_images(tmp_path, "Ground_Truth/hole/img_1_mask.png", "Ground_Truth/hole/IMG_2_mask.png")
    masks = [sample.masks[0].name for sample in read_one(tmp_path).test if sample.label]
    assert masks == ["img_1_mask.png", "IMG_2_mask.png"]
