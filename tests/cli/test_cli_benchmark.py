"""`patchclip benchmark`: where its program is, and what it is given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from patchclip.cli import benchmark

from .command_line import Command


def test_it_measures_a_folder(photos: Path, tmp_path: Path) -> None:
    for index, name in enumerate(("a.png", "sub/b.png")):
        for folder in ("train/good", "test/good"):
            target = tmp_path / "parts" / folder / f"{index}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((photos / name).read_bytes())
    bad = tmp_path / "parts" / "test" / "hole" / "0.png"
    bad.parent.mkdir(parents=True)
    bad.write_bytes((photos / "sub" / "hole.png").read_bytes())
    command = [
        sys.executable,
        "-m",
        "patchclip",
        "benchmark",
        "parts",
        "--methods",
        "dense+bank,rank",
        "--shots",
        "0,1",
    ]
    done = subprocess.run(
        [*command, "--seeds", "1", "--latency", "0", "--out", "report"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "dense+bank" in done.stdout
    rows = json.loads((tmp_path / "report" / "metrics.json").read_text())["rows"]
    assert {(row["method"], row["shots"]) for row in rows} == {("dense+bank", 1), ("rank", 0)}


def test_options_are_handed_on(command: Command, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def run(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        given.append(arguments[2:])
        return subprocess.CompletedProcess(arguments, 3)

    monkeypatch.setattr(benchmark.subprocess, "run", run)
    options = ["--shots", "1", "--shots", "4,16", "--object", "metal nut", "--limit", 9, "--resume", "--out", "x"]
    assert command("benchmark", photos, *options).exit_code == 3
    expected = ["--data", str(photos), "--shots", "1", "4", "16", "--limit", "9", "--object-name", "metal nut"]
    assert given == [[*expected, "--out", "x", "--resume"]]
    missing = command("benchmark", "nowhere")
    assert missing.exit_code == 2
    assert "nowhere" in missing.output
    assert len(given) == 1


def test_the_program_is_a_part_of_the_installation() -> None:
    assert benchmark.find_program().name == "run.py"
    assert (benchmark.find_program().parent / "accuracy" / "main.py").is_file()
