"""benchmarks/record.py and thresholds.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from accuracy.plan import draw_references
from patchclip import Detector
from patchclip.datasets import read_dataset
from record import Run, against_baselines, make_course, planned, section
from record import main as record
from thresholds import best_threshold, category_shares, product_images, shares_above
from thresholds import main as measure_thresholds

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
    assert names[:7] == ["plate", "tile", "elpv", "textile", "cues", "synthetic", "course"]
    assert names[7:] == ["names", "peers_winclip"]
    for run in runs[:4]:
        arguments = " ".join(run.arguments)
        assert "dense rank dense+bank anomalib-patchcore-imagenet --shots 0 1 4 16 --seeds 10 --limit 100" in arguments
        assert run.python == "python"
    alone = planned(tmp_path / "data", course=course, peer_python=None)
    assert [run.name for run in alone] == names[:8]
    assert not any("anomalib" in argument for run in alone for argument in run.arguments)


@pytest.mark.parametrize(
    ("only", "message"),
    [
        (["elvp"], "--only: elvp: choose from fabric, elpv, textile, cues, synthetic, course, names"),
        (["elpv", "course"], "--only: no finished run of fabric, textile, cues, synthetic, names in "),
    ],
)
def test_sections_alone(
    only: list[str], message: str, data: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture
) -> None:
    """The file has all sections, or it is not written."""
    out = tmp_path_factory.mktemp("record")
    results = out / "RESULTS.md"
    with pytest.raises(SystemExit):
        record(["--data", str(data.parent), "--out", str(out), "--results", str(results), "--only", *only])
    assert message in capsys.readouterr().err
    assert not results.exists()


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


def test_best_threshold() -> None:
    scores = np.array([0.3, 0.1, 0.2, 0.4, 0.5])
    for rate, expected, above in ((0.0, 0.5, 0), (0.05, 0.5, 0), (0.2, 0.4, 1), (0.35, 0.3, 2), (1.0, 0.1, 4)):
        assert best_threshold(scores, rate) == expected
        assert (scores > expected).sum() == above


def test_thresholds_of_a_real_set(data: Path, local_model: str, capsys: pytest.CaptureFixture) -> None:
    (category,) = read_dataset(data)
    detector = Detector(local_model, precision="fp32")
    shares = category_shares(detector, category, 2, 2, rate=0.25)
    assert shares.shape == (2, 2, 2)
    assert np.all(shares[:, 1, 0] == 0.25)  # one of four normal images
    for seed in range(2):
        references, _ = draw_references(category, 2, seed)
        with pytest.warns(UserWarning, match="extrapolation"):
            detector.fit(references[None], progress=False)
        results = [detector.predict(sample.path) for sample in category.test]
        flagged = np.array([result.is_anomalous for result in results])
        labels = np.array([sample.label for sample in category.test])
        assert shares[seed, 0].tolist() == [flagged[labels == 0].mean(), flagged[labels == 1].mean()]
    measure_thresholds(["--data", str(data), "--shots", "2", "--draws", "2", "--limit", "3", "--rate", "0.34"])
    *_, line = capsys.readouterr().out.splitlines()
    assert line.split()[:2] == ["fabric", "2"]
    assert line.split()[6] == "33.3%"


def test_a_section_of_the_record(whole_run: Path) -> None:
    content = read_metrics(whole_run)
    text = section(Run("x", "A title", ("--data", "../sets/a b", "--shots", "4")), content)
    assert text.startswith("## A title\n\n```\npython benchmarks/run.py --data '../sets/a b' --shots 4\n```\n\nmodel ")
    assert "| data " in text
    assert "s/image |" not in text
    assert text.endswith("are not images and are left out, such as notes.txt")
    course = content | {"data": content["data"][1:]}
    assert "points against the better baseline" in section(Run("x", "A title", ()), course)
