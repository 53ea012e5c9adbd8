"""benchmarks/run.py from end to end: what it measures can be recomputed and trusted."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score

from accuracy.synthetic_set import make_synthetic
from patchclip import Detector, metrics
from patchclip.datasets import read_dataset
from patchclip.synthetic import Surface

from .conftest import RUN_METHODS
from .runs import main, read_metrics, read_rows, read_scores, run, write_mvtec

_CATEGORY = "a & b <i>"


def test_metrics_can_be_recomputed_from_the_scores(whole_run: Path) -> None:
    rows = {}
    for row in read_rows(whole_run):
        if row["dataset"] == _CATEGORY:
            rows[row["method"], row["shots"], row["seed"]] = row
    zero_shot, few_shot = {"dense", "rank", "winclip"}, set(RUN_METHODS) - {"dense", "rank"}
    expected = {(name, 0, 0) for name in zero_shot} | {(name, 2, seed) for name in few_shot for seed in (0, 1)}
    assert set(rows) == expected

    groups = defaultdict(list)
    for score in read_scores(whole_run):
        if score["dataset"] == _CATEGORY:
            groups[score["method"], int(score["shots"]), int(score["seed"])].append(score)
    assert set(groups) == expected
    for key, scores in groups.items():
        row = rows[key]
        labels = np.array([int(score["label"]) for score in scores])
        values = np.array([float(score["score"]) for score in scores])
        assert labels.tolist() == [0] * 4 + [1] * 6  # good, hole, stain: sorted by folder
        assert row["image_auroc"] == pytest.approx(roc_auc_score(labels, values))
        assert row["image_ap"] == pytest.approx(average_precision_score(labels, values))
        if key[0] == "rank":
            assert {score["threshold"] for score in scores} == {""}
            assert row["accuracy"] is row["recall"] is None
        else:
            flagged = values > float(scores[0]["threshold"])
            assert row["accuracy"] == pytest.approx(accuracy_score(labels, flagged))
            assert row["false_positive_rate"] == pytest.approx(flagged[labels == 0].mean())
            assert row["recall"] == pytest.approx(flagged[labels == 1].mean())
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


def test_the_summary_is_over_seeds(whole_run: Path) -> None:
    content = read_metrics(whole_run)
    found = [row for row in content["summary"] if (row["dataset"], row["method"]) == (_CATEGORY, "bank")]
    (bank,) = found
    rows = [row for row in content["rows"] if (row["dataset"], row["method"]) == (_CATEGORY, "bank")]
    both = [row["image_auroc"] for row in rows]
    assert bank["image_auroc"]["mean"] == pytest.approx(np.mean(both))
    assert bank["image_auroc"]["sd"] == pytest.approx(np.std(both, ddof=1))
    assert bank["image_auroc"]["worst"] == pytest.approx(min(both))
    assert bank["seeds"] == 2


def test_the_record_says_what_was_measured(whole_run: Path, local_model: str) -> None:
    content = read_metrics(whole_run)
    assert content["schema"] == 1
    assert content["environment"]["model"]["name"] == local_model
    assert len(content["environment"]["model"]["weights_sha256"]) == 64
    assert content["data"][0] == {
        "dataset": _CATEGORY,
        "category": _CATEGORY,
        "layout": "mvtec",
        "references": 5,
        "normal": 4,
        "anomalous": 6,
        "with_mask": 6,
    }
    printed = (whole_run / "printed.txt").read_text(encoding="utf-8")
    assert f"{_CATEGORY}/{_CATEGORY}: mvtec layout, 5 references, 4 normal and 6 anomalous test images" in printed
    for text in (printed, (whole_run / "table.md").read_text(encoding="utf-8")):
        assert re.search(r"^\| data +\| method +\| shots \| images \| image AUROC", text, re.M)
        assert "| ms at batch 1 |" in text
    assert (whole_run / "report.html").stat().st_size > 50_000


def test_pixel_metrics_are_those_of_the_heatmaps(whole_run: Path, local_model: str) -> None:
    (row,) = [row for row in read_rows(whole_run) if (row["dataset"], row["method"]) == (_CATEGORY, "dense")]
    detector = Detector(local_model, precision="fp32")
    heatmaps, masks = [], []
    for sample in read_dataset(whole_run.parent / _CATEGORY)[0].test:
        heatmaps.append(detector.predict(sample.path).heatmap)
        masks.append(np.asarray(Image.open(sample.masks[0])) > 0 if sample.masks else np.zeros((72, 96), bool))
    truth, values = np.stack(masks).ravel(), np.stack(heatmaps).ravel()
    assert row["pixel_auroc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-3)
    assert row["pixel_ap"] == pytest.approx(average_precision_score(truth, values), abs=1e-3)
    assert row["aupro"] == pytest.approx(metrics.aupro(masks, heatmaps), abs=1e-3)
    assert row["pixel_binning_error"] < 1e-3


def test_a_run_needs_no_arguments(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(make_synthetic, references=4, normal=2, of_each_kind=1, side=64)
    monkeypatch.setattr("accuracy.categories.make_synthetic", small)
    monkeypatch.setattr("accuracy.tasks.make_gallery", lambda *_: pytest.fail("no report, so no pictures for it"))
    main(["--limit", "2", "--seeds", "1", "--latency", "0", "--precision", "fp32", "--image-size", "64"])
    printed = capsys.readouterr().out
    for name in ("dense", "bank", "texture", "imagenet", "random-vit", "dense+bank"):
        assert len(re.findall(rf"^\| synthetic/\w+ +\| {re.escape(name)} +\|", printed, re.M)) == 5  # 4 and their mean
    assert "keeps 4 of 7 test images" in printed


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
    problems = read_metrics(out)["problems"]
    assert [
        any(p.startswith("test image left out: fabric/fabric/test/good/5.png is no image in a") for p in problems),
        "reference left out: fabric/fabric/train/good/0.png is empty (0 bytes)" in problems,
        any(p.startswith("mask unreadable, left out of the pixel metrics: fabric/fabric/ground") for p in problems),
        any(p.startswith("empty mask of an anomalous image") for p in problems),
    ] == [True] * 4
    assert "note: test image left out" in capsys.readouterr().out


def test_tiles_are_for_methods_that_have_them(data: Path, local_model: str, capsys: pytest.CaptureFixture) -> None:
    options = ("--shots", "0", "--tile", "40", "--limit", "1", "--methods", "dense")
    run(data, local_model, *options)
    assert "--tile" not in capsys.readouterr().out
    run(data, local_model, *options, "winclip")
    assert "note: --tile does not count for winclip: whole images alone" in capsys.readouterr().out


def test_two_sets_of_one_name(tmp_path: Path, surface: Surface, local_model: str) -> None:
    first, second = (write_mvtec(tmp_path / name / "fabric", surface) for name in "ab")
    out = tmp_path / "out"
    run(first, local_model, "--data", str(second), "--methods", "dense", "--out", str(out))
    assert [row["dataset"] for row in read_rows(out)] == ["a/fabric", "b/fabric"]


def test_a_file_name_that_is_no_utf8_loses_no_table(data: Path, local_model: str, tmp_path: Path) -> None:
    image = data / "test/hole/0.png"
    os.rename(os.fsencode(image), os.fsencode(image.parent) + b"/pr\xfcfung.png")
    os.rename(data / "test/good/5.png", data / "test/good/=1+1.png")
    out = tmp_path / "out"
    run(data, local_model, "--methods", "dense", "--shots", "0", "--out", str(out))
    paths = {score["path"] for score in read_scores(out)}
    assert "test/hole/pr\\xfcfung.png" in paths
    assert (out / "report.html").read_text(encoding="utf-8").count("fung.png")
    assert (out / "table.md").exists()
