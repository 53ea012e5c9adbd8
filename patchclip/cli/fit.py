"""`patchclip fit`: normal images -> a detector file."""

from __future__ import annotations

from argparse import Namespace
from itertools import chain
from pathlib import Path

import click

from ..printable import printable
from . import detectors
from .command import Command
from .console import Console
from .defect_examples import images_of, list_examples, refuse_examples_among
from .detectors import check_output, new_detector, normal_images, set_threshold
from .summary import calibrate_command, describe_threshold, export_command, needs_calibration


def run(console: Console, args: Namespace) -> int:
    """Fit and save."""
    target = check_output(args.output, ".safetensors")
    _check(args)
    classes = _classes(console, args)
    images = None if classes else normal_images(console, args.inputs, "INPUTS")
    examples = list_examples(console, args.defect_examples) if args.defect_examples is not None else {}
    if args.unlabelled is None:
        refuse_examples_among(chain(images or [], *classes.values()), examples)
    detector = new_detector(console, args)
    for image in images_of(examples):
        detector.prepare(image)  # one that is damaged ends no long fit
    if args.unlabelled is not None:
        detector.fit_unlabelled(images or [], at_most_anomalous=args.unlabelled, progress=console.shows_progress)
    else:
        detector.fit(classes or images or [], progress=console.shows_progress)
    set_threshold(detector, args.threshold)
    if examples:
        detector.teach(examples, progress=console.shows_progress)
    detector.save(target)
    count = sum(map(len, classes.values())) if classes else len(images or [])
    of_classes = f" of {len(classes)} classes ({', '.join(classes)})" if classes else ""
    console.say(f"fitted on {count} image{'s' * (count != 1)}{of_classes}", bold=True)
    console.say(f"threshold {describe_threshold(detector)}")
    if detector.kinds_:
        console.say("kinds of defects: " + ", ".join(f"{kind} ({count})" for kind, count in detector.kinds_.items()))
    console.say(f"wrote {target}")
    next_command = calibrate_command if needs_calibration(detector) else export_command
    console.say(f"next: patchclip predict photos/ --detector {target} --out run")
    console.say(f"then: {next_command(str(target))}")
    return 0


def _check(args: Namespace) -> None:
    given = [args.inputs and "INPUTS", args.classes and "--class", args.by_folder and "--by-folder"]
    used = [name for name in given if name]
    if not used:
        raise click.UsageError("no normal images: name files or folders, --class NAME=PATH, or --by-folder DIR")
    if len(used) > 1:
        raise click.UsageError(f"{used[0]} and {used[1]}: one product, or classes of several: choose one")
    if args.unlabelled is not None and not args.inputs:
        raise click.UsageError("--unlabelled: takes images of one product, without classes")


def _classes(console: Console, args: Namespace) -> dict[str, list[str]]:
    """Class -> its images; empty for one product."""
    folders: dict[str, list[str]] = {}
    for entry in args.classes:
        name, separator, path = entry.partition("=")
        if not separator or not name or not path:
            raise click.UsageError(f"--class: {entry} is not NAME=PATH, such as bottle=good/bottles")
        folders.setdefault(name, []).append(path)
    if args.by_folder:
        from ..datasets.listing import subfolders

        for folder in subfolders(Path(args.by_folder)):
            folders[printable(folder.name)] = [str(folder)]
        if not folders:
            raise click.UsageError(f"--by-folder: {args.by_folder} has no folders in it, one for each class")
    option = "--class" if args.classes else "--by-folder"
    return {name: normal_images(console, paths, option) for name, paths in folders.items()}


COMMAND = Command(
    "fit",
    run,
    purpose="Learn what is normal from images (files, folders, globs): 4 work, 19 are better.",
    arguments=[click.Argument(["inputs"], nargs=-1, metavar="[INPUTS...]")],
    options={
        "Images and output": [
            click.Option(
                ["-o", "--output"],
                default="detector.safetensors",
                metavar="FILE",
                help="File to write.  [default: detector.safetensors]",
            ),
            click.Option(["--class", "classes"], multiple=True, metavar="NAME=PATH", help="Images of a class; repeat."),
            click.Option(["--by-folder"], metavar="DIR", help="Folder in which each folder is a class."),
            click.Option(["--defect-examples"], metavar="DIR", help="Folder in which each folder is a kind of defect."),
            click.Option(
                ["--unlabelled"], type=float, metavar="SHARE", help="At most this share has defects, such as 0.2."
            ),
        ],
        "Product": [detectors.OBJECT, detectors.DEFECTS, detectors.RATE, detectors.THRESHOLD],
        "Model": [
            detectors.MODEL,
            detectors.PRETRAINED,
            click.Option(
                ["--recipe"],
                type=click.Choice(["dense", "winclip"]),
                metavar="NAME",
                help="dense or winclip.  [default: dense]",
            ),
            click.Option(["--cues"], metavar="A,B,...", help="Of text, tokens, texture, imagenet, imagenet_fine."),
            detectors.IMAGE_SIZE,
            click.Option(["--tile"], type=int, metavar="PX", help="Cut larger images into tiles of that side."),
            click.Option(["--coreset"], type=float, metavar="SHARE", help="Share of the bank to keep.  [default: 1]"),
            click.Option(["--rotations"], type=int, metavar="N", help="Rotated copies: 1, 2, 4, 8.  [default: 1]"),
            click.Option(["--flips"], is_flag=True, help="Mirrored copies too."),
            click.Option(
                ["--precision"],
                type=click.Choice(["auto", "fp32", "bf16"]),
                metavar="NAME",
                help="auto, fp32 or bf16.  [default: auto]",
            ),
            click.Option(["--max-pixels"], type=int, metavar="N", help="Most pixels of a file.  [default: 89000000]"),
            detectors.DEVICE,
        ],
    },
    examples=[
        "patchclip fit good/ -o bottle.safetensors --defect-examples defects/",
        "patchclip fit --class cap=good/caps --class bottle=good/bottles",
        "patchclip fit photos/ --unlabelled 0.2 -o odd.safetensors",
    ],
)
