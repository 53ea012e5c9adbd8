"""benchmarks/record.py and thresholds.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from patchclip import Detector
from record import Run, against_baselines, make_course, planned, section
from thresholds import product_images, shares_above

from .runs import read_metrics

# --- the record ---------------------------------------------------------------------------------------------------


def test_course_out_of_categories(tmp_path: Path) -> None:
    for name in ("tile", "plate"):
        for part, count in (("train/good", 7), ("test/good", 3), ("test/hole", 4)):
            (tmp_path / "data" / name / part).mkdir(parents=True)
            for k in range(count):
                Image.new("L", (8, 8)).save(tmp_path / "data" / name / part / f"{k}.png")
    course = make_course(tmp_path / "data", tmp_path / "course", each=3)
    counts = {str(p.relative_to(course)): len(list(p.iterdir())) for p in course.glob("*/*")}
    assert counts == {"train/tile": 5, "train/plate": 5, "test/normal": 6, "test/anomaly": 6}
    runs = planned(tmp_path / "data", course=course, peer_python="python")
    names = [run.name for run in runs]
    assert names[:6] == ["plate", "tile", "elpv", "textile", "synthetic", "course"]
    assert names[6:] == ["peers", "peers_packaged", "peers_winclip"]
    arguments = {run.name: " ".join(run.arguments) for run in runs}
    for name in ("plate", "tile", "elpv", "textile"):
        assert "--shots 0 1 4 16 --seeds 10" in arguments[name]
    assert f"--data {tmp_path / 'data/plate'} --data {tmp_path / 'data/tile'} --methods" in arguments["peers"]
    for name in ("peers", "peers_packaged"):
        assert "dense+bank anomalib-patchcore-imagenet anomalib-patchcore --shots 4 --seeds 10" in arguments[name]
    assert len(planned(tmp_path / "data", course=course, peer_python=None)) == 6


def test_against_the_baselines() -> None:
    accuracy = {"dense+bank": 0.7, "course-zeroshot": 0.55, "course-fewshot": 0.5, "dense": 0.6}
    summary = [{"method": name, "accuracy": {"mean": value}} for name, value in accuracy.items()]
    assert against_baselines(summary) == (
        "`dense+bank` has 70.0 % accuracy at its own threshold, +15.0 points against the better baseline "
        "(course-zeroshot, 55.0 %)."
    )
    assert against_baselines(summary[:1]) == ""


def test_more_exceed_the_threshold_where_fit_aims_at_more() -> None:
    made = [product_images(product, 7, 4) for product in range(4)]
    for classes in (1, 2):
        strict, loose = (
            shares_above(Detector(image_size=64, max_false_positive_rate=rate), made, 3, classes, 4)
            for rate in (0.01, 0.99)
        )
        assert strict.shape == (4 // classes, 2)
        assert np.all(strict <= loose)
        assert strict[:, 0].sum() < loose[:, 0].sum()


def test_a_section_of_the_record(whole_run: Path) -> None:
    content = read_metrics(whole_run)
    text = section(Run("x", "A title", ("--data", "../sets/a b", "--shots", "4")), content)
    assert text.startswith("## A title\n\n```\npython benchmarks/run.py --data '../sets/a b' --shots 4\n```\n\nmodel ")
    assert text.count("\n| method") == 1  # the latency table; the summary has a column of data before
    assert "| data " in text
    assert "| ms at batch 1 |" in text
    assert text.endswith("are not images and are left out, such as notes.txt")
    course = content | {"data": content["data"][1:]}
    assert "points against the better baseline" in section(Run("x", "A title", ()), course)
