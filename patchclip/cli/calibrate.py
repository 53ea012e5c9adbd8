"""`patchclip calibrate`: further normal images -> another threshold in a detector file."""

from __future__ import annotations

from argparse import Namespace

import click

from . import detectors
from .command import Command
from .console import Console
from .detectors import check_output, load_detector, normal_images
from .summary import calibrate_command, describe_threshold, export_command


def run(console: Console, args: Namespace) -> int:
    """Load, calibrate and save."""
    target = check_output(args.output or args.detector, ".safetensors")
    rate = args.rate
    del args.rate  # of the calibration, not of a new detector
    images = normal_images(console, args.inputs, "INPUTS")
    detector = load_detector(console, args, args.detector)
    before = detector.threshold
    detector.calibrate(images, max_false_positive_rate=rate, progress=console.shows_progress)
    detector.save(target)
    console.say(f"threshold {describe_threshold(detector)}, before {before:.4f}", bold=True)
    console.say(f"wrote {target}")
    if not detector.threshold_guaranteed:
        from ..threshold import images_needed

        needed = images_needed(rate or detector.options["max_false_positive_rate"])
        console.say(f"next: {calibrate_command(str(target))}   (with {needed} images the rate is guaranteed)")
    else:
        console.say(f"next: {export_command(str(target))}")
    return 0


COMMAND = Command(
    "calibrate",
    run,
    purpose="Set the threshold of a detector so that new normal images exceed it at most at a given rate. INPUTS are "
    "normal images that fit has not seen: 19 guarantee a rate of 0.05, 99 one of 0.01. Heatmaps stay as they are.",
    arguments=[click.Argument(["inputs"], nargs=-1, required=True, metavar="INPUTS...")],
    options={
        "Options": [
            click.Option(["--detector"], required=True, metavar="FILE", help="Detector file to calibrate."),
            click.Option(
                ["--rate"],
                type=float,
                metavar="SHARE",
                help="May exceed it.  [default: the detector's]",
            ),
            click.Option(["-o", "--output"], metavar="FILE", help="File to write.  [default: the detector file]"),
            detectors.PRETRAINED,
            detectors.DOWNLOAD,
            detectors.DEVICE,
        ],
    },
    examples=[
        "patchclip calibrate more_good/ --detector bottle.safetensors",
        "patchclip calibrate more_good/ --detector bottle.safetensors --rate 0.1",
        "patchclip calibrate more_good/ --detector bottle.safetensors -o b.safetensors",
    ],
)
