"""The gallery's choice of images, charts and tables, by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from accuracy.charts import curve_chart, histogram_chart, interval_mark
from accuracy.gallery import choose, outlined
from accuracy.measures import Record
from accuracy.tables import cell, markdown

# --- pictures -----------------------------------------------------------------------------------------------------


def test_best_median_and_worst_by_hand() -> None:
    """Three anomalous images above 2, 1 and 0 of two normal ones; a tie counts half."""
    scores = [(1, 0.9), (1, 0.4), (1, 0.1), (0, 0.5), (0, 0.2)]
    records = [Record(str(k), label, None, score, 0.5) for k, (label, score) in enumerate(scores)]
    assert choose(records) == [
        (0, "best", 1.0),
        (1, "median", 0.5),
        (2, "worst", 0.0),
        (4, "best", pytest.approx(2 / 3)),
        (3, "worst", pytest.approx(1 / 3)),
    ]
    tied = [Record("a", 1, None, 0.5, 0.5), Record("b", 0, None, 0.5, 0.5)]
    assert choose(tied) == [(0, "worst", 0.5), (1, "worst", 0.5)]
    assert choose(tied[:1])[0][:2] == (0, "worst")


def test_the_outline_is_around_the_mask() -> None:
    mask = np.zeros((128, 256), bool)
    mask[60:64, 100:104] = True
    picture = np.asarray(outlined(np.full((128, 256, 3), 128, np.uint8), mask))
    assert picture.shape == (128, 256, 3)
    drawn = (picture != 128).any(2)
    assert not drawn[60:64, 100:104].any()
    rows, columns = np.nonzero(drawn)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (58, 65, 98, 105)


# --- charts and tables --------------------------------------------------------------------------------------------


def test_a_curve_ends_at_the_limit() -> None:
    """From (0, 0) by (0.2, 0.5) to (1, 1): at 0.3 it stands at 0.5625; the field is 250 x 204 from (40, 10)."""
    chart = curve_chart({"m": ([0, 0.2, 1], [0, 0.5, 1])}, {"m": "#123456"}, x_title="x", y_title="y", x_limit=0.3)
    points = re.search(r'<polyline points="([^"]*)" class="curve" stroke="#123456"><title>m</title>', chart)
    assert points is not None
    assert points[1] == "40.0,214.0 206.7,112.0 290.0,99.2"


def test_a_histogram_counts_every_image() -> None:
    chart = histogram_chart([0.1, 0.1, 0.3], [0.3, 0.9], 0.5)
    counts = [(int(n), name) for n, name in re.findall(r"<title>(\d+) (normal|anomalous)", chart)]
    assert sum(n for n, name in counts if name == "normal") == 3
    assert sum(n for n, name in counts if name == "anomalous") == 2
    assert "threshold 0.5" in chart
    assert "<svg" in histogram_chart([0.5, 0.5], [], None)  # no spread, one class, no threshold


def test_an_interval_lies_on_its_line() -> None:
    mark = interval_mark(0.7, 0.5, 1.0, "#000", start=0.4)
    assert 'x1="21.0" x2="106.0"' in mark
    assert 'cx="55.0"' in mark


def test_tables() -> None:
    assert markdown(["a", "bb"], [["1", "2"]]) == "| a | bb |\n|---|----|\n| 1 | 2  |"
    value = {"mean": 0.8124, "sd": 0.01, "worst": 0.795, "low": 0.77, "high": 0.85}
    assert cell(value) == "0.812"
    assert cell(value, worst=True) == "0.812 ± 0.010 (0.795)"
    assert cell(value, interval=True) == "0.812 [0.770, 0.850]"
    assert cell(value, worst=True, interval=True) == "0.812 ± 0.010 (0.795) [0.770, 0.850]"
    assert cell(value | {"sd": None}, worst=True, interval=True) == "0.812 [0.770, 0.850]"
    assert cell(None) == "–"
