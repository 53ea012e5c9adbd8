"""Speed and size of patchclip beside the limits of the machine: `python benchmarks/speed.py --help`.

Every figure is a ratio taken in one run, the functions compared taking turns; the exit code is 1 where one misses its
target. `--write` keeps the table, a profile of `predict` and the growth with size in benchmarks/SPEED.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # a script: import from the checkout, and nothing in this folder by its bare name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from benchmarks.environment import commit, processor, versions
from benchmarks.speed_bench import ROOT, Row, make_bench
from benchmarks.speed_growth import measure_growth, plot_growth, profile_predict
from benchmarks.speed_rows import ROWS

REPORT = ROOT / "benchmarks" / "SPEED.md"
PLOT = ROOT / "benchmarks" / "speed.png"

_PACKAGES = (
    "torch",
    "open_clip_torch",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "onnxruntime",
    "faiss-cpu",
    "anomalib",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Speed and size of patchclip, each figure beside its target.")
    parser.add_argument(
        "--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW", help=", ".join(ROWS)
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few repetitions: to see that it all runs")
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.name} and {PLOT.name} too")
    parser.add_argument(
        "--busy",
        action="store_true",
        help="for a machine that does other work too: one thread, and the processor's seconds in place of the clock's",
    )
    options = parser.parse_args(arguments)
    if options.busy:
        torch.set_num_threads(1)
    rows = []
    with make_bench(quick=options.quick, busy=options.busy) as bench:
        for name in options.rows:
            for row in ROWS[name](bench):
                rows.append(row)
                print(f"{_verdict(row):6} {row.value:>9} {row.target:>10}  {row.what} ({row.detail})", flush=True)
        if options.write:
            profile = profile_predict(bench)
            growth = measure_growth(bench)
            plot_growth(growth, PLOT)
            REPORT.write_text(report(rows, profile, quick=options.quick, busy=options.busy))
    return 1 if any(row.hit is False for row in rows) else 0


def _verdict(row: Row) -> str:
    return {True: "hit", False: "MISSED", None: "-"}[row.hit]


def report(rows: Sequence[Row], profile: Sequence[tuple[str, float]], *, quick: bool, busy: bool) -> str:
    """The text of SPEED.md."""
    lines = [
        "# Speed",
        "",
        f"Measured by `{shlex.join(['python', 'benchmarks/speed.py', *sys.argv[1:]])}`; {environment()}.",
        "Each figure is a ratio taken in one run: the two things compared take turns, and the ratio is that of their "
        "medians; in brackets the ratio of the best and the worst round, and both medians.",
    ]
    if quick:
        lines.append("**With --quick: small sizes and few repetitions, not for the record.**")
    if busy:
        lines.append(
            "**With --busy: other work ran on this machine. Times are seconds of the processor, torch on one thread, "
            "all of the process added up; other work hardly moves them, and what overlaps does not show.**"
        )
    lines += ["", "| what | measured | target | | how |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {row.what} | {row.value} | {row.target} | {_verdict(row)} | {row.detail} |" for row in rows]
    lines += [
        "",
        "## Where the time of one `predict` goes",
        "",
        "A JPEG file of 800 x 800 with a defect, embedded model, zero-shot, fp32; median milliseconds.",
        "",
        "| part | ms |",
        "| --- | --- |",
    ]
    lines += [f"| {name} | {1000 * seconds:.2f} |" for name, seconds in profile]
    lines += ["", "## How cost grows", "", f"![Cost against image size, tokens, bank size and batch]({PLOT.name})", ""]
    return "\n".join(lines)


def environment() -> str:
    """Machine, versions, commit and date in one line."""
    installed = ", ".join(f"{name} {version}" for name, version in versions(_PACKAGES).items() if version)
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{processor()}, {os.cpu_count()} cores, {accelerator}, {torch.get_num_threads()} threads; Python "
        f"{platform.python_version()}, {installed}; commit {commit() or 'none'}; {datetime.date.today().isoformat()}"
    )


if __name__ == "__main__":
    sys.exit(main())
