"""Layouts of published data sets, and what of them is left out; nothing is dropped in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import read_one, relative_paths, write_images
from PIL import Image

from patchclip.datasets import Sample, read_dataset


def write_masks(root: Path, *names: str, marked: bool) -> None:
    values = np.zeros((12, 16), np.uint8)
    values[3:6, 4:9] = 255 if marked else 0
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)


def write_mvtec_ad_2(root: Path) -> None:
    write_images(root, "train/good/000_regular.png", "train/good/001_regular.png", "validation/good/002_regular.png")
    write_images(root, "test_public/good/000_regular.png", "test_public/good/000_overexposed.png")
    write_images(root, "test_public/bad/000_regular.png", "test_public/bad/000_shift_1.png")
    masks = (f"test_public/ground_truth/bad/{name}_mask.png" for name in ("000_regular", "000_shift_1"))
    write_masks(root, *masks, marked=True)
    write_images(root, "test_private/000_regular.png", "test_private_mixed/000_mixed.png")


def test_mvtec_ad_2(tmp_path: Path) -> None:
    root = tmp_path / "MVTec_AD_2"
    write_mvtec_ad_2(root / "can")
    write_mvtec_ad_2(root / "vial")
    can, vial = read_dataset(root)
    assert (can.dataset, can.name, can.layout, vial.name) == ("MVTec_AD_2", "can", "mvtec_ad_2", "vial")
    folder = root / "can"
    assert [path.name for path in can.references[None]] == ["000_regular.png", "001_regular.png"]
    assert len(relative_paths(can, 0)) == 2
    mask = folder / "test_public/ground_truth/bad/000_regular_mask.png"
    assert can.test[0] == Sample(folder / "test_public/bad/000_regular.png", 1, None, (mask,))
    assert relative_paths(can, 1) == ["test_public/bad/000_regular.png", "test_public/bad/000_shift_1.png"]
    assert can.problems == (
        f"{folder / 'test_private'}: images without labels, not used",
        f"{folder / 'test_private_mixed'}: images without labels, not used",
        f"{folder / 'validation'}: not used",
    )


def test_mvtec_3d(tmp_path: Path) -> None:
    root = tmp_path / "mvtec3d"
    for part in ("train/good", "validation/good", "test/good", "test/crack"):
        write_images(root, f"bagel/{part}/rgb/000.png", f"bagel/{part}/rgb/001.png", f"bagel/{part}/xyz/000.tiff")
    write_masks(root, "bagel/test/good/gt/000.png", marked=False)
    write_masks(root, "bagel/test/crack/gt/000.png", "bagel/test/crack/gt/001.png", marked=True)
    (root / "calibration").mkdir()
    category = read_one(root)
    bagel = root / "bagel"
    assert (category.name, category.layout) == ("bagel", "mvtec_3d")
    assert [path.name for path in category.references[None]] == ["000.png", "001.png"]
    assert category.test == (
        Sample(bagel / "test/crack/rgb/000.png", 1, "crack", (bagel / "test/crack/gt/000.png",)),
        Sample(bagel / "test/crack/rgb/001.png", 1, "crack", (bagel / "test/crack/gt/001.png",)),
        Sample(bagel / "test/good/rgb/000.png", 0, None, (bagel / "test/good/gt/000.png",)),
        Sample(bagel / "test/good/rgb/001.png", 0),
    )
    left_out = "1 files are no photographs and are left out, such as xyz/000.tiff"
    assert category.problems == (
        f"{bagel / 'train/good'}: {left_out}",
        f"{bagel / 'test/crack'}: {left_out}",
        f"{bagel / 'test/good'}: {left_out}",
        f"{bagel / 'validation'}: not used",
        f"{root / 'calibration'}: not a category like bagel, left out",
    )


def test_kolektor(tmp_path: Path) -> None:
    root = tmp_path / "KolektorSDD"
    for folder in ("kos01", "kos02"):
        write_images(root, *(f"{folder}/Part{k}.jpg" for k in range(4)), size=(16, 12))
        write_masks(root, *(f"{folder}/Part{k}_label.bmp" for k in (0, 1, 2)), marked=False)
        write_masks(root, f"{folder}/Part3_label.bmp", marked=True)
    (root / "kos02/Part1_label.bmp").unlink()
    (root / "kos02/Part2_label.bmp").write_bytes(b"nothing")
    category = read_one(root)
    assert (category.name, category.layout) == ("KolektorSDD", "kolektor")
    names = [path.relative_to(root).as_posix() for path in category.references[None]]
    assert names == ["kos01/Part0.jpg", "kos01/Part2.jpg"]
    assert relative_paths(category, 0) == ["kos01/Part1.jpg", "kos02/Part0.jpg"]
    assert relative_paths(category, 1) == ["kos01/Part3.jpg", "kos02/Part3.jpg"]
    assert category.test[0].masks == (root / "kos01/Part3_label.bmp",)
    unreadable, unknown, bare, split = category.problems
    assert unreadable.startswith(f"mask unreadable, left out of the pixel metrics: {root / 'kos02/Part2_label.bmp'}")
    assert unknown == f"{root / 'kos02/Part2.jpg'}: left out, its label is unknown"
    assert bare == f"{root / 'kos02'}: 1 images have no mask and are left out, such as Part1.jpg"
    assert split == f"{root}: no split, so every second normal image is tested (2)"


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Train", "TEST")])
def test_kolektor_2(tmp_path: Path, train: str, test: str) -> None:
    root = tmp_path / "KSDD2"
    for part in (train, test):
        write_images(root, *(f"{part}/{10000 + k}.png" for k in range(4)), size=(16, 12))
        write_masks(root, *(f"{part}/{10000 + k}_GT.png" for k in (0, 1)), marked=False)
        write_masks(root, f"{part}/10002_GT.png", marked=True)
    (root / "split_weakly_0.pyb").write_bytes(b"x")
    category = read_one(root)
    assert (category.name, category.layout) == ("KSDD2", "kolektor2")
    assert category.references == {None: (root / train / "10000.png", root / train / "10001.png")}
    assert category.test == (
        Sample(root / test / "10002.png", 1, None, (root / test / "10002_GT.png",)),
        Sample(root / test / "10000.png", 0),
        Sample(root / test / "10001.png", 0),
    )
    assert category.problems == (
        f"{root / train}: 1 images have no mask and are left out, such as 10003.png",
        f"{root / test}: 1 images have no mask and are left out, such as 10003.png",
        f"{root}: 1 anomalous training images are left out",
    )


def write_dagm(root: Path) -> None:
    for part in ("Train", "Test"):
        write_images(root, *(f"{part}/{k:04}.PNG" for k in range(1, 6)), size=(16, 12))
        write_masks(root, f"{part}/Label/0002_label.PNG", marked=True)


def test_dagm(tmp_path: Path) -> None:
    write_dagm(tmp_path / "DAGM/Class1")
    write_dagm(tmp_path / "DAGM/Class2/Class2")  # as its archives unpack
    first, second = read_dataset(tmp_path / "DAGM")
    assert (first.dataset, first.name, first.layout, second.name) == ("DAGM", "Class1", "dagm", "Class2")
    root = tmp_path / "DAGM/Class1"
    assert [path.name for path in first.references[None]] == ["0001.PNG", "0003.PNG", "0004.PNG", "0005.PNG"]
    assert first.test[0] == Sample(root / "Test/0002.PNG", 1, None, (root / "Test/Label/0002_label.PNG",))
    assert relative_paths(first, 0) == [f"Test/000{k}.PNG" for k in (1, 3, 4, 5)]
    assert first.problems == (f"{root}: 1 anomalous training images are left out",)


def test_dagm_with_its_table(tmp_path: Path) -> None:
    write_dagm(tmp_path)
    write_masks(tmp_path, "Test/Label/0004_label.PNG", marked=True)
    lines = ("1", "1\t0\t0001.PNG\t0\t0", "2\t1\t0002.PNG\t0\t0002_label.PNG", "3\t1\t0003.PNG\t0\t0003_label.PNG")
    table = "\n".join((*lines, "4\t0\t0004.PNG\t0\t0", "5\t0\t0005.PNG\t0\t0"))
    (tmp_path / "Test/Label/Labels.txt").write_text(table, encoding="utf-8-sig")
    category = read_one(tmp_path)
    assert relative_paths(category, 1) == ["Test/0002.PNG", "Test/0003.PNG"]
    assert relative_paths(category, 0) == ["Test/0001.PNG", "Test/0005.PNG"]
    assert category.problems == (
        f"{tmp_path / 'Test'}: 1 anomalous images have no mask, such as 0003.PNG",
        f"{tmp_path / 'Test'}: 1 images with a mask are normal by their table, such as 0004.PNG",
        f"{tmp_path}: 1 anomalous training images are left out",
    )


@pytest.mark.parametrize(
    ("good", "test", "bad", "truth"),
    [("Train/Good", "Test/Good", "Test/NG", "Ground_Truth/NG"), ("TRAIN/OK", "TEST/OK", "TEST/Crack", "GT/crack")],
)
def test_mvtec_in_any_letter_case(tmp_path: Path, good: str, test: str, bad: str, truth: str) -> None:
    write_images(tmp_path, f"{good}/0.png", f"{test}/1.png", f"{bad}/2.png", f"{truth}/2_mask.png")
    category = read_one(tmp_path)
    assert category.references == {None: (tmp_path / good / "0.png",)}
    assert relative_paths(category, 0) == [f"{test}/1.png"]
    assert [sample.masks for sample in category.test if sample.label] == [(tmp_path / truth / "2_mask.png",)]
    assert category.problems == ()


def test_other_layouts_in_any_letter_case(tmp_path: Path) -> None:
    write_images(tmp_path, "a/Train/bottle/0.png", "a/Test/Normal/1.png", "a/Test/ANOMALY/2.png")
    write_images(tmp_path, "b/GOOD/0.png", "b/Good_not/0.png", "b/BAD/0.png", "b/Masks/0.png", "b/GOOD/1.png")
    assert list(read_one(tmp_path / "a").references) == ["bottle"]
    assert read_one(tmp_path / "b").test[0].masks == (tmp_path / "b/Masks/0.png",)
    write_images(tmp_path, "c/train/good/0.png", "c/Train/good/1.png", "c/test/good/0.png", "c/test/bad/0.png")
    doubled = f"{tmp_path / 'c'}: several folders are called train but for letter case, one is used"
    assert doubled in read_one(tmp_path / "c").problems


def test_ground_truth_inside_test_is_no_defect(tmp_path: Path) -> None:
    write_images(tmp_path, "train/good/0.png", "test/good/0.png", "test/hole/1.png", "test/masks/hole/1.png")
    category = read_one(tmp_path)
    assert category.test[1] == Sample(tmp_path / "test/hole/1.png", 1, "hole", (tmp_path / "test/masks/hole/1.png",))
    assert category.problems == ()


def test_what_is_left_out_of_mvtec_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, "train/good/0.png", "train/1.png", "test/2.png", "test/hole/3.png", "ground_truth/3.png")
    write_images(tmp_path, "more/4.png")
    (tmp_path / "test/dent").mkdir()
    assert read_one(tmp_path).problems == (
        f"{tmp_path / 'train'}: 1 images lie outside the folders of classes and are left out, such as 1.png",
        f"{tmp_path / 'test'}: 1 images lie outside the folders of defects and are left out, such as 2.png",
        f"{tmp_path / 'test/dent'}: no images",
        f"{tmp_path / 'ground_truth'}: 1 images lie outside the folders of defects and are left out, such as 3.png",
        f"{tmp_path / 'more'}: not used",
        f"{tmp_path}: no normal test images",
    )
