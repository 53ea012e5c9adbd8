"""`patchclip export`: a detector file -> an ONNX file, compared with the detector on images."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import click

from . import detectors
from .command import Command
from .console import Console
from .detectors import check_output, load_detector, normal_images
from .reporting import DONE, SOME_FAILED


def run(console: Console, args: Namespace) -> int:
    """Load, export, and verify where images are given."""
    target = check_output(args.output or f"{Path(args.detector).stem}.onnx", ".onnx")
    int8_images = normal_images(console, args.int8, "--int8") if args.int8 else None
    verify_images = normal_images(console, args.verify, "--verify") if args.verify else []
    if verify_images:
        _require_onnxruntime()
    detector = load_detector(console, args, args.detector)
    verification = detector.export(
        target, image_hw=_size(args.size), int8_images=int8_images, verify=verify_images or None
    )
    console.say(f"wrote {target}, {target.stat().st_size / 1e6:.1f} MB", bold=True)
    if verification is None:
        console.say(f"next: patchclip export {args.detector} -o {target} --verify photos/   (compares the two)")
        return DONE
    from .verify import describe

    for line in describe(verification):
        console.data(line)
    return SOME_FAILED if verification.flipped or verification.unreadable else DONE


def _size(text: str | None) -> tuple[int, int] | None:
    """ "480x640" -> (480, 640)."""
    if text is None:
        return None
    height, separator, width = text.lower().partition("x")
    if not separator or not height.isdecimal() or not width.isdecimal():
        raise click.UsageError(f"--size: {text} is not HxW in pixels, such as 480x640")
    return int(height), int(width)


def _require_onnxruntime() -> None:
    from ..errors import MissingDependencyError

    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(f'--verify needs onnxruntime: pip install "patchclip[onnx]" ({error})') from error


COMMAND = Command(
    "export",
    run,
    purpose="Write a detector as one ONNX file, which runs without torch. DETECTOR is a file from `patchclip fit`. "
    "With --verify the file and the detector are compared on images.",
    arguments=[click.Argument(["detector"], metavar="DETECTOR")],
    options={
        "Options": [
            click.Option(["-o", "--output"], metavar="FILE", help="File to write.  [default: DETECTOR, .onnx]"),
            click.Option(["--size"], metavar="HxW", help="Size of the images in pixels.  [default: as in fit]"),
            click.Option(["--int8"], multiple=True, metavar="PATH", help="Normal images, about 20, for int8 ranges."),
            click.Option(["--verify"], multiple=True, metavar="PATH", help="Images to compare the two on."),
            detectors.PRETRAINED,
            detectors.DOWNLOAD,
        ],
    },
    examples=[
        "patchclip export bottle.safetensors",
        "patchclip export bottle.safetensors -o bottle.onnx --verify photos/",
        "patchclip export bottle.safetensors --size 480x640 --int8 good/ -o small.onnx",
    ],
    exit_codes="0 done, 2 wrong usage or nothing usable, 3 verdicts differ or images are unreadable, 130 interrupted",
)
