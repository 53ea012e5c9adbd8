"""`patchclip benchmark`: the benchmark's program, on data of one's own."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import click

from .command import Command
from .console import Console

#: The folder and file of the program, in an installation and in a checkout.
_FOLDER, _FILE = "benchmarks", "run.py"

#: Options of the program that take one value, and those that take several.
_SINGLE = ("seeds", "limit", "model", "object_name", "device", "latency", "out")
_SEVERAL = ("shots", "methods")


def run(console: Console, args: Namespace) -> int:
    """The exit code of the program, which prints and writes by itself."""
    for path in args.data:
        if not Path(path).exists():
            raise click.UsageError(f"DATA: {path} does not exist: name a folder, or a csv file of paths and labels")
    options = ["--data", *args.data] if args.data else []
    for name in _SEVERAL:
        values = getattr(args, name)
        if values:
            options += [f"--{name}", *(part for value in values for part in value.split(","))]
    for name in _SINGLE:
        value = getattr(args, name)
        if value is not None:
            options += [f"--{name.replace('_', '-')}", str(value)]
    if args.resume:
        options.append("--resume")
    return subprocess.run([sys.executable, str(find_program()), *options]).returncode


def find_program() -> Path:
    """The program as it was installed with the package, or in the checkout that the package runs from.

    Raises:
        click.UsageError: it is in neither.
    """
    try:
        installed = importlib.metadata.files("patchclip") or []
    except importlib.metadata.PackageNotFoundError:
        installed = []
    for file in installed:
        if file.parts[-2:] == (_FOLDER, _FILE):
            return Path(str(file.locate())).resolve()
    root = Path(__file__).parents[2]
    if (root / "pyproject.toml").is_file() and (root / _FOLDER / _FILE).is_file():
        return root / _FOLDER / _FILE
    raise click.UsageError("the benchmark's program is not in this installation: install patchclip again")


COMMAND = Command(
    "benchmark",
    run,
    purpose="Measure accuracy and speed on data with labels: MVTec's layout, VisA's and others, or good/ and bad/ "
    "folders. DATA are their folders; without any, images that are drawn on the spot.",
    arguments=[click.Argument(["data"], nargs=-1, metavar="[DATA]...")],
    options={
        "What is measured": [
            click.Option(["--methods"], multiple=True, metavar="A,B,...", help="Such as dense, dense+bank, rank."),
            click.Option(["--shots"], multiple=True, metavar="N,N,...", help="Normal images to fit with."),
            click.Option(["--seeds"], type=click.IntRange(1), metavar="N", help="Draws of them."),
            click.Option(
                ["--limit"], type=click.IntRange(1), metavar="N", help="Test images of either label, at most."
            ),
            click.Option(["--latency"], type=float, metavar="SECONDS", help="Time speed for so long, 0 for not."),
        ],
        "Detector": [
            click.Option(["--model"], metavar="NAME", help="Model, see `patchclip models`."),
            click.Option(["--object", "object_name"], metavar="WORDS", help="What the images show."),
            click.Option(["--device"], metavar="NAME", help="cpu, cuda, cuda:1, mps."),
        ],
        "Output": [
            click.Option(["--out"], metavar="DIR", help="Folder for tables, scores and report.html."),
            click.Option(["--resume"], is_flag=True, help="Go on with the run in --out."),
        ],
    },
    examples=[
        "patchclip benchmark",
        "patchclip benchmark path/to/mvtec --shots 0,1,4 --out report",
        "patchclip benchmark parts/ --methods dense+bank,rank --seeds 10",
    ],
)
