"""`patchclip rank`: unlabelled images in the order of how odd each is among the others."""

from __future__ import annotations

import csv
import os
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..files import atomic_write
from ..printable import csv_cell, printable
from . import detectors
from .command import Command
from .console import Console
from .detectors import load_detector, new_detector, tell_skipped
from .facts import versions
from .inputs import find_inputs
from .reporting import DONE, SOME_FAILED
from .rows import SCHEMA, to_json
from .run_folder import CONTACT_SHEET, FINISHED, RunFolder

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..ranked import RankedImage, Ranking

_SHEET_COUNT = 12


def run(console: Console, args: Namespace) -> int:
    """Rank, write what was asked for, and sum up."""
    if args.normals and args.out is None:
        raise click.UsageError("--normals: needs --out DIR to write to")
    inputs = find_inputs(args.inputs, images_only=True)
    tell_skipped(console, inputs.skipped, inputs.problems)
    if len(inputs.sources) < 2:
        raise click.UsageError("INPUTS: one image: images are ranked among each other, name several")
    folder = None
    if args.out is not None:
        folder = RunFolder(args.out, {"inputs": list(args.inputs)}, resume=False, overwrite=args.overwrite)
    detector = load_detector(console, args, args.detector) if args.detector else new_detector(console, args)
    begun = time.perf_counter()
    ranking = detector.rank(inputs.images, progress=console.shows_progress)
    images_per_s = len(ranking) / (time.perf_counter() - begun)
    relative = [source.relative for source in inputs.sources]
    if folder is not None:
        _write(folder, args, ranking, relative)
    _print_top(console, args, ranking)
    _sum_up(console, args, ranking, images_per_s)
    return SOME_FAILED if ranking.errors else DONE


def _rows(ranking: Ranking) -> list[dict[str, Any]]:
    rows = []
    for row in ranking.table():
        box = [row[side] for side in ("left", "top", "right", "bottom")]
        error = None if row["error"] is None else printable(row["error"])
        rows.append(
            {
                "schema": SCHEMA,
                "image": printable(row["path"]),
                "rank": row["rank"],
                "score": row["score"],
                "share_below": row["share_below"],
                "box_xyxy": None if box[0] is None else box,
                "error": error,
            }
        )
    return rows


def _write(folder: RunFolder, args: Namespace, ranking: Ranking, relative: list[str]) -> None:
    from .pictures import save_picture, write_sheet

    rows = _rows(ranking)
    with atomic_write(folder.path / "ranking.jsonl") as temporary:
        temporary.write_text("".join(f"{to_json(row)}\n" for row in rows), encoding="utf-8", newline="\n")
    with atomic_write(folder.path / "ranking.csv") as temporary:
        _write_table(temporary, ranking)
    pictures: list[Image] = []
    titles: list[str] = []
    for item in ranking.most_anomalous(max(args.top, _SHEET_COUNT)):
        if len(pictures) < args.top:
            save_picture(item.overlay(), folder.path / "overlays" / f"{relative[item.index]}.png")
        if len(pictures) < _SHEET_COUNT:
            titles.append(f"{item.rank}  {item.score:.3f}  {os.path.basename(item.path)[-20:]}")
        pictures.append(item.overlay(max_side=256))
    write_sheet(pictures[:_SHEET_COUNT], titles, folder.path / CONTACT_SHEET)
    if args.normals:
        normals = "".join(f"{path!s}\n" for path in ranking.most_normal(args.normals))
        (folder.path / "normals.txt").write_text(normals, encoding="utf-8", errors="surrogateescape")
    folder.end(FINISHED, {"command": sys.argv, "versions": versions()})


def _write_table(path: Path, ranking: Ranking) -> None:
    rows = ranking.table()
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file)
        table.writerow(rows[0])
        table.writerows([csv_cell(value) for value in row.values()] for row in rows)


def _print_top(console: Console, args: Namespace, ranking: Ranking) -> None:
    if args.json:
        for row in _rows(ranking):
            console.data(to_json(row, only_ascii=True))
        return
    for item in ranking.most_anomalous(args.top):
        console.data(_line(item))


def _line(item: RankedImage) -> str:
    where = "" if item.box_xyxy is None else f"  at {item.box_xyxy}"
    return f"{item.rank:5d}  {item.score:.3f}  {printable(item.path)}{where}"


def _sum_up(console: Console, args: Namespace, ranking: Ranking, images_per_s: float) -> None:
    failed = f", {len(ranking.errors)} unreadable" if ranking.errors else ""
    console.say(f"{len(ranking)} images ranked{failed}, {images_per_s:.1f} images/s: an order, no verdict", bold=True)
    for error in list(ranking.errors.values())[: None if console.verbose else 3]:
        console.note(str(error))
    cut = ranking.suggested_cut
    if cut is None:
        console.say("no cut is suggested: the scores have no gap")
    else:
        found = f"{cut.anomalous_count} images above {cut.score:.3f}"
        console.say(f"suggested cut: {found} (confidence {cut.confidence:.0%}); look at the images around it")
    if args.out is not None:
        console.say(f"results in {args.out}: ranking.csv, ranking.jsonl, overlays/, contact_sheet.png")
    inputs = " ".join(args.inputs)
    console.say(f"next: patchclip fit {inputs} --unlabelled 0.2 -o detector.safetensors   (or fit on images you know)")


COMMAND = Command(
    "rank",
    run,
    purpose="Order unlabelled images of one product by how unlike the others each is, the oddest first. No normal "
    "images are needed; it is an order and no verdict (docs/ranking.md).",
    arguments=[click.Argument(["inputs"], nargs=-1, required=True, metavar="INPUTS...")],
    options={
        "Output": [
            click.Option(
                ["--top"],
                type=click.IntRange(1),
                default=10,
                metavar="N",
                help="Images to list and draw.  [default: 10]",
            ),
            click.Option(["--json"], is_flag=True, help="JSON Lines of all images on standard output."),
            click.Option(["--out"], metavar="DIR", help="Folder for tables, overlays and a contact sheet."),
            click.Option(
                ["--normals"], type=click.IntRange(1), metavar="N", help="List the N most normal in normals.txt."
            ),
            click.Option(["--overwrite"], is_flag=True, help="Write to --out whatever is in it."),
        ],
        "Model": [
            detectors.DETECTOR,
            detectors.MODEL,
            detectors.PRETRAINED,
            detectors.IMAGE_SIZE,
            detectors.DEVICE,
            detectors.DOWNLOAD,
        ],
    },
    examples=[
        "patchclip rank photos/",
        "patchclip rank photos/ --top 20 --out odd",
        "patchclip rank photos/ --json",
    ],
    exit_codes="0 done, 2 wrong usage or nothing usable, 3 some images unreadable, 130 interrupted",
)
