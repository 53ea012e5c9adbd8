#!/usr/bin/env python3
"""Fill benchmarks/RESULTS.md: run everything that is in it, one `run.py` after the other, and write its tables.

    python benchmarks/record.py --data ../data --out runs/record
    python benchmarks/record.py --data ../data --out runs/record --peer-python ../peers/bin/python

A stopped record goes on where it was (`--resume` of run.py). Real sets take ten draws of their references (`--seeds`),
for one draw of a few normal images can be far from the mean.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from accuracy import tables
from environment import BENCHMARKS, one_line
from patchclip.datasets import read_dataset

RESULTS = BENCHMARKS / "RESULTS.md"

_INTRO = """\
# Results

Measured by `python benchmarks/record.py`; nothing in this file is written by hand. The embedded model has seen drawn
surfaces and free photographs, with drawn defects. Choices are made by elpv and textile, together with synthetic
products, those for kinds of defects by NEU-DET too. Nothing was tuned on the other sets, except that one idea, later
dropped, was looked at on one of them; the weights of rankings and four rules for kinds were looked at on magnetic_tile.

`dense` is patchclip zero-shot, `dense+bank` patchclip by default once fitted, `rank` the test images compared with each
other, without a normal image or a label (`Detector.rank`); all other methods are there to compare.
`random-vit` is a network of the same shape with random weights, `texture` a fixed descriptor without any learning,
`imagenet` the embedded features of EfficientNet-Lite0, learnt by others from photographs of everyday things.
`anomalib-patchcore-imagenet` is anomalib's own PatchCore on that EfficientNet-Lite0.
Times are in [SPEED.md](SPEED.md).
"""

#: Real sets that are installed as packages.
_PACKAGED = ("elpv", "textile")

#: Test images of either label of a real set: some have thousands, and each draw of the references measures all.
_LIMIT = ("--limit", "100")

#: SPEED.md has the times.
_UNTIMED = ("--latency", "0")

#: No table of names after examples.
_UNNAMED = ("--examples",)

#: Blocks of this size in bytes and more go back to the system when they are freed: glibc reuses aligned blocks so badly
#: that anomalib's coreset of 16 images takes 19 GB otherwise, in place of 1.2.
_PEER_VARIABLES = {"MALLOC_MMAP_THRESHOLD_": "131072"}


@dataclass(frozen=True)
class Run:
    """A section of RESULTS.md: its title, the arguments of run.py, and the interpreter that runs it.

    Attributes:
        variables: of the environment, beside those of this process.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    python: str = sys.executable
    variables: Mapping[str, str] = field(default_factory=dict)


def planned(data: Path, *, course: Path, peer_python: str | None, seeds: int = 10) -> list[Run]:
    """Every run of the record, in the order of the file.

    Args:
        data: of the real sets; course: of the course layout.
        peer_python: of an environment with anomalib, which then runs the real sets; None leaves anomalib out.
        seeds: draws of the references of each real set.
    """
    methods = ["--methods", "dense", "rank", "dense+bank"]
    python, variables = sys.executable, {}
    if peer_python is not None:
        methods.append("anomalib-patchcore-imagenet")
        python, variables = peer_python, _PEER_VARIABLES
    runs = []
    real_sets = {category.name: ("--data", str(data / category.name)) for category in read_dataset(data)}
    real_sets |= {name: ("--dataset", name) for name in _PACKAGED}
    for name, source in real_sets.items():
        draws = ("--shots", "0", "1", "4", "16", "--seeds", str(seeds), *_LIMIT, *_UNNAMED)
        runs.append(Run(name, name, (*source, *methods, *draws, *_UNTIMED), python, variables))
    sources = [argument for source in real_sets.values() for argument in source]
    cues = ("--methods", "random-vit", "texture", "imagenet", "bank", "--shots", "4", "--seeds", str(seeds))
    runs.append(Run("cues", "By cue", (*sources, *cues, *_LIMIT, *_UNNAMED, *_UNTIMED)))
    synthetic = ("dense", "rank", "winclip", "bank", "texture", "imagenet", "random-vit", "dense+bank")
    runs.append(Run("synthetic", "The synthetic set", ("--methods", *synthetic, *_UNNAMED, *_UNTIMED)))
    course_arguments = ("--data", str(course), "--seeds", "3", *_UNTIMED)
    runs.append(Run("course", "The course's layout, and its baselines", course_arguments))
    tile = ("--data", str(data / "magnetic_tile"))  # its kinds of defects have names
    few_examples = ("--examples", "1", "3", "5", "10", "--methods", "dense+bank", "--shots", "4", "--seeds", "3")
    runs.append(Run("names", "Names of defects, by text and after examples", (*tile, *few_examples, *_UNTIMED)))
    if peer_python is not None:
        winclip = ("--methods", "dense+bank", "winclip", "anomalib-winclip", "--shots", "4", "--seeds", "1")
        title = "Beside anomalib's WinCLIP, on the same weights"
        runs.append(Run("peers_winclip", title, (*tile, *winclip, *_UNNAMED, *_UNTIMED), peer_python))
    return runs


def make_course(data: Path, folder: Path, *, each: int = 16) -> Path:
    """A course layout out of the data's categories: 5 normal images of each, and a mixed test of `each` + `each`."""
    shutil.rmtree(folder, ignore_errors=True)
    for category in read_dataset(data):
        rng = random.Random(0)
        references = sorted(category.references[None])
        chosen = [(path, folder / "train" / category.name) for path in rng.sample(references, 5)]
        for label, name in ((0, "normal"), (1, "anomaly")):
            members = [sample.path for sample in category.test if sample.label == label]
            chosen += [(path, folder / "test" / name) for path in rng.sample(members, min(each, len(members)))]
        for path, target in chosen:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target / f"{category.name}_{path.parent.name}_{path.name}")
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not done yet, then write RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with magnetic_tile and others, MVTec layout")
    parser.add_argument("--out", type=Path, required=True, help="where the runs go, each with its report.html")
    parser.add_argument(
        "--only",
        nargs="*",
        metavar="RUN",
        help="run these sections alone (elpv, course, ...), and take the finished runs of the others as they "
        "are, even if the code has changed since",
    )
    parser.add_argument("--peer-python", help="of an environment with anomalib; without it anomalib is left out")
    parser.add_argument("--seeds", type=int, default=10, help="draws of each real set (default: %(default)s)")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="the file to write (default: benchmarks/RESULTS.md)"
    )
    options = parser.parse_args(arguments)
    options.data, options.out = options.data.resolve(), options.out.resolve()  # the text has their names replaced
    options.out.mkdir(parents=True, exist_ok=True)
    course = make_course(options.data, options.out / "course_data")
    runs = planned(options.data, course=course, peer_python=options.peer_python, seeds=options.seeds)
    chosen = [run.name for run in runs] if options.only is None else options.only
    if unknown := sorted(set(chosen) - {run.name for run in runs}):
        parser.error(f"--only: {', '.join(unknown)}: choose from {', '.join(run.name for run in runs)}")
    results = {run.name: options.out / run.name / "metrics.json" for run in runs}
    if unfinished := [name for name, file in results.items() if name not in chosen and not file.is_file()]:
        parser.error(f"--only: no finished run of {', '.join(unfinished)} in {options.out}: add it")
    sections = []
    for run in runs:
        if run.name in chosen:
            folder = str(results[run.name].parent)
            command = [run.python, str(BENCHMARKS / "run.py"), *run.arguments, "--out", folder, "--resume"]
            print(f"\n=== {run.title}: {shlex.join(command)}", flush=True)
            subprocess.run(command, check=True, env=os.environ | run.variables)
        sections.append(section(run, json.loads(results[run.name].read_text(encoding="utf-8"))))
    text = "\n\n".join([_INTRO.rstrip(), f"In all tables: {tables.UNTIMED_LEGEND}", *sections]) + "\n"
    for path, shown in ((options.data, "path/to/sets"), (options.out, "runs/record")):
        text = text.replace(str(path), shown)
    options.results.write_text(text, encoding="utf-8")
    print(f"written to {options.results}")


def section(run: Run, content: Mapping[str, Any]) -> str:
    """One run as Markdown: the command, the machine, the tables, the remarks."""
    command = shlex.join(["python", "benchmarks/run.py", *run.arguments])
    blocks = [f"## {run.title}", f"```\n{command}\n```", one_line(content["environment"]) + "."]
    averaged = {row["dataset"] for row in content["summary"] if row["category"] == "mean"}
    folded = [row for row in content["summary"] if row["dataset"] in averaged and row["category"] != "mean"]
    shown = [row for row in content["summary"] if row not in folded]
    summary_table = partial(tables.summary_table, timed=False)
    blocks.append(summary_table(shown))
    if folded:
        blocks.append(_folded("By category", summary_table(folded)))
    if content["data"] and content["data"][0]["layout"] == "course":
        blocks.append(against_baselines(content["summary"]))
    if names := tables.names_table(content["rows"]):
        blocks.append(names)
    blocks.append("\n".join(f"- {problem}" for problem in content["problems"]))
    return "\n\n".join(block for block in blocks if block)


def _folded(title: str, content: str) -> str:
    """What opens at a click."""
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"


def against_baselines(summary: Sequence[Mapping[str, Any]]) -> str:
    """How far the detector's accuracy at its own threshold is from the better baseline of the course."""
    accuracy = {row["method"]: row["accuracy"] for row in summary if row["accuracy"]}
    baselines = [name for name in accuracy if name.startswith("course-")]
    if "dense+bank" not in accuracy or not baselines:
        return ""
    best = max(baselines, key=lambda name: accuracy[name]["mean"])
    ours, theirs = accuracy["dense+bank"]["mean"], accuracy[best]["mean"]
    return (
        f"`dense+bank` has {100 * ours:.1f} % accuracy at its own threshold, {100 * (ours - theirs):+.1f} points "
        f"against the better baseline ({best}, {100 * theirs:.1f} %)."
    )


if __name__ == "__main__":
    main()
