"""Every layout is recognised, read as it should be, and nothing is dropped in silence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchclip import MissingDependencyError
from patchclip.datasets import Category, DatasetError, Sample, read_dataset, read_elpv, read_mask, read_textile


def put(root: Path, *names: str, size: tuple[int, int] = (8, 6)) -> None:
    """Grey pictures, width x height."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 128).save(path)


def names(category: Category, label: int) -> list[str]:
    return [s.path.relative_to(category.root).as_posix() for s in category.test if s.label == label]


def only(path: Path) -> Category:
    (category,) = read_dataset(path)
    return category


# --- layouts ------------------------------------------------------------------------------------------------------


def test_mvtec(tmp_path: Path) -> None:
    root = tmp_path / "bottle"
    put(root, "train/good/0.png", "train/good/1.png", "test/good/2.png", "test/broken_large/3.png", "test/crack/4.PNG")
    put(root, "ground_truth/broken_large/3_mask.png", "ground_truth/crack/4_mask.png")
    category = only(root)
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
        put(tmp_path / "mvtec" / name, "train/good/0.png", "test/good/1.png", "test/bent/2.png")
    put(tmp_path / "mvtec", "preview.png")
    found = read_dataset(tmp_path / "mvtec")
    assert [(c.dataset, c.name) for c in found] == [("mvtec", "bottle"), ("mvtec", "cable")]
    assert [c.kinds for c in found] == [(), ()]  # one kind is no choice
    put(tmp_path / "mvtec" / "screws", "good/0.png", "bad/1.png")
    found = read_dataset(tmp_path / "mvtec")
    assert found[0].problems == (f"{tmp_path / 'mvtec/screws'}: no category as bottle, left out",)
    assert (len(found), found[1].problems) == (2, ())


def test_mvtec_whose_test_folders_are_named_as_the_courses(tmp_path: Path) -> None:
    put(tmp_path, "train/good/0.png", "test/normal/1.png", "test/anomaly/2.png", "ground_truth/anomaly/2.png")
    assert only(tmp_path).test[0].masks == (tmp_path / "ground_truth/anomaly/2.png",)


def test_btad(tmp_path: Path) -> None:
    root = tmp_path / "01"
    put(root, "train/ok/0.bmp", "test/ok/1.bmp", "test/ko/0.bmp", "ground_truth/ko/0.png")
    category = only(root)
    assert category.layout == "mvtec"
    assert category.test[0] == Sample(root / "test/ko/0.bmp", 1, None, (root / "ground_truth/ko/0.png",))
    assert names(category, 0) == ["test/ok/1.bmp"]


def test_mvtec_loco_has_a_folder_of_masks_for_each_image(tmp_path: Path) -> None:
    root = tmp_path / "breakfast_box"
    put(root, "train/good/0.png", "validation/good/0.png", "test/good/0.png", "test/logical_anomalies/000.png")
    put(root, "ground_truth/logical_anomalies/000/000.png", "ground_truth/logical_anomalies/000/001.png")
    category = only(root)
    (sample,) = (s for s in category.test if s.label)
    assert [mask.name for mask in sample.masks] == ["000.png", "001.png"]
    assert sample.defect is None
    assert category.problems == (f"{root / 'validation'}: not used",)


def test_mvtec_names_what_does_not_add_up(tmp_path: Path) -> None:
    root = tmp_path / "tile"
    put(root, "train/good/0.png", "train/odd/0.png", "test/good/1.png", "test/crack/2.png", "test/crack/3.png")
    put(root, "ground_truth/crack/2_mask.png", "ground_truth/crack/9_mask.png", "ground_truth/glue/1_mask.png")
    (root / "test/crack/readme.txt").write_text("x")
    (root / "test/crack/.hidden").write_text("x")
    category = only(root)
    assert len(category.test) == 3
    assert category.problems == (
        f"{root / 'train/odd'}: training images that are not normal are left out",
        f"{root / 'test/crack'}: 1 files are no images and are left out, as readme.txt",
        f"{root / 'ground_truth/crack'}: 1 masks have no image, as 9_mask.png",
        f"{root / 'ground_truth/crack'}: 1 anomalous images have no mask, as 3.png",
        f"{root / 'ground_truth/glue'}: masks without a folder test/glue",
    )


def test_visa_by_its_csv(tmp_path: Path) -> None:
    root = tmp_path / "visa"
    images = "candle/Data/Images"
    put(root, f"{images}/Normal/0.JPG", f"{images}/Normal/1.JPG", f"{images}/Anomaly/0.JPG", f"{images}/Anomaly/1.JPG")
    put(root, "candle/Data/Masks/Anomaly/0.png", "pcb1/Data/Images/Normal/0.JPG")
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
    assert names(candle, 0) == [f"{images}/Normal/1.JPG"]
    assert candle.test[1].masks == (root / "candle/Data/Masks/Anomaly/0.png",)
    assert candle.problems == (
        f"{table}: mask candle/Data/Masks/Anomaly/1.png does not exist",
        f"{table}: 1 listed images do not exist, as {images}/Anomaly/2.JPG",
        f"{table}: 1 anomalous images have no mask, as 1.JPG",
    )


def test_visa_by_its_folders(tmp_path: Path) -> None:
    root = tmp_path / "visa"
    put(root, *(f"candle/Data/Images/Normal/{k:02d}.JPG" for k in range(20)))
    put(root, "candle/Data/Images/Anomaly/0.JPG", "candle/Data/Masks/Anomaly/0.png")
    category = only(root)
    assert (category.dataset, category.name, category.layout) == ("visa", "candle", "visa")
    assert names(category, 0) == ["Data/Images/Normal/09.JPG", "Data/Images/Normal/19.JPG"]
    assert len(category.references[None]) == 18
    assert category.test[-1].masks == (root / "candle/Data/Masks/Anomaly/0.png",)
    assert only(root / "candle").test == category.test


def test_realiad(tmp_path: Path) -> None:
    root = tmp_path / "realiad"
    put(root, "realiad_256/plug/OK/a.jpg", "realiad_256/plug/OK/b.jpg", "realiad_256/plug/NG/HS/c.jpg")
    put(root, "realiad_256/plug/NG/HS/c.png", "realiad_256/plug/NG/QS/d.jpg")
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
    category = only(root)
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


def test_course(tmp_path: Path) -> None:
    root = tmp_path / "course"
    put(root, "train/cable/0.jpg", "train/cable/1.jpg", "train/tile/0.jpg", "test/normal/a.jpg", "test/anomaly/b.jpg")
    (root / "train/empty").mkdir()
    category = only(root)
    assert category.layout == "course"
    assert {name: len(paths) for name, paths in category.references.items()} == {"cable": 2, "tile": 1}
    assert (names(category, 0), names(category, 1)) == (["test/normal/a.jpg"], ["test/anomaly/b.jpg"])
    assert category.kinds == ()
    assert category.problems == (f"{root / 'train/empty'}: a class without images",)
    numbered = tmp_path / "numbered"
    put(numbered, "train/0/a.jpg", "train/1/b.jpg", "train/2/c.jpg", "test/normal/a.jpg", "test/anomaly/b.jpg")
    assert list(only(numbered).references) == ["0", "1", "2"]


def test_good_and_bad_folders(tmp_path: Path) -> None:
    root = tmp_path / "parts"
    put(root, *(f"good/{k}.png" for k in range(5)), "bad/a.png", "masks/a.png", "later/z.png")
    category = only(root)
    assert category.layout == "folders"
    assert names(category, 0) == ["good/1.png", "good/3.png"]
    assert [path.name for path in category.references[None]] == ["0.png", "2.png", "4.png"]
    assert category.test[0] == Sample(root / "bad/a.png", 1, None, (root / "masks/a.png",))
    assert category.problems == (
        f"{root / 'later'}: neither good nor bad by its name, left out",
        f"{root}: every second good image is tested (2), the others are references",
    )
    put(root, "bad/7_label.png", "masks/7_label.png", "bad/more/a.png")
    category = only(root)
    assert category.test[0].masks == (root / "masks/7_label.png",)
    assert f"{root / 'masks'}: 1 masks are taken for several images of one name, as a" in category.problems


def test_csv(tmp_path: Path) -> None:
    put(tmp_path, *(f"i/{k}.png" for k in range(7)), "m/4.png", "m/4b.png")
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
        assert (names(b, 0), names(b, 1)) == (["i/3.png"], ["i/5.png"])
        assert b.problems == (
            f"{table}: i/6.png is an anomalous training image, left out",
            f"{table}: no split for 2 normal images, so every second one is tested",
        )
    table.write_text("path,label,split\ni/0.png,0,Train\ni/1.png,0,TEST\ni/2.png,1,val\n")
    assert [path.name for path in only(table).references[None]] == ["0.png"]
    assert (names(only(table), 0), names(only(table), 1)) == (["i/1.png"], ["i/2.png"])
    table.write_text("path,label,mask\ni/0.png,0,\ni/0.png,0,\ni/1.png,0,\ni/4.png,1,m/4.png\ni/4.png,1,m/4b.png\n")
    assert [path.name for path in only(table).references[None]] == ["0.png"]
    assert only(table).test == (
        Sample(tmp_path / "i/4.png", 1, None, (tmp_path / "m/4.png", tmp_path / "m/4b.png")),
        Sample(tmp_path / "i/1.png", 0),
    )
    table.write_text(
        "path,label,mask,defect\ni/4.png,1,m/4.png,hole\ni/4.png,anomaly,m/4b.png,scratch\n"
        "i/5.png,1,,\ni/5.png,1,,dent\n"
    )
    assert only(table).test == (
        Sample(tmp_path / "i/4.png", 1, None, (tmp_path / "m/4.png", tmp_path / "m/4b.png")),
        Sample(tmp_path / "i/5.png", 1, "dent"),
    )
    table.write_text("path,label\ni/0.png,0\n./i/0.png,0\ni/1.png,0\ni//1.png,0\ni/4.png,1\n")
    assert (only(table).references[None], names(only(table), 0)) == ((tmp_path / "i/0.png",), ["i/1.png"])
    table.write_text("path,label,split\ni/0.png,0,train\ni/0.png,0,test\n")
    with pytest.raises(DatasetError, match=r"the lines of i/0.png differ in split: make them agree, or keep one"):
        read_dataset(table)
    table.write_text("path,label,split\ni/0.png,0,first\n")
    with pytest.raises(DatasetError, match="split 'first' is neither train nor test"):
        read_dataset(table)
    table.write_text("path,label\ni/0.png,maybe\n")
    with pytest.raises(DatasetError, match=r"i/0.png: label 'maybe' is neither 0 or normal nor 1 or anomaly"):
        read_dataset(table)
    table.write_text("file,label\ni/0.png,1\n")
    with pytest.raises(DatasetError, match="has no column path"):
        read_dataset(table)
    table.write_text("path,label,größe\ni/0.png,1,2\n", encoding="latin-1")
    for path in (table, tmp_path):
        with pytest.raises(DatasetError, match=r"list.csv is no table in UTF-8 \(.*save it as one"):
            read_dataset(path)
    table.write_text("größe\n", encoding="latin-1")
    with pytest.raises(DatasetError, match="none of the layouts"):
        read_dataset(tmp_path)


def test_what_cannot_be_read_shows_the_layouts(tmp_path: Path) -> None:
    put(tmp_path, "somewhere/0.png")
    for path in (tmp_path, tmp_path / "somewhere/0.png", tmp_path / "nowhere"):
        with pytest.raises(DatasetError) as caught:
            read_dataset(path)
        assert str(path) in str(caught.value)
        for layout in ("mvtec", "realiad", "visa", "course", "folders", "csv"):
            assert f"  {layout} " in str(caught.value)
    put(tmp_path, "set/train/good/0.png")
    (tmp_path / "set/test/good").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"category 'set' \(mvtec\) has no test images"):
        read_dataset(tmp_path / "set")


# --- packages -----------------------------------------------------------------------------------------------------


def test_elpv(tmp_path: Path) -> None:
    put(tmp_path, *(f"images/{k}.png" for k in range(7)))
    probabilities = ("0.0", "0.0", "1.0", "0.3333333333333333", "1.0", "0.0", "0.6666666666666666")
    kinds = ("mono", "mono", "mono", "mono", "poly", "poly", "poly")
    lines = [f"images/{k}.png  {p}   {kind}" for k, (p, kind) in enumerate(zip(probabilities, kinds, strict=True))]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    mono, poly = read_elpv(tmp_path)
    assert (mono.dataset, mono.name, poly.name) == ("elpv", "mono", "poly")
    assert mono.references == {None: (tmp_path / "images/0.png",)}
    assert (names(mono, 0), names(mono, 1)) == (["images/1.png"], ["images/2.png"])
    assert (names(poly, 0), names(poly, 1)) == ([], ["images/4.png"])
    assert mono.problems == ("elpv: 2 cells with a probability between 0 and 1 are left out",)


def test_textile(tmp_path: Path) -> None:
    put(tmp_path, *(f"nominal/{k}.jpg" for k in range(4)), "local/0.jpg", "global/0.jpg", "global/1.jpg")
    local, whole = read_textile(tmp_path)
    assert (local.dataset, local.name, whole.name) == ("textile", "local", "global")
    assert names(local, 0) == names(whole, 0) == ["nominal/1.jpg", "nominal/3.jpg"]
    assert names(local, 1) == ["local/0.jpg"]
    assert names(whole, 1) == ["global/0.jpg", "global/1.jpg"]


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchclip.datasets.read.find_spec", lambda name: None)
    for reader, package in ((read_elpv, "elpv-dataset"), (read_textile, "conformal-clip-data")):
        with pytest.raises(
            MissingDependencyError, match=rf'{package} is not installed: pip install "patchclip\[bench\]"'
        ):
            reader()


# --- masks --------------------------------------------------------------------------------------------------------


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
        (np.array([[0, 1], [0, 0], [2, 0]], np.uint8), "P"),  # VisA: numbers of classes
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
    for number in range(2):
        values = np.zeros((2, 2), np.uint8)
        values[number, 0] = 255
        Image.fromarray(values).save(tmp_path / f"{number}.png")
        paths.append(tmp_path / f"{number}.png")
    mask, _ = read_mask(Sample(tmp_path / "i.png", 1, None, tuple(paths)), (2, 2))
    assert mask is not None
    assert mask.tolist() == [[True, False], [True, False]]


def test_masks_of_another_size(tmp_path: Path) -> None:
    values = np.array([[255, 0], [0, 0]], np.uint8)
    mask, problem = read_mask(mask_sample(tmp_path, values), (4, 4))
    assert mask is not None
    assert mask.tolist() == [[True, True, False, False]] * 2 + [[False] * 4] * 2
    assert problem is not None
    assert "mask of another size, scaled" in problem
    assert "is 2 x 2, its image 4 x 4" in problem
    mask, problem = read_mask(mask_sample(tmp_path, values), (4, 6))
    assert mask is None
    assert problem is not None
    assert "mask of other proportions, left out of the pixel metrics" in problem


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
