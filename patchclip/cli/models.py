"""`patchclip models`: names, sizes and what they are good for."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict

import click

from .command import Command
from .console import Console
from .rows import to_json
from .sizes import KNOWN_MODELS


def run(console: Console, args: Namespace) -> int:
    """Print the table, or all names that open_clip knows."""
    if args.all:
        import open_clip

        for name in open_clip.list_models():
            console.data(name)
        return 0
    if args.json:
        for model in KNOWN_MODELS:
            console.data(to_json({"schema": 1, **asdict(model)}, only_ascii=True))
        return 0
    rows = []
    for model in KNOWN_MODELS:
        size = "in the package" if model.download_mb is None else f"about {model.download_mb} MB"
        rows.append([model.name, size, model.good_for])
    console.table(rows, header=["--model", "download", "good for"])
    console.say("Any open_clip model with open_clip's own ViT tower works by its name (--all")
    console.say("lists what open_clip knows), and so do hf-hub:org/name and local-dir:folder.")
    console.say("The first use downloads the weights, once.")
    return 0


COMMAND = Command(
    "models",
    run,
    purpose="List the models that --model takes, what they weigh, and what they are good for.",
    options={
        "Output": [
            click.Option(["--all"], is_flag=True, help="All names that open_clip knows, some of them unsupported."),
            click.Option(["--json"], is_flag=True, help="JSON Lines."),
        ]
    },
    examples=["patchclip models", "patchclip models --json", "patchclip models --all"],
)
