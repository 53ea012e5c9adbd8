"""The options that make a detector, and the detector that they make."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..files import is_exported
from .console import Console
from .inputs import find_inputs
from .sizes import DEFAULT_MODEL, describe_download

if TYPE_CHECKING:
    from ..detector import Detector
    from ..runtime import OnnxDetector

MODEL = click.Option(["--model"], metavar="NAME", help=f"Model, see `patchclip models`.  [default: {DEFAULT_MODEL}]")
OBJECT = click.Option(["--object"], metavar="WORDS", help="What the images show.  [default: surface]")
DEFECTS = click.Option(["--defects"], metavar="A,B,...", help="Names of defects to choose from.")
RATE = click.Option(["--rate"], type=float, metavar="SHARE", help="Normal images that may be flagged.  [default: 0.05]")
DEVICE = click.Option(["--device"], default="auto", metavar="NAME", help="cpu, cuda, cuda:1, mps.  [default: auto]")
THRESHOLD = click.Option(["--threshold"], type=float, metavar="SCORE", help="Scores above it are anomalous, 0 to 1.")
DETECTOR = click.Option(["--detector"], metavar="FILE", help="Detector file, from `patchclip fit`.")
DETECTOR_OR_EXPORTED = click.Option(
    ["--detector"], metavar="FILE", help="By `patchclip fit`, or .onnx by `patchclip export`."
)
PRETRAINED = click.Option(["--pretrained"], metavar="TAG|FILE", help="Weights: an open_clip tag or a file.")
DOWNLOAD = click.Option(["--allow-download"], is_flag=True, help="Let a detector file download its model.")
IMAGE_SIZE = click.Option(["--image-size"], type=int, metavar="PX", help="Side that images are resized to.")

#: Of a new detector, and not of one that is loaded: parameter -> keyword of `Detector`.
_KEYWORDS = {
    "model": "model",
    "pretrained": "pretrained",
    "object": "object_name",
    "defects": "defects",
    "rate": "max_false_positive_rate",
    "image_size": "image_size",
    "tile": "tile",
    "recipe": "recipe",
    "cues": "cues",
    "coreset": "coreset",
    "rotations": "rotations",
    "flips": "flips",
    "precision": "precision",
    "max_pixels": "max_pixels",
}
_LISTS = ("defects", "cues")

#: Which a loaded detector takes too.
_FOR_LOADED = ("pretrained",)

#: Where an exported file runs: device -> providers.
_EXPORTED_DEVICES: dict[str, list[str] | None] = {"auto": None, "cpu": None, "cuda": ["cuda"], "openvino": ["openvino"]}


def new_detector(console: Console, args: Namespace) -> Detector:
    """With the options that were given."""
    options: dict[str, Any] = {}
    for parameter, keyword in _KEYWORDS.items():
        value = getattr(args, parameter, None)
        if value is None or value is False:
            continue
        options[keyword] = split_names(value, f"--{parameter}") if parameter in _LISTS else value
    download = describe_download(options.get("model", DEFAULT_MODEL), options.get("pretrained"))
    if download:
        console.note(download)
    from ..detector import Detector

    return Detector(**options, device=args.device)


def load_detector(console: Console, args: Namespace, path: str) -> Detector:
    """From a file, with another threshold where one is given."""
    _refuse_options(args, path)
    check_exists(path, "--detector")
    from ..detector import Detector

    allow_download = getattr(args, "allow_download", False)
    pretrained = getattr(args, "pretrained", None)
    device = getattr(args, "device", "auto")
    return Detector.load(path, device=device, pretrained=pretrained, allow_download=allow_download)


def load_exported(args: Namespace, path: str) -> OnnxDetector:
    """From an exported file, without torch."""
    _refuse_options(args, path)
    if args.device not in _EXPORTED_DEVICES:
        known = ", ".join(_EXPORTED_DEVICES)
        raise click.UsageError(f"--device: an exported file runs on {known}, not on {args.device}")
    check_exists(path, "--detector")
    from ..runtime import load

    return load(path, providers=_EXPORTED_DEVICES[args.device])


def _refuse_options(args: Namespace, path: str) -> None:
    """Raise click.UsageError for an option that a detector in a file has already."""
    for parameter in _KEYWORDS:
        value = getattr(args, parameter, None)
        if value not in (None, False) and parameter not in _FOR_LOADED:
            option = f"--{parameter.replace('_', '-')}"
            raise click.UsageError(f"{option}: the detector of {path} has this fixed: fit another to change it")


def set_threshold(detector: Detector | OnnxDetector, threshold: float | None) -> None:
    """To a value that the user gives, or not at all."""
    if threshold is not None:
        detector.threshold = threshold


def check_exists(path: str, option: str) -> None:
    """Raise click.UsageError where there is no such file, before anything slow is done."""
    if not os.path.exists(path):
        command = "export" if is_exported(path) else "fit"
        raise click.UsageError(f"{option}: {path} does not exist: make it by `patchclip {command}`")


def check_output(path: str, suffix: str, option: str = "-o") -> Path:
    """The path of a file to write. Raise click.UsageError where its name or its folder is wrong."""
    target = Path(path)
    if target.suffix.lower() != suffix:
        raise click.UsageError(f"{option}: {path} must end in {suffix}")
    if not target.parent.is_dir():
        raise click.UsageError(f"{option}: the folder {target.parent} does not exist, make it first")
    return target


def normal_images(console: Console, given: list[str], option: str) -> list[str]:
    """Paths of normal images in files and folders."""
    inputs = find_inputs(given, images_only=True, option=option)
    tell_skipped(console, inputs.skipped, inputs.problems)
    return inputs.images


def tell_skipped(console: Console, skipped: list[str], problems: list[str]) -> None:
    """How much was left out, and with --verbose what."""
    if not console.verbose:
        if skipped:
            what = "entry was" if len(skipped) == 1 else "entries were"
            console.note(f"{len(skipped)} {what} skipped, such as {skipped[0]} (--verbose names all)")
        return
    for entry in skipped:
        console.note(f"skipped {entry}")
    for problem in problems:
        console.note(problem)


def split_names(text: str, option: str) -> tuple[str, ...]:
    """ "crack, hole" -> ("crack", "hole")."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise click.UsageError(f"{option}: expected names separated by commas, such as crack,hole")
    return names
