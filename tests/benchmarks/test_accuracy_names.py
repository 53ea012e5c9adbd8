"""Names of defects after a few examples: counted by hand, and in the outputs of a run."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

import internals
from accuracy.names import NO_NAME, measure_names
from patchclip import Detector
from patchclip.datasets import read_dataset

from .runs import read_rows


@pytest.fixture
def measured_on(data: Path, fitted: Detector, monkeypatch: pytest.MonkeyPatch) -> Detector:
    """A detector whose vectors of defects tell the two kinds of `data` apart, but for one image of each."""
    places: dict[str, int] = {}

    def describe(detector: Detector, path: Path) -> tuple[np.ndarray, str | None]:
        kind = path.parent.name
        places[kind] = places.get(kind, -1) + 1
        angle = np.radians({"hole": 0, "stain": 90}[kind] + 3 * places[kind])
        vector = np.array([np.cos(angle), np.sin(angle)], np.float32)
        return np.tile(vector, (4, 1)), "hole" if places[kind] else None

    monkeypatch.setattr(internals, "describe_defect", describe)
    return copy.copy(fitted)


def test_text_and_examples_by_hand(measured_on: Detector, data: Path) -> None:
    [category] = read_dataset(data)
    text, one, two = measure_names(measured_on, category.test, (1, 2, 3), seed=0)  # three of each kind leave none
    assert (text["examples"], one["examples"], two["examples"]) == (0, 1, 2)
    assert (text["images"], one["images"], two["images"]) == (6, 4, 2)
    assert text["confusion"] == {"hole": {"hole": 2, NO_NAME: 1}, "stain": {"hole": 2, NO_NAME: 1}}
    assert text["right"] == pytest.approx(2 / 6)
    assert text["none"] == pytest.approx(2 / 6)
    assert text["right_of_shown"] == pytest.approx(2 / 4)
    assert text["likeliest"] is None
    assert two["likeliest"] == one["likeliest"] == 1
    assert one["right"] == 1
    assert one["confusion"] == {"hole": {"hole": 2}, "stain": {"stain": 2}}
    assert two["untaught_none"] is None  # of two kinds none can be left out


def test_vectors_are_those_of_teach(fitted: Detector, data: Path) -> None:
    path = data / "test" / "hole" / "0.png"
    found = internals.describe_defect(fitted, path)
    assert found is not None
    views, name = found
    lowered = copy.copy(fitted)
    lowered.threshold = 0.0
    assert name == lowered.predict(path).regions[0].defect
    lowered.teach({"hole": [path]}, progress=False)
    learnt = internals.learn_kinds(["hole"], views[None])
    assert internals.choose_kind(views[0], learnt) == (
        lowered.predict(path).defect,
        pytest.approx(lowered.predict(path).confidence, abs=1e-5),
    )


def test_a_run_has_them(whole_run: Path) -> None:
    rows = [row for row in read_rows(whole_run) if "names" in row]
    assert {row["method"] for row in rows} == {"dense+bank"}
    for row in rows:
        text, one, two = ([entry for entry in row["names"] if entry["examples"] == count] for count in (0, 1, 3))
        assert text[0]["images"] == 6
        assert one[0]["images"] == 4
        assert two == []
        assert sum(sum(names.values()) for names in one[0]["confusion"].values()) == 4
    printed = (whole_run / "printed.txt").read_text(encoding="utf-8")
    table = (whole_run / "table.md").read_text(encoding="utf-8")
    assert "| examples of a kind |" in printed
    assert "| examples of a kind |" in table
    page = (whole_run / "report.html").read_text(encoding="utf-8")
    assert "Names of defects: dense+bank" in page
    assert "after examples of each kind: 1; right" in page
