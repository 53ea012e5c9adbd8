"""benchmarks/run.py from end to end: what it measures can be recomputed, stopped, gone on with and trusted."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score

from benchmarks import units
from benchmarks.methods import COURSE_METHODS, METHODS
from benchmarks.plan import draw_references, plan
from benchmarks.run import default_methods, load_categories, main
from benchmarks.synthetic_set import make_synthetic
from patchclip import metrics
from patchclip.datasets import Category, DatasetError, Sample, read_dataset
from patchclip.synthetic import Surface, sample_defective

pytestmark = pytest.mark.filterwarnings("error")


def write_images(root: Path, surface: Surface, *, kinds: tuple[str, ...] = ("hole", "stain")) -> Path:
    """A category in MVTec's layout: 5 references, 4 normal and 3 images of each kind to test, 72 x 96."""
    rng = np.random.default_rng(0)
    size_hw = (72, 96)
    for index in range(9):
        path = root / ("train" if index < 5 else "test") / "good" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(surface.photograph(surface.render(index, size_hw), index)).save(path)
    for index in range(3 * len(kinds)):
        kind = kinds[index % len(kinds)]
        image, mask, _ = sample_defective(surface, 50 + index, rng, kind=kind, size_hw=size_hw)
        for folder, name, values in (("test", f"{index}.png", image), ("ground_truth", f"{index}_mask.png", mask)):
            path = root / folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    return root


@pytest.fixture
def data(tmp_path: Path, surface: Surface) -> Path:
    return write_images(tmp_path / "fabric", surface)


def run(data: Path, model: str, *more: str) -> None:
    main(["--data", str(data), "--model", model, "--precision", "fp32", "--latency", "0", "--batch-size", "4", *more])


def read_scores(out: Path) -> list[dict[str, str]]:
    with (out / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def read_rows(out: Path) -> list[dict]:
    return json.loads((out / "metrics.json").read_text())["rows"]


# --- a run --------------------------------------------------------------------------------------------------------


def test_outputs_can_be_recomputed(data: Path, local_model: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    methods = [name for name in METHODS if not name.startswith("anomalib")]
    run(data, local_model, "--methods", *methods, "--shots", "0", "2", "--seeds", "2", "--out", str(out))
    content = json.loads((out / "metrics.json").read_text())
    assert content["schema"] == 1
    assert content["environment"]["model"]["name"] == local_model
    assert len(content["environment"]["model"]["weights_sha256"]) == 64
    assert content["data"] == [
        {
            "dataset": "fabric",
            "category": "fabric",
            "layout": "mvtec",
            "references": 5,
            "normal": 4,
            "anomalous": 6,
            "with_mask": 6,
        }
    ]
    rows = {(row["method"], row["shots"], row["seed"]): row for row in content["rows"]}
    zero_shot, few_shot = {"dense", "winclip"}, set(methods) - {"dense"}
    expected = {(name, 0, 0) for name in zero_shot} | {(name, 2, seed) for name in few_shot for seed in (0, 1)}
    assert set(rows) == expected

    groups = defaultdict(list)
    for score in read_scores(out):
        groups[score["method"], int(score["shots"]), int(score["seed"])].append(score)
    assert set(groups) == expected
    for key, scores in groups.items():
        row = rows[key]
        labels = np.array([int(score["label"]) for score in scores])
        values = np.array([float(score["score"]) for score in scores])
        threshold = float(scores[0]["threshold"])
        assert labels.tolist() == [0] * 4 + [1] * 6  # good, hole, stain: sorted by folder
        assert row["image_auroc"] == pytest.approx(roc_auc_score(labels, values))
        assert row["image_ap"] == pytest.approx(average_precision_score(labels, values))
        assert row["accuracy"] == pytest.approx(accuracy_score(labels, values > threshold))
        assert row["false_positive_rate"] == pytest.approx((values > threshold)[labels == 0].mean())
        assert row["recall"] == pytest.approx((values > threshold)[labels == 1].mean())
        low, high = row["image_auroc_95"]
        assert low <= row["image_auroc"] <= high
        assert (row["images"], row["anomalous"], row["unreadable"]) == (10, 6, 0)
        has_map = not key[0].startswith("course")
        assert (row["aupro"] is not None) == has_map
        assert row["images_with_pixels"] == (10 if has_map else 0)
        assert set(row["by_kind"]) == {"hole", "stain"}
    assert rows["bank", 2, 0]["threshold_source"] == "fit"
    assert rows["bank", 2, 0]["false_positive_target"] == 0.05
    assert rows["dense", 0, 0]["false_positive_target"] is None
    assert len(rows["course-fewshot", 2, 1]["training"]) == 40
    assert rows["course-zeroshot", 2, 0]["threshold"] == -0.2

    bank = next(row for row in content["summary"] if row["method"] == "bank")
    both = [rows["bank", 2, seed]["image_auroc"] for seed in (0, 1)]
    assert bank["image_auroc"]["mean"] == pytest.approx(np.mean(both))
    assert bank["image_auroc"]["sd"] == pytest.approx(np.std(both, ddof=1))
    assert bank["seeds"] == 2

    printed = capsys.readouterr().out
    table = (out / "table.md").read_text()
    assert "| method          | shots | images | image AUROC" in printed
    assert "| method          | shots | images | image AUROC" in table
    assert "fabric/fabric: mvtec layout, 5 references, 4 normal and 6 anomalous test images" in printed
    assert (out / "report.html").stat().st_size > 50_000


def test_pixel_metrics_are_those_of_the_heatmaps(data: Path, local_model: str, tmp_path: Path) -> None:
    from patchclip import Detector

    run(data, local_model, "--methods", "dense", "--shots", "0", "--out", str(tmp_path / "out"))
    (row,) = read_rows(tmp_path / "out")
    detector = Detector(local_model, precision="fp32")
    heatmaps, masks = [], []
    for sample in read_dataset(data)[0].test:
        heatmaps.append(detector.predict(sample.path).heatmap)
        masks.append(np.asarray(Image.open(sample.masks[0])) > 0 if sample.masks else np.zeros((72, 96), bool))
    flat = np.stack(masks).ravel(), np.stack(heatmaps).ravel()
    assert row["pixel_auroc"] == pytest.approx(roc_auc_score(*flat), abs=1e-3)
    assert row["pixel_ap"] == pytest.approx(average_precision_score(*flat), abs=1e-3)
    assert row["aupro"] == pytest.approx(metrics.aupro(masks, heatmaps), abs=1e-3)
    assert row["pixel_binning_error"] < 1e-3


def test_default_run_needs_nothing(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(make_synthetic, references=4, normal=2, of_each_kind=1, side=64)
    monkeypatch.setattr("benchmarks.run.make_synthetic", small)
    monkeypatch.delattr("benchmarks.units.make_gallery")  # no report, so no pictures for it
    main(["--limit", "2", "--seeds", "1", "--latency", "0", "--precision", "fp32"])
    printed = capsys.readouterr().out
    for name in ("dense", "bank", "texture", "imagenet", "random-vit", "dense+bank"):
        assert len(re.findall(rf"^\| synthetic/\w+ +\| {re.escape(name)} +\|", printed, re.M)) == 5  # 4 and their mean
    assert "keeps 4 of 7 test images" in printed


# --- stopping and going on ----------------------------------------------------------------------------------------


def test_a_stopped_run_goes_on(
    data: Path, local_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    options = ("--methods", "dense", "bank", "--shots", "0", "2", "--seeds", "1")
    run(data, local_model, *options, "--out", str(tmp_path / "whole"))
    counted: Counter[str] = Counter()
    tally = metrics.tally

    def stops(heatmap: np.ndarray, mask: np.ndarray) -> metrics.Tally:
        counted["images"] += 1
        if counted["images"] == 17:  # of 10 + 10: the seventh of the second
            raise KeyboardInterrupt
        return tally(heatmap, mask)

    out = tmp_path / "stopped"
    monkeypatch.setattr(units.metrics, "tally", stops)
    with pytest.raises(SystemExit) as caught:
        run(data, local_model, *options, "--out", str(out))
    assert caught.value.code == 130
    assert "--resume goes on from here" in capsys.readouterr().err
    (part,) = out.glob("state/*.part")
    with part.open("a") as file:
        file.write('{"path": "cut sho')  # as a kill in the middle of a line leaves it

    counted.clear()
    monkeypatch.setattr(units.metrics, "tally", lambda heatmap, mask: counted.update(images=1) or tally(heatmap, mask))
    run(data, local_model, *options, "--out", str(out), "--resume")
    assert counted["images"] == 6  # 4 of 10 were there in a whole batch; the first method was done
    assert (out / "scores.csv").read_text() == (tmp_path / "whole" / "scores.csv").read_text()
    timing = re.compile(r'_seconds?|seconds_|"elapsed')
    for whole, resumed in zip(read_rows(tmp_path / "whole"), read_rows(out), strict=True):
        same = [key for key in whole if not timing.search(key) and key != "fit_seconds"]
        assert {key: whole[key] for key in same} == {key: resumed[key] for key in same}
    assert not list(out.glob("state/*.part"))

    counted.clear()
    run(data, local_model, *options, "--out", str(out), "--resume")
    assert counted["images"] == 0
    run(data, local_model, *options, "--out", str(out))  # without --resume: from the start
    assert counted["images"] == 20


def test_what_has_changed_is_measured_anew(
    data: Path, local_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[str] = []
    own = units._measure
    monkeypatch.setattr(units, "_measure", lambda task, *rest: fits.append(task.method) or own(task, *rest))
    options = ("--methods", "bank", "--shots", "2", "--seeds", "1", "--out", str(tmp_path / "out"), "--resume")
    run(data, local_model, *options)
    run(data, local_model, *options)
    assert fits == ["bank"]
    run(data, local_model, *options, "--object-name", "{category}")
    assert fits == ["bank"] * 2
    os.utime(data / "test/good/5.png", (1, 1))
    run(data, local_model, *options)
    assert fits == ["bank"] * 3


# --- images that fail ---------------------------------------------------------------------------------------------


def test_unreadable_images_are_reported(
    data: Path, local_model: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (data / "test/good/5.png").write_bytes(b"no image")
    (data / "train/good/0.png").write_bytes(b"")
    (data / "ground_truth/hole/0_mask.png").write_bytes(b"")
    Image.new("L", (96, 72)).save(data / "ground_truth/hole/2_mask.png")
    out = tmp_path / "out"
    methods = ("dense", "bank", "course-zeroshot")
    run(data, local_model, "--methods", *methods, "--shots", "0", "all", "--seeds", "1", "--out", str(out))
    dense, bank, course = read_rows(out)
    for row in (dense, bank, course):
        assert (row["images"], row["unreadable"]) == (9, 1)
    assert (bank["shots"], bank["references"]) == (5, 4)
    assert dense["images_with_pixels"] == 7
    assert not any(score["path"] == "test/good/5.png" for score in read_scores(out))
    problems = json.loads((out / "metrics.json").read_text())["problems"]
    assert [
        "test image left out: fabric/fabric/test/good/5.png is no image in a format that Pillow reads" in problems,
        "reference left out: fabric/fabric/train/good/0.png is empty (0 bytes)" in problems,
        any(p.startswith("mask unreadable, left out of the pixel metrics: fabric/fabric/ground") for p in problems),
        any(p.startswith("empty mask of an anomalous image") for p in problems),
    ] == [True] * 4
    assert "note: test image left out" in capsys.readouterr().out


def test_nothing_to_fit_on(data: Path) -> None:
    for path in (data / "train/good").iterdir():
        path.write_bytes(b"")
    (category,) = read_dataset(data)
    with pytest.raises(ValueError, match="fabric/fabric: none of the normal images can be read"):
        draw_references(category, 2, 0)


def test_data_sets_of_one_name_are_told_apart(tmp_path: Path, surface: Surface) -> None:
    paths = [write_images(tmp_path / name / "fabric", surface) for name in ("a/new", "b/new", "old")]
    options = SimpleNamespace(data=paths, dataset=None, limit=None)
    names = [category.dataset for category in load_categories(options, tmp_path)]
    assert names == [f"{tmp_path / 'a/new'}/fabric", f"{tmp_path / 'b/new'}/fabric", "old/fabric"]
    with pytest.raises(DatasetError, match="given twice"):
        load_categories(SimpleNamespace(data=[paths[0], paths[0]], dataset=None, limit=None), tmp_path)


# --- planning -----------------------------------------------------------------------------------------------------


def category(references: dict, *, layout: str = "mvtec") -> Category:
    test = (Sample(Path("a"), 0), Sample(Path("b"), 1))
    return Category("set", "set", layout, Path(), references, test)


def planned(references: dict, methods: list[str] | None, shots: list, *, layout: str = "mvtec") -> tuple[list, list]:
    tasks, problems = plan([category(references, layout=layout)], methods, shots, 3, default_methods)
    return [(task.method, task.shots, task.seed) for task in tasks], problems


def test_plan() -> None:
    ten = {None: tuple(Path(f"{k}") for k in range(10))}
    tasks, problems = planned(ten, ["dense", "bank", "winclip"], [0, 4])
    assert tasks == [
        ("dense", 0, 0),
        *(("bank", 4, seed) for seed in range(3)),
        ("winclip", 0, 0),
        *(("winclip", 4, seed) for seed in range(3)),
    ]
    assert problems == []
    # all references: one draw is all draws, unless the method itself throws dice
    tasks, _ = planned(ten, ["bank", "random-vit"], ["all"])
    assert tasks == [("bank", 10, 0), *(("random-vit", 10, seed) for seed in range(3))]
    tasks, problems = planned(ten, ["bank"], [10, 16])
    assert tasks == [("bank", 10, 0)]
    assert problems == ["set/set: 16 references asked for, 10 there"]
    tasks, _ = plan([category(ten)], ["bank"], [4, "all", 16], 1, default_methods)
    assert [(task.shots, task.asked) for task in tasks] == [(4, (4,)), (10, ("all", 16))]
    assert planned(ten, ["dense"], [4]) == ([("dense", 0, 0)], [])
    assert planned(ten, ["bank"], [0]) == ([], ["set/set: bank left out, it needs --shots above 0"])
    tasks, problems = planned({None: ()}, ["dense", "bank"], [0, 4])
    assert tasks == [("dense", 0, 0)]
    assert problems == ["set/set: bank left out, there are no normal images to fit on"]


def test_a_course_uses_all_its_references() -> None:
    classes = {"a": (Path("1"), Path("2")), "b": (Path("3"),)}
    tasks, problems = planned(classes, None, [0, 4], layout="course")
    assert {(name, shots) for name, shots, _ in tasks} == {
        ("dense", 0),
        *((name, 2) for name in COURSE_METHODS[1:]),
    }
    assert problems == []


def test_fewer_references_are_part_of_more(data: Path) -> None:
    (own,) = read_dataset(data)
    drawn = {(shots, seed): draw_references(own, shots, seed)[0][None] for shots in (1, 2, 4) for seed in (0, 1)}
    for seed in (0, 1):
        assert drawn[1, seed] == drawn[2, seed][:1]
        assert drawn[2, seed] == drawn[4, seed][:2]
    assert drawn[4, 0] != drawn[4, 1]
    assert draw_references(own, 0, 0) == ({}, [])


# --- the synthetic set --------------------------------------------------------------------------------------------


def test_synthetic_set(tmp_path: Path) -> None:
    categories = make_synthetic(tmp_path / "synthetic", references=2, normal=1, of_each_kind=1, side=64)
    assert [category.name for category in categories] == ["herringbone", "hexagons", "marble", "rings"]
    for own in categories:
        assert own.kinds == ("cut", "dot", "hole", "scratch", "stain")
        assert len(own.references[None]) == 2
        assert all(len(sample.masks) == sample.label for sample in own.test)
        assert own.problems == ()
    again = make_synthetic(tmp_path / "again" / "synthetic", references=2, normal=1, of_each_kind=1, side=64)
    for first, second in zip(categories, again, strict=True):
        for one, other in zip(first.test, second.test, strict=True):
            assert one.path.read_bytes() == other.path.read_bytes()
            assert one.path.stat().st_mtime == other.path.stat().st_mtime


# --- the command line ---------------------------------------------------------------------------------------------


def test_errors_say_what_to_do(
    tmp_path: Path, data: Path, local_model: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        return capsys.readouterr().err

    assert "0 or more, got -1" in fails("--latency", "-1")
    (tmp_path / "empty").mkdir()
    assert "none of the layouts that patchclip knows" in fails("--data", str(tmp_path / "empty"))
    assert "does not exist" in fails("--data", str(tmp_path / "nothing"))
    assert "--resume needs --out" in fails("--resume")
    assert "invalid choice: 'densest'" in fails("--methods", "densest")
    assert "expected a number of references or \"all\", got 'few'" in fails("--shots", "few")
    assert "at least 1, got 0" in fails("--seeds", "0")
    assert "unknown model 'tinny': did you mean tiny" in fails("--data", str(data), "--model", "tinny")
    assert "nothing to measure" in fails("--data", str(data), "--methods", "bank", "--shots", "0")
    monkeypatch.setattr("benchmarks.peers.importlib.import_module", _no_module)
    for peer in ("anomalib-patchcore", "anomalib-winclip"):
        message = fails("--data", str(data), "--model", local_model, "--methods", peer)
        assert "anomalib is not installed here" in message
        assert "pip install" in message


def _no_module(name: str) -> None:
    raise ModuleNotFoundError(f"No module named {name!r}")


def test_tiles_are_for_methods_that_have_them(data: Path, local_model: str, capsys: pytest.CaptureFixture) -> None:
    options = ("--shots", "0", "--tile", "40", "--limit", "1", "--methods", "dense")
    run(data, local_model, *options)
    assert "--tile" not in capsys.readouterr().out
    run(data, local_model, *options, "winclip")
    assert "note: --tile does not count for winclip: whole images alone" in capsys.readouterr().out


def test_help_states_the_defaults(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in METHODS:
        assert name in text
    assert "default: dense bank texture imagenet random-vit dense+bank" in text
    assert "default: 0 4; a course layout uses all it has" in text


def test_two_sets_of_one_name(tmp_path: Path, surface: Surface, local_model: str) -> None:
    first, second = (write_images(tmp_path / name / "fabric", surface) for name in "ab")
    out = tmp_path / "out"
    run(first, local_model, "--data", str(second), "--methods", "dense", "--out", str(out))
    assert [row["dataset"] for row in read_rows(out)] == ["a/fabric", "b/fabric"]
