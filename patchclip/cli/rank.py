"""`patchclip rank`: unlabelled images in the order of how unlike the others each is."""

from __future__ import annotations

import os
import shlex
import sys
import time
from argparse import Namespace
from typing import TYPE_CHECKING

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
from .rows import SCHEMA, Row, to_json
from .run_folder import CONTACT_SHEET, FINISHED, NORMALS_FILE, RANK, RunFolder, write_csv
from .summary import quoted_inputs

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..ranked import RankedImage, Ranking

_SHEET_COUNT = 12

_SIDES = ("left", "top", "right", "bottom")
_COLUMNS = ("image", "rank", "score", "share_below", *_SIDES, "overlay", "error")


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
        folder = RunFolder(args.out, RANK, {"inputs": list(args.inputs)}, resume=False, overwrite=args.overwrite)
        if folder.has_replaced:
            console.note(f"the results of an earlier run in {args.out} are replaced")
    detector = load_detector(console, args, args.detector) if args.detector else new_detector(console, args)
    begun = time.perf_counter()
    ranking = detector.rank(inputs.images, progress=console.shows_progress)
    images_per_s = len(ranking) / (time.perf_counter() - begun)
    rows = _rows(ranking)
    if folder is not None:
        _write(folder, args, ranking, rows, [source.relative for source in inputs.sources])
    _print_top(console, args, ranking, rows)
    _sum_up(console, args, ranking, images_per_s)
    return SOME_FAILED if ranking.errors else DONE


def _rows(ranking: Ranking) -> list[Row]:
    """The most anomalous first, unreadable ones last."""
    rows = []
    for entry in ranking.table():
        box = [entry[side] for side in _SIDES]
        row: Row = {"schema": SCHEMA, "image": printable(entry["path"])}
        row |= {name: entry[name] for name in ("rank", "score", "share_below")}
        row["box_xyxy"] = None if box[0] is None else box
        row["error"] = None if entry["error"] is None else printable(entry["error"])
        row["overlay"] = None
        rows.append(row)
    return rows


def _write(folder: RunFolder, args: Namespace, ranking: Ranking, rows: list[Row], relative: list[str]) -> None:
    """Pictures first, which the rows name."""
    from .pictures import save_picture, write_sheet

    sheet: list[Image] = []
    titles = []
    for row, item in zip(rows, ranking.most_anomalous(max(args.top, _SHEET_COUNT)), strict=False):
        if item.rank is not None and item.rank <= args.top:
            row["overlay"] = printable(f"overlays/{relative[item.index]}.png")
            save_picture(item.overlay(), folder.path / "overlays" / f"{relative[item.index]}.png")
        if len(sheet) < _SHEET_COUNT:
            sheet.append(item.overlay(max_side=256))
            titles.append(f"{item.rank}  {item.score:.3f}  {os.path.basename(item.path)[-18:]}")
    write_sheet(sheet, titles, folder.path / CONTACT_SHEET)
    with atomic_write(folder.jsonl) as temporary:
        temporary.write_text("".join(f"{to_json(row)}\n" for row in rows), encoding="utf-8", newline="\n")
    with atomic_write(folder.csv) as temporary:
        write_csv(temporary, _COLUMNS, map(_cells, rows))
    if args.normals:
        normals = "".join(f"{path!s}\n" for path in ranking.most_normal(args.normals))
        (folder.path / NORMALS_FILE).write_text(normals, encoding="utf-8", errors="surrogateescape")
    folder.end(FINISHED, {"command": shlex.join(["patchclip", *sys.argv[1:]]), "versions": versions()})


def _cells(row: Row) -> list[str]:
    sides = dict(zip(_SIDES, row["box_xyxy"] or [None] * 4, strict=True))
    values = row | sides
    for name in ("score", "share_below"):
        if values[name] is not None:
            values[name] = f"{values[name]:.4f}"
    return [csv_cell(values[name]) for name in _COLUMNS]


def _print_top(console: Console, args: Namespace, ranking: Ranking, rows: list[Row]) -> None:
    if args.json:
        for row in rows:
            console.data(to_json(row, only_ascii=True))
        return
    for item in ranking.most_anomalous(args.top):
        console.data(_line(item))


def _line(item: RankedImage) -> str:
    where = "" if item.box_xyxy is None else f"  at {item.box_xyxy}"
    return f"{item.rank:5d}  {item.score:.3f}  {printable(item.path)}{where}"


def _sum_up(console: Console, args: Namespace, ranking: Ranking, images_per_s: float) -> None:
    failed = f", {len(ranking.errors)} unreadable" if ranking.errors else ""
    console.say(
        f"{len(ranking)} images ranked{failed}, {images_per_s:.1f} images/s: an order, not a verdict", bold=True
    )
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
    inputs = quoted_inputs(args.inputs)
    console.say(f"next: patchclip fit {inputs} --unlabelled 0.2 -o detector.safetensors   (or fit on images you know)")


COMMAND = Command(
    "rank",
    run,
    purpose="Order unlabelled images of one product by how unlike the others each is, the most unusual first. No "
    "normal image is needed; the result is an order, not a verdict (docs/ranking.md).",
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
