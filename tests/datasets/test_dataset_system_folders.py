"""What operating systems, network drives and programs leave in a data set never counts as an image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from dataset_files import read_one, relative_paths, write_images

from patchclip.datasets import images_in, read_dataset

LEFT_BEHIND = (
    ".ipynb_checkpoints/000-checkpoint.png",
    ".AppleDouble/000.png",
    ".thumbnails/000.png",
    ".Trash-1000/files/000.png",
    ".@__thumb/000.png",
    ".snapshot/daily/000.png",
    "@eaDir/000.png/SYNOPHOTO_THUMB_M.png",
    "@Recycle/000.png",
    "@tmp/000.png",
    "#recycle/000.png",
    "#snapshot/000.png",
    "$RECYCLE.BIN/000.png",
    "__MACOSX/000.png",
    "lost+found/000.png",
    "System Volume Information/000.png",
    "RECYCLER/000.png",
    "Network Trash Folder/000.png",
    "~snapshot/000.png",
    "._000.png",
    ".000.png",
)


def write_mvtec(root: Path) -> None:
    write_images(root, "train/good/000.png", "train/good/001.png", "test/good/000.png", "test/scratch/000.png")
    write_images(root, "ground_truth/scratch/000_mask.png")


@pytest.mark.parametrize("entry", LEFT_BEHIND)
def test_system_folders_in_every_folder(tmp_path: Path, entry: str) -> None:
    root = tmp_path / "set"
    write_mvtec(root)
    expected = read_one(root)
    for folder in ("", "train", "train/good", "test", "test/good", "test/scratch", "ground_truth/scratch"):
        write_images(root, f"{folder}/{entry}")
        (root / folder / "Thumbs.db").write_bytes(b"x")
        (root / folder / "desktop.ini").write_bytes(b"x")
    assert read_one(root) == expected
    assert expected.problems == ()


@pytest.mark.parametrize("entry", LEFT_BEHIND)
def test_system_folders_of_other_layouts(tmp_path: Path, entry: str) -> None:
    roots = [tmp_path / name for name in ("sets", "parts", "course", "visa")]
    write_mvtec(roots[0] / "bottle")
    write_images(roots[1], "good/0.png", "good/1.png", "bad/0.png")
    write_images(roots[2], "train/a/0.png", "test/normal/0.png", "test/anomaly/0.png")
    write_images(roots[3], *(f"Data/Images/Normal/{k:02}.JPG" for k in range(10)), "Data/Images/Anomaly/0.JPG")
    expected = [read_dataset(root) for root in roots]
    for root in roots:
        write_images(root, entry)
        for folder in [path for path in root.rglob("*") if path.is_dir()]:
            if folder.relative_to(root).as_posix() + "/" not in f"{entry}/":
                write_images(folder, entry)
    assert [read_dataset(root) for root in roots] == expected


def test_a_data_set_below_a_hidden_folder(tmp_path: Path) -> None:
    root = tmp_path / ".cache" / "@work" / "set"
    write_mvtec(root)
    assert len(read_one(root).test) == 2


def test_images_in_a_folder_with_system_folders(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png", "b.png", *LEFT_BEHIND)
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    assert [path.name for path in images_in(tmp_path)] == ["a.png", "b.png"]


def test_thumbnails_are_named(tmp_path: Path) -> None:
    write_mvtec(tmp_path)
    write_images(tmp_path, "train/good/thumbnails/000.png", "test/scratch/Thumbs/000.png")
    category = read_one(tmp_path)
    assert (len(category.references[None]), len(category.test)) == (2, 2)
    for folder, example in (("train/good", "thumbnails/000.png"), ("test/scratch", "Thumbs/000.png")):
        message = f"{tmp_path / folder}: 1 files are no photographs and are left out, such as {example}"
        assert message in category.problems


def test_links_that_cannot_be_followed_are_named(tmp_path: Path) -> None:
    write_mvtec(tmp_path)
    write_images(tmp_path, "elsewhere/2.png")
    (tmp_path / "train/good/2.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "train/good/more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    category = read_one(tmp_path)
    assert len(category.references[None]) == 2
    for problem in (
        f"{tmp_path / 'train/good/2.png'}: left out, a link that leads nowhere or no ordinary file",
        f"{tmp_path / 'train/good/more'}: a link to a folder, left out",
        f"{tmp_path / 'elsewhere'}: not used",
    ):
        assert problem in category.problems


def test_folders_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mvtec(tmp_path)
    write_images(tmp_path, "train/good/locked/2.png")
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse)
    problem = f"{tmp_path / 'train/good/locked'}: left out, it cannot be read (Permission denied)"
    assert problem in read_one(tmp_path).problems


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"pr\xfcf")
    root = tmp_path / f"set_{name}"
    write_images(root, "train/good/0.png", f"train/good/{name}.png", "test/good/0.png", f"test/{name}_hole/{name}.png")
    write_images(root, f"ground_truth/{name}_hole/{name}_mask.png", f"ground_truth/{name}/0.png")
    (root / f"test/good/{name}.txt").write_text("x")
    category = read_one(root)
    assert [path.name for path in category.references[None]] == ["0.png", f"{name}.png"]
    assert relative_paths(category, 1) == [f"test/{name}_hole/{name}.png"]
    (sample,) = (sample for sample in category.test if sample.label)
    assert sample.masks == (root / f"ground_truth/{name}_hole/{name}_mask.png",)
    assert sample.masks[0].is_file()
    assert (category.name, sample.defect) == (r"set_pr\xfcf", r"pr\xfcf hole")
    assert len(category.problems) == 2
    for text in (category.dataset, category.name, *category.problems):
        text.encode("utf-8")


def test_names_that_are_no_utf_8_in_other_layouts(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xe9\xff")
    write_images(tmp_path, f"{name}/train/{name}/0.png", f"{name}/test/normal/{name}.png")
    write_images(tmp_path, f"{name}/test/anomaly/{name}.png", f"p{name}/good/{name}.png", f"p{name}/good/1.png")
    write_images(tmp_path, f"p{name}/bad/{name}.png", f"p{name}/masks/{name}_mask.png")
    course = read_one(tmp_path / name)
    assert list(course.references) == [r"\xe9\xff"]
    parts = read_one(tmp_path / f"p{name}")
    assert parts.test[0].masks == (tmp_path / f"p{name}/masks/{name}_mask.png",)


def test_names_in_a_table_that_no_system_takes(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    long = "x" * 300 + ".png"
    table.write_text(f"path,label,mask\n0.png,0,\n1.png,0,\n2.png,1,{long}\n{long},1,\n")
    write_images(tmp_path, "0.png", "1.png", "2.png")
    problems = " ".join(read_one(table).problems)
    assert f"{table}: 1 listed images do not exist, such as {long}" in problems
    assert f"{table}: mask {long} does not exist" in problems
