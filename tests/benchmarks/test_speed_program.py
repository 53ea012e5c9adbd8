"""benchmarks/speed.py: what it prints, never how long things take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from environment import BENCHMARKS
from speed import main as program
from speed.bench import Row


def test_each_row_is_printed_and_a_missed_one_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {
        "good": Row("a", "1.00 x", "<= 1.10 x", True, ""),
        "bad": Row("b", "1.20 x", "<= 1.10 x", False, ""),
        "absent": Row("c", "-", "<= 1.10 x", None, "no GPU here"),
    }
    monkeypatch.setattr(program, "ROWS", {name: lambda bench, row=row: iter([row]) for name, row in rows.items()})
    assert program.main(["--rows", "good", "absent"]) == 0
    assert program.main(["--rows", "good", "bad"]) == 1
    printed = capsys.readouterr().out
    assert "MISSED" in printed
    assert "no GPU here" in printed


def test_the_report_has_a_line_for_each_row() -> None:
    row = Row("b", "1.20 x", "<= 1.10 x", False, "how")
    text = program.report([row], {"zero-shot": {"rest": 0.002, "all": 0.01}}, quick=False, busy=False)
    assert "| b | 1.20 x | <= 1.10 x | MISSED | how |" in text
    assert [line.split() for line in text.splitlines() if line.startswith("| all")] == [["|", "all", "|", "10.00", "|"]]
    assert "not for the record" not in text
    assert "not for the record" in program.report([row], {}, quick=True, busy=False)


def test_the_doors_open_from_any_folder(tmp_path: Path) -> None:
    def start(script: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(BENCHMARKS / script), *arguments]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    speed, accuracy = start("speed.py", "--quick", "--busy", "--rows", "gpu"), start("run.py", "--help")
    for process, expected in ((speed, "GPU"), (accuracy, "course-fewshot")):
        printed, errors = process.communicate()
        assert process.returncode == 0, errors
        assert expected in printed
