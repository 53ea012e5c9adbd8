"""Rows about whole processes: first result, import, memory over time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from environment import BENCHMARKS, PACKAGE
from speed.bench import Bench, Row


def fresh(bench: Bench) -> Iterator[Row]:
    arguments = [str(bench.folder), *map(str, bench.photographs[0:34:2])]
    values = [_run(bench, "first_result", *arguments)[0] for _ in range(2 if bench.quick else 3)]
    what = "fit of 16 images of 800 x 800, save, load, first predict, embedded model, fresh process"
    yield _seconds_row(what, values, 5)


def ready(bench: Bench) -> Iterator[Row]:
    values = [_run(bench, "ready")[0] for _ in range(3 if bench.quick else 7)]
    yield _seconds_row("Detector(), embedded model, after the imports, fresh process", values, 1)


def importing(bench: Bench) -> Iterator[Row]:
    values = [_run(bench, "importing")[0] for _ in range(3 if bench.quick else 7)]
    yield _seconds_row("import patchclip, beyond torch and open_clip", values, 0.15)


def _seconds_row(what: str, values: Sequence[float], limit: float) -> Row:
    median = float(np.median(values))
    detail = f"{len(values)} processes, {min(values):.2f} to {max(values):.2f} s"
    return Row(what, f"{median:.2f} s", f"<= {limit} s", median <= limit, detail)


def memory(bench: Bench) -> Iterator[Row]:
    total = 1_000 if bench.quick else 10_000
    what = f"memory over predict_batch of {total:,} images, growth after the first 200"
    if not Path("/proc/self/status").exists():
        yield Row(what, "-", "< 20 MB", None, "no /proc here")
        return
    growth, highest = _run(bench, "memory", str(total))
    yield Row(
        what,
        f"{growth:.1f} MB",
        "< 20 MB",
        growth < 20,
        "median resident size over the last 1,000, less that over the 1,000 after the first 200; at most "
        f"{highest:.0f} MB above it, for a batch",
    )


def _run(bench: Bench, program: str, *arguments: str) -> list[float]:
    """What a program of `speed.children` prints, on the patchclip that is imported here."""
    search = [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, search)),
        "PATCHCLIP_BENCH_BUSY": "1" if bench.busy else "",
    }
    command = [sys.executable, "-m", "speed.children", program, *arguments]
    done = subprocess.run(command, cwd=BENCHMARKS, env=environment, capture_output=True, text=True, check=True)
    return [float(value) for value in done.stdout.split()]
