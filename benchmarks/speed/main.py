"""The run of speed.py: rows to the terminal, and with --write benchmarks/SPEED.md."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence

import torch

from environment import BENCHMARKS, accelerator, check_package, commit, processor, versions
from speed.bench import Row, make_bench
from speed.growth import measure_growth, plot_growth, profile_predict
from speed.rows import ROWS

REPORT = BENCHMARKS / "SPEED.md"
PLOT = BENCHMARKS / "speed.png"

_DESCRIPTION = """\
Speed and size of patchclip, each figure beside its target.

Every figure is a ratio taken in one run, the functions compared taking turns; the exit code is 1 where one misses its
target. --write keeps the table, a profile of `predict` and the growth with size in benchmarks/SPEED.md.
"""

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

_VERDICTS = {True: "hit", False: "MISSED", None: "-"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    options = _parse(arguments)
    if options.busy:
        torch.set_num_threads(1)
    if remark := check_package():
        print(f"note: {remark}")
    rows = []
    with make_bench(quick=options.quick, busy=options.busy) as bench:
        for name in options.rows:
            for row in ROWS[name](bench):
                rows.append(row)
                verdict = _VERDICTS[row.hit]
                print(f"{verdict:6} {row.value:>9} {row.target:>10}  {row.what} ({row.detail})", flush=True)
        if options.write:
            profile = profile_predict(bench)
            plot_growth(measure_growth(bench), PLOT)
            REPORT.write_text(report(rows, profile, quick=options.quick, busy=options.busy))
    return 1 if any(row.hit is False for row in rows) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    add("--quick", action="store_true", help="small sizes, few repetitions: to see that it all runs")
    add("--write", action="store_true", help=f"write {REPORT.name} and {PLOT.name} too")
    add(
        "--busy",
        action="store_true",
        help="for a machine that does other work too: one thread, and the processor's seconds in place of the clock's",
    )
    return parser.parse_args(arguments)


# --- SPEED.md -----------------------------------------------------------------------------------------------------

_HOW = (
    "Each figure is a ratio taken in one run: the two things compared take turns, and the ratio is that of their "
    "medians; in brackets the ratio of the best and the worst round, and both medians."
)
_QUICK = "**With --quick: small sizes and few repetitions, not for the record.**"
_BUSY = (
    "**With --busy: other work ran on this machine. Times are seconds of the processor, torch on one thread, "
    "all of the process added up; other work hardly moves them, and what overlaps does not show.**"
)


def report(rows: Sequence[Row], profile: Mapping[str, Mapping[str, float]], *, quick: bool, busy: bool) -> str:
    """The text of SPEED.md."""
    command = shlex.join(["python", "benchmarks/speed.py", *sys.argv[1:]])
    lines = ["# Speed", "", f"Measured by `{command}`; {_machine()}.", _HOW]
    if quick:
        lines.append(_QUICK)
    if busy:
        lines.append(_BUSY)
    lines += ["", "| what | measured | target | | how |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        lines.append(f"| {row.what} | {row.value} | {row.target} | {_VERDICTS[row.hit]} | {row.detail} |")
    lines += [
        "",
        "## Where the time of one `predict` goes",
        "",
        "A JPEG file of 800 x 800 with a defect, embedded model, fp32; median milliseconds.",
        "",
        _profile_table(profile),
    ]
    lines += ["", "## How cost grows", "", f"![Cost against image size, tokens, bank size and batch]({PLOT.name})", ""]
    return "\n".join(lines)


def _profile_table(profile: Mapping[str, Mapping[str, float]]) -> str:
    """One column for each detector."""
    parts = dict.fromkeys(part for seconds in profile.values() for part in seconds if part not in ("rest", "all"))
    lines = [["part", *profile], ["---"] * (1 + len(profile))]
    for part in [*parts, "rest", "all"]:
        cells = [f"{1000 * seconds[part]:.2f}" if part in seconds else "–" for seconds in profile.values()]
        lines.append([part, *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _machine() -> str:
    """Machine, versions, commit and date in one line."""
    installed = ", ".join(f"{name} {version}" for name, version in versions(_PACKAGES).items() if version)
    return (
        f"{processor()}, {os.cpu_count()} cores, {accelerator() or 'no GPU'}, {torch.get_num_threads()} threads; "
        f"Python {platform.python_version()}, {installed}; commit {commit() or 'none'}; "
        f"{datetime.date.today().isoformat()}"
    )
