"""Latency rows: their figures fit together."""

from __future__ import annotations

from pathlib import Path

import pytest

from accuracy.latency import measure_latency
from accuracy.methods.base import Settings
from accuracy.methods.course import CourseZeroShot
from accuracy.methods.detector import DetectorMethod, make_bare_detector


def test_the_figures_fit_together(settings: Settings, paths: list[Path]) -> None:
    bare = make_bare_detector(settings)
    method = DetectorMethod(settings, ())
    method.fit({None: paths[:3]}, seed=0)
    one, three = measure_latency(method, bare, paths, seconds=0.01, batches=(1, 3))
    for row, batch in ((one, 1), (three, 3)):
        assert row["batch"] == batch
        assert row["repetitions"] >= 3
        assert 0 < row["median_s"] <= row["p95_s"]
        assert row["images_per_second"] == pytest.approx(batch / row["median_s"])
        assert row["ratio"] > 0
        assert row["peak_memory_mb"] > 50
    assert "parts_s" not in three
    assert {"decode", "resize", "forward", "text", "bank", "heatmap", "rest"} <= set(one["parts_s"])
    assert all(seconds > 0 for seconds in one["parts_s"].values())
    winclip = DetectorMethod(settings, (), cues=("text", "tokens"), recipe="winclip")
    (row,) = measure_latency(winclip, bare, paths, seconds=0, batches=(1,))
    assert row["parts_s"]["windows"] > 0
    course = CourseZeroShot(settings)
    course.fit({None: paths[:2]}, seed=0)
    (row,) = measure_latency(course, bare, paths, seconds=0, batches=(1,))
    assert "parts_s" not in row
