"""Layouts that are recognised by their folders alone; nothing is dropped in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_files import read_one, relative_paths, write_images

from patchclip.datasets import Sample, images_in, read_dataset


def test_mvtec(tmp_path: Path) -> None:
    root = tmp_path / "bottle"
    write_images(
        root, "train/good/0.png", "train/good/1.png", "test/good/2.png", "test/broken_large/3.png", "test/crack/4.PNG"
    )
    write_images(root, "ground_truth/broken_large/3_mask.png", "ground_truth/crack/4_mask.png")
    category = read_one(root)
    assert (category.dataset, category.name, category.layout) == ("bottle", "bottle", "mvtec")
    assert category.references == {None: (root / "train/good/0.png", root / "train/good/1.png")}
    assert category.test == (
        Sample(root / "test/broken_large/3.png", 1, "broken large", (root / "ground_truth/broken_large/3_mask.png",)),
        Sample(root / "test/crack/4.PNG", 1, "crack", (root / "ground_truth/crack/4_mask.png",)),
        Sample(root / "test/good/2.png", 0),
    )
    assert category.kinds == ("broken large", "crack")
    assert category.problems == ()


def test_mvtec_categories_side_by_side(tmp_path: Path) -> None:
    for name in ("cable", "bottle"):
        write_images(tmp_path / "mvtec" / name, "train/good/0.png", "test/good/1.png", "test/bent/2.png")
    write_images(tmp_path / "mvtec", "preview.png")
    found = read_dataset(tmp_path / "mvtec")
    assert [(c.dataset, c.name) for c in found] == [("mvtec", "bottle"), ("mvtec", "cable")]
    assert [c.kinds for c in found] == [(), ()]  # one kind is no choice
    write_images(tmp_path / "mvtec" / "screws", "good/0.png", "bad/1.png")
    found = read_dataset(tmp_path / "mvtec")
    assert found[0].problems == (f"{tmp_path / 'mvtec/screws'}: not a category like bottle, left out",)
    assert (len(found), found[1].problems) == (2, ())


def test_mvtec_whose_test_folders_are_named_as_the_courses(tmp_path: Path) -> None:
    write_images(tmp_path, "train/good/0.png", "test/normal/1.png", "test/anomaly/2.png", "ground_truth/anomaly/2.png")
    assert read_one(tmp_path).test[0].masks == (tmp_path / "ground_truth/anomaly/2.png",)


def test_btad(tmp_path: Path) -> None:
    root = tmp_path / "01"
    write_images(root, "train/ok/0.bmp", "test/ok/1.bmp", "test/ko/0.bmp", "ground_truth/ko/0.png")
    category = read_one(root)
    assert category.layout == "mvtec"
    assert category.test[0] == Sample(root / "test/ko/0.bmp", 1, None, (root / "ground_truth/ko/0.png",))
    assert relative_paths(category, 0) == ["test/ok/1.bmp"]


def test_mvtec_loco_has_a_folder_of_masks_for_each_image(tmp_path: Path) -> None:
    root = tmp_path / "breakfast_box"
    write_images(root, "train/good/0.png", "validation/good/0.png", "test/good/0.png", "test/logical_anomalies/000.png")
    write_images(root, "ground_truth/logical_anomalies/000/000.png", "ground_truth/logical_anomalies/000/001.png")
    category = read_one(root)
    (sample,) = (s for s in category.test if s.label)
    assert [mask.name for mask in sample.masks] == ["000.png", "001.png"]
    assert sample.defect is None
    assert category.problems == (f"{root / 'validation'}: not used",)


def test_mvtec_names_what_does_not_add_up(tmp_path: Path) -> None:
    root = tmp_path / "tile"
    write_images(root, "train/good/0.png", "train/odd/0.png", "test/good/1.png", "test/crack/2.png", "test/crack/3.png")
    write_images(root, "ground_truth/crack/2_mask.png", "ground_truth/crack/9_mask.png", "ground_truth/glue/1_mask.png")
    (root / "test/crack/readme.txt").write_text("x")
    (root / "test/crack/.hidden").write_text("x")
    category = read_one(root)
    assert len(category.test) == 3
    assert category.problems == (
        f"{root / 'train/odd'}: training images that are not normal are left out",
        f"{root / 'test/crack'}: 1 files are not images and are left out, such as readme.txt",
        f"{root / 'ground_truth/crack'}: 1 masks have no image, such as 9_mask.png",
        f"{root / 'ground_truth/crack'}: 1 anomalous images have no mask, such as 3.png",
        f"{root / 'ground_truth/glue'}: masks without a folder test/glue",
    )


def test_visa_by_its_folders(tmp_path: Path) -> None:
    root = tmp_path / "visa"
    write_images(root, *(f"candle/Data/Images/Normal/{k:02d}.JPG" for k in range(20)))
    write_images(root, "candle/Data/Images/Anomaly/0.JPG", "candle/Data/Masks/Anomaly/0.png")
    category = read_one(root)
    assert (category.dataset, category.name, category.layout) == ("visa", "candle", "visa")
    assert relative_paths(category, 0) == ["Data/Images/Normal/09.JPG", "Data/Images/Normal/19.JPG"]
    assert len(category.references[None]) == 18
    assert category.test[-1].masks == (root / "candle/Data/Masks/Anomaly/0.png",)
    assert read_one(root / "candle").test == category.test


def test_course(tmp_path: Path) -> None:
    root = tmp_path / "course"
    write_images(
        root, "train/cable/0.jpg", "train/cable/1.jpg", "train/tile/0.jpg", "test/normal/a.jpg", "test/anomaly/b.jpg"
    )
    (root / "train/empty").mkdir()
    category = read_one(root)
    assert category.layout == "course"
    assert {name: len(paths) for name, paths in category.references.items()} == {"cable": 2, "tile": 1}
    assert (relative_paths(category, 0), relative_paths(category, 1)) == (["test/normal/a.jpg"], ["test/anomaly/b.jpg"])
    assert category.kinds == ()
    assert category.problems == (f"{root / 'train/empty'}: a class without images",)
    numbered = tmp_path / "numbered"
    write_images(numbered, "train/0/a.jpg", "train/1/b.jpg", "train/2/c.jpg", "test/normal/a.jpg", "test/anomaly/b.jpg")
    assert list(read_one(numbered).references) == ["0", "1", "2"]


def test_good_and_bad_folders(tmp_path: Path) -> None:
    root = tmp_path / "parts"
    write_images(root, *(f"good/{k}.png" for k in range(5)), "bad/a.png", "masks/a.png", "later/z.png")
    category = read_one(root)
    assert category.layout == "folders"
    assert relative_paths(category, 0) == ["good/1.png", "good/3.png"]
    assert [path.name for path in category.references[None]] == ["0.png", "2.png", "4.png"]
    assert category.test[0] == Sample(root / "bad/a.png", 1, None, (root / "masks/a.png",))
    assert category.problems == (
        f"{root / 'later'}: neither good nor bad by its name, left out",
        f"{root}: every second good image is tested (2), the others are references",
    )
    write_images(root, "bad/7_label.png", "masks/7_label.png", "bad/more/a.png")
    category = read_one(root)
    assert category.test[0].masks == (root / "masks/7_label.png",)
    assert f"{root / 'masks'}: 1 masks match several images of one name, such as a" in category.problems


def test_images_in_one_folder(tmp_path: Path) -> None:
    write_images(tmp_path, "b.png", "a.JPG", "below/c.png", ".hidden.png")
    with pytest.warns(UserWarning, match="1 entries are not images and are left out, such as below"):
        assert images_in(tmp_path) == [tmp_path / "a.JPG", tmp_path / "b.png"]
    assert images_in(str(tmp_path / "below")) == [tmp_path / "below/c.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty has no images \(.jpg"):
        images_in(tmp_path / "empty")
    with pytest.raises(ValueError, match="nowhere is not a folder: give a folder of images"):
        images_in(tmp_path / "nowhere")
