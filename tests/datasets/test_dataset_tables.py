"""Data sets that a csv file or a json listing describes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dataset_files import read_one, relative_paths, write_images

from patchclip.datasets import DatasetError, Sample, read_dataset


def test_csv_columns(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"i/{k}.png" for k in range(7)), "m/4.png")
    table = tmp_path / "list.csv"
    table.write_text(
        "Path, Label ,mask,split,category,defect\n"
        "i/0.png,0,,train,a,\ni/1.png,good,,test,a,\ni/4.png,1,m/4.png,test,a,deep_hole\n"
        "i/2.png,0,,,b,\ni/3.png,0,,,b,\ni/5.png,anomaly,,,b,\ni/6.png,1,,train,b,\n"
    )
    for path in (table, tmp_path):
        a, b = read_dataset(path)
        assert (a.dataset, a.name, a.layout, b.name) == ("list", "a", "csv", "b")
        assert a.references == {None: (tmp_path / "i/0.png",)}
        assert a.test == (
            Sample(tmp_path / "i/1.png", 0),
            Sample(tmp_path / "i/4.png", 1, "deep hole", (tmp_path / "m/4.png",)),
        )
        assert b.references == {None: (tmp_path / "i/2.png",)}
        assert (relative_paths(b, 0), relative_paths(b, 1)) == (["i/3.png"], ["i/5.png"])
        assert b.problems == (
            f"{table}: i/6.png is an anomalous training image, left out",
            f"{table}: no split for 2 normal images, so every second one is tested",
        )


def test_csv_splits_in_any_case(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"i/{k}.png" for k in range(3)))
    table = tmp_path / "list.csv"
    table.write_text("path,label,split\ni/0.png,0,Train\ni/1.png,0,TEST\ni/2.png,1,val\n")
    category = read_one(table)
    assert [path.name for path in category.references[None]] == ["0.png"]
    assert (relative_paths(category, 0), relative_paths(category, 1)) == (["i/1.png"], ["i/2.png"])


def test_csv_lines_of_one_image_are_joined(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"i/{k}.png" for k in range(6)), "m/4.png", "m/4b.png")
    both_masks = (tmp_path / "m/4.png", tmp_path / "m/4b.png")
    table = tmp_path / "list.csv"
    table.write_text("path,label,mask\ni/0.png,0,\ni/0.png,0,\ni/1.png,0,\ni/4.png,1,m/4.png\ni/4.png,1,m/4b.png\n")
    category = read_one(table)
    assert [path.name for path in category.references[None]] == ["0.png"]
    assert category.test == (Sample(tmp_path / "i/4.png", 1, None, both_masks), Sample(tmp_path / "i/1.png", 0))
    table.write_text(
        "path,label,mask,defect\ni/4.png,1,m/4.png,hole\ni/4.png,anomaly,m/4b.png,scratch\n"
        "i/5.png,1,,\ni/5.png,1,,dent\n"
    )
    assert read_one(table).test == (
        Sample(tmp_path / "i/4.png", 1, None, both_masks),
        Sample(tmp_path / "i/5.png", 1, "dent"),
    )
    table.write_text("path,label\ni/0.png,0\n./i/0.png,0\ni/1.png,0\ni//1.png,0\ni/4.png,1\n")
    category = read_one(table)
    assert (category.references[None], relative_paths(category, 0)) == ((tmp_path / "i/0.png",), ["i/1.png"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "path,label,split\ni/0.png,0,train\ni/0.png,0,test\n",
            "the lines of i/0.png differ in split: make them agree, or keep one",
        ),
        ("path,label,split\ni/0.png,0,first\n", "split 'first' is neither train nor test"),
        ("path,label\ni/0.png,maybe\n", "i/0.png: label 'maybe' is neither 0 or normal nor 1 or anomaly"),
        ("file,label\ni/0.png,1\n", "has no column path"),
    ],
)
def test_csv_faults(tmp_path: Path, content: str, message: str) -> None:
    write_images(tmp_path, "i/0.png")
    table = tmp_path / "list.csv"
    table.write_text(content)
    with pytest.raises(DatasetError, match=message):
        read_dataset(table)


def test_csv_that_is_not_in_utf_8(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("path,label,größe\ni/0.png,1,2\n", encoding="latin-1")
    for path in (table, tmp_path):
        with pytest.raises(DatasetError, match=r"list.csv is not a table in UTF-8 \(.*save it as one"):
            read_dataset(path)
    table.write_text("größe\n", encoding="latin-1")
    with pytest.raises(DatasetError, match="none of the layouts"):
        read_dataset(tmp_path)


def test_visa_by_its_csv(tmp_path: Path) -> None:
    root = tmp_path / "visa"
    images = "candle/Data/Images"
    write_images(
        root, f"{images}/Normal/0.JPG", f"{images}/Normal/1.JPG", f"{images}/Anomaly/0.JPG", f"{images}/Anomaly/1.JPG"
    )
    write_images(root, "candle/Data/Masks/Anomaly/0.png", "pcb1/Data/Images/Normal/0.JPG")
    lines = [
        "object,split,label,image,mask",
        f"candle,train,normal,{images}/Normal/0.JPG,",
        f"candle,test,normal,{images}/Normal/1.JPG,",
        f"candle,test,anomaly,{images}/Anomaly/0.JPG,candle/Data/Masks/Anomaly/0.png",
        f"candle,test,anomaly,{images}/Anomaly/1.JPG,candle/Data/Masks/Anomaly/1.png",
        f"candle,test,anomaly,{images}/Anomaly/2.JPG,candle/Data/Masks/Anomaly/2.png",
        "pcb1,test,normal,pcb1/Data/Images/Normal/0.JPG,",
    ]
    table = root / "split_csv/1cls.csv"
    table.parent.mkdir()
    table.write_text("\n".join(lines))
    (table.parent / "0_other.csv").write_text("object,split,label,image,mask\n")
    candle, pcb = read_dataset(root)
    assert (candle.dataset, candle.name, candle.layout, pcb.name) == ("visa", "candle", "visa", "pcb1")
    assert candle.references == {None: (root / f"{images}/Normal/0.JPG",)}
    assert relative_paths(candle, 0) == [f"{images}/Normal/1.JPG"]
    assert candle.test[1].masks == (root / "candle/Data/Masks/Anomaly/0.png",)
    assert candle.problems == (
        f"{table}: mask candle/Data/Masks/Anomaly/1.png does not exist",
        f"{table}: 1 listed images do not exist, such as {images}/Anomaly/2.JPG",
        f"{table}: 1 anomalous images have no mask, such as 1.JPG",
    )


def test_realiad(tmp_path: Path) -> None:
    root = tmp_path / "realiad"
    write_images(root, "realiad_256/plug/OK/a.jpg", "realiad_256/plug/OK/b.jpg", "realiad_256/plug/NG/HS/c.jpg")
    write_images(root, "realiad_256/plug/NG/HS/c.png", "realiad_256/plug/NG/QS/d.jpg")
    content = {
        "meta": {"prefix": "plug/", "normal_class": "OK"},
        "train": [{"category": "plug", "anomaly_class": "OK", "image_path": "OK/a.jpg", "mask_path": None}],
        "test": [
            {"category": "plug", "anomaly_class": "OK", "image_path": "OK/b.jpg", "mask_path": None},
            {"category": "plug", "anomaly_class": "HS", "image_path": "NG/HS/c.jpg", "mask_path": "NG/HS/c.png"},
            {"category": "plug", "anomaly_class": "QS", "image_path": "NG/QS/d.jpg", "mask_path": None},
        ],
    }
    listing = root / "realiad_jsons/plug.json"
    listing.parent.mkdir()
    listing.write_text(json.dumps(content))
    category = read_one(root)
    base = root / "realiad_256/plug"
    assert (category.dataset, category.name, category.layout) == ("realiad", "plug", "realiad")
    assert category.references == {None: (base / "OK/a.jpg",)}
    assert category.test == (
        Sample(base / "OK/b.jpg", 0),
        Sample(base / "NG/HS/c.jpg", 1, "hs", (base / "NG/HS/c.png",)),
        Sample(base / "NG/QS/d.jpg", 1, "qs"),
    )
    listing.write_text(json.dumps(content | {"meta": {"prefix": "other/"}}))
    with pytest.raises(DatasetError, match="'other/' that is neither in"):
        read_dataset(root)
    for faulty, reason in (
        (
            {"test": [{"image_path": "OK/b.jpg"}]},
            r"plug.json, test: expected entries.*got \{'image_path': 'OK/b.jpg'\}",
        ),
        ({"train": [], "test": []}, "lists no images"),
        ({"meta": []}, "none of the layouts"),
    ):
        listing.write_text(json.dumps(content | faulty))
        with pytest.raises(DatasetError, match=reason):
            read_dataset(root)
