"""The benchmark's own logic."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_benchmark_prints_each_row_and_fails_where_one_is_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import speed, speed_bench

    rows = {
        "good": lambda bench: iter([speed_bench.Row("a", "1.00 x", "<= 1.10 x", True, "")]),
        "bad": lambda bench: iter([speed_bench.Row("b", "1.20 x", "<= 1.10 x", False, "")]),
        "absent": lambda bench: iter([speed_bench.Row("c", "-", "<= 1.10 x", None, "no GPU here")]),
    }
    monkeypatch.setattr(speed, "ROWS", rows)
    assert speed.main(["--rows", "good", "absent"]) == 0
    assert speed.main(["--rows", "good", "bad"]) == 1
    printed = capsys.readouterr().out
    assert "MISSED" in printed
    assert "no GPU here" in printed
    text = speed.report(
        [row for row_of in rows.values() for row in row_of(None)], [("all", 0.01)], quick=False, busy=False
    )
    assert "| b | 1.20 x | <= 1.10 x | MISSED |" in text
    assert "| all | 10.00 |" in text


def test_the_benchmark_as_a_script() -> None:
    script = ROOT / "benchmarks" / "speed.py"
    command = [sys.executable, str(script), "--quick", "--busy", "--rows", "gpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "GPU" in done.stdout
