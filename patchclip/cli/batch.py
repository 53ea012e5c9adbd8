"""`patchclip batch`: the verdicts on very many images, by Ray on one machine or on many, as parquet files."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ..outcomes import ANOMALOUS, UNREADABLE, VERDICTS
from ..printable import printable
from . import detectors
from .command import Command
from .console import Console
from .detectors import check_exists, tell_skipped
from .inputs import find_inputs
from .reporting import DONE, SOME_FAILED, UNUSABLE
from .rows import to_line
from .summary import describe_threshold

if TYPE_CHECKING:
    from ..batch.output import Counts, RowFolder
    from ..batch.pool import DetectorFile
    from ..detector import Detector
    from ..runtime import OnnxDetector

_LIST_SUFFIXES = (".txt", ".parquet")

_SHOWN_ERRORS = 5

#: A run has so many blocks at least, where there are images enough for batches, so that all actors end together.
_LEAST_BLOCKS = 32


def run(console: Console, args: Namespace) -> int:
    """Find the images that have no row yet, predict them, and sum up."""
    check_exists(args.detector, "--detector")
    from ..batch.output import RowFolder, settings_of
    from ..batch.pool import import_ray, read_detector_file

    import_ray()
    detector, file = read_detector_file(args.detector, allow_download=args.allow_download)
    paths = _list_inputs(console, args.input)
    folder = RowFolder(args.out, settings_of(file, heatmaps=args.heatmaps))
    for torn in folder.removed:
        console.note(f"{torn} was cut off by an earlier run and is removed: its rows are computed again")
    waiting = _without_done(paths, folder)
    if len(waiting) < len(paths):
        console.say(f"{len(paths) - len(waiting)} of {len(paths)} images have their rows already")
    elapsed_s = 0.0
    if waiting:
        with _ray(console, args.address):
            begun = time.perf_counter()
            _predict(args, detector, file, waiting, folder)
            elapsed_s = time.perf_counter() - begun
    counts = folder.count()
    images_per_s = len(waiting) / elapsed_s if waiting else None
    _sum_up(console, args, detector, counts, images_per_s)
    unreadable = counts.verdicts[UNREADABLE]
    if unreadable == counts.verdicts.total():
        return UNUSABLE
    return SOME_FAILED if unreadable else DONE


# --- inputs -----------------------------------------------------------------------------------------------------------


def _list_inputs(console: Console, given: str) -> list[str]:
    """Absolute paths, or addresses, without repetition.

    Raises:
        click.UsageError: there is no image.
    """
    from ..batch.sources import is_address, list_addresses, read_list
    from ..datasets.types import IMAGE_SUFFIXES

    if given.lower().endswith(_LIST_SUFFIXES):
        found = read_list(given)
    elif is_address(given):
        found, others = list_addresses(given, IMAGE_SUFFIXES)
        if others:
            console.note(f"{others} files at {given} are no images, by their names")
    else:
        inputs = find_inputs([given], images_only=True, option="INPUT")
        tell_skipped(console, inputs.skipped, inputs.problems)
        found = inputs.images
    absolute = [path if is_address(path) else os.path.abspath(path) for path in found]
    if not absolute:
        raise click.UsageError(f"INPUT: no image in {printable(given)}")
    return list(dict.fromkeys(absolute))


def _without_done(paths: Sequence[str], folder: RowFolder) -> list[str]:
    """The paths that have no row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = pa.array([printable(path) for path in paths], pa.string())
    is_done = pc.is_in(names, value_set=folder.done())
    return [path for path, done in zip(paths, is_done.to_pylist(), strict=True) if not done]


# --- the run ----------------------------------------------------------------------------------------------------------


@contextmanager
def _ray(console: Console, address: str) -> Iterator[None]:
    """Ray at an address, or started for this run alone; one that runs in this process already stays as it is."""
    import ray
    import ray.data

    if not console.verbose:
        warnings.filterwarnings("ignore", module=r"ray\.")
    context = ray.data.DataContext.get_current()
    shown_before = context.enable_progress_bars
    context.enable_progress_bars = console.shows_progress and sys.stderr.isatty()
    logger = logging.getLogger("ray")
    level_before = logger.level
    level = logging.INFO if console.verbose else logging.ERROR
    logger.setLevel(level)
    logging.getLogger("ray.data").setLevel(level)
    is_ours = not ray.is_initialized()
    try:
        if is_ours:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
            if not console.verbose:
                os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            local: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
            ray.init(address, logging_level=level, log_to_driver=console.verbose, **local)
        yield
    finally:
        context.enable_progress_bars = shown_before
        logger.setLevel(level_before)
        if is_ours:
            ray.shutdown()


def _predict(
    args: Namespace, detector: Detector | OnnxDetector, file: DetectorFile, paths: Sequence[str], folder: RowFolder
) -> None:
    from ..batch.predict import predict_by_file
    from ..batch.sources import ROWS_PER_BLOCK, fetch_bytes, is_address, paths_dataset

    rows_per_block = min(ROWS_PER_BLOCK, max(args.batch_size, len(paths) // _LEAST_BLOCKS))
    dataset = paths_dataset(paths, rows_per_block=rows_per_block)
    has_addresses = any(is_address(path) for path in paths)
    if has_addresses:
        dataset = fetch_bytes(dataset)
    rows = predict_by_file(
        dataset,
        detector,
        file,
        image_column="bytes" if has_addresses else "path",
        batch_size=args.batch_size,
        num_actors=args.actors,
        num_gpus=args.gpus,
        heatmaps=args.heatmaps,
    )
    folder.write(rows)


# --- the summary ------------------------------------------------------------------------------------------------------


def _sum_up(
    console: Console,
    args: Namespace,
    detector: Detector | OnnxDetector,
    counts: Counts,
    images_per_s: float | None,
) -> None:
    if counts.highest:
        console.say("Highest scores:")
    for row in counts.highest:
        console.say(f"  {to_line(row | {'image': row['path'], 'frame': None})}")
    for error in counts.errors[:_SHOWN_ERRORS]:
        console.note(error)
    found = [f"{counts.verdicts[verdict]} {verdict}" for verdict in VERDICTS if counts.verdicts[verdict]]
    speed = f", {images_per_s:.1f} images/s" if images_per_s else ""
    console.say(f"{', '.join(found)}{speed}", bold=True)
    console.say(f"threshold {describe_threshold(detector)}")
    if len(counts.nodes) > 1:
        by_node = ", ".join(f"{node[:8]} {rows}" for node, rows in counts.nodes.most_common())
        console.say(f"images by machine: {by_node}")
    console.say(f"rows in {args.out}: {counts.verdicts.total()} in {counts.files} parquet files")
    if counts.verdicts[ANOMALOUS]:
        console.say(f"next: the rows whose verdict is {ANOMALOUS!r}; the same command goes on where images are new")


COMMAND = Command(
    "batch",
    run,
    purpose="The verdicts on very many images, by Ray on this machine or on a cluster, as parquet. INPUT is a folder, "
    "a glob, a list (.txt, or .parquet with a column path, or -), or an address: s3://, gs://, file://.",
    arguments=[click.Argument(["input"], required=True, metavar="INPUT")],
    options={
        "Detector": [
            click.Option(["--detector"], required=True, metavar="FILE", help=detectors.DETECTOR_OR_EXPORTED.help),
            click.Option(
                ["--batch-size"],
                type=click.IntRange(1),
                default=16,
                metavar="N",
                help="Images of one forward.  [default: 16]",
            ),
            detectors.DOWNLOAD,
        ],
        "Ray": [
            click.Option(
                ["--address"],
                default="local",
                metavar="ADDRESS",
                help="auto for the cluster that this machine is in, or HOST:PORT.  [default: a Ray for this run]",
            ),
            click.Option(
                ["--actors"], type=click.IntRange(1), metavar="N", help="Processes.  [default: one a processor]"
            ),
            click.Option(["--gpus"], type=float, default=0, metavar="N", help="GPUs of each.  [default: 0]"),
        ],
        "Output": [
            click.Option(
                ["--out"],
                required=True,
                metavar="DIR",
                help="Folder or address of the rows. What has a row there is skipped.",
            ),
            click.Option(["--heatmaps"], type=click.Choice(["png16", "npy"]), help="Add them, as files in a column."),
        ],
    },
    examples=[
        "patchclip batch photos/ --detector bottle.safetensors --out rows",
        "patchclip batch paths.txt --detector bottle.onnx --out rows --actors 2",
        "patchclip batch s3://parts/ --detector b.onnx --out s3://rows/ --address auto",
    ],
    exit_codes="0 done, 2 wrong usage or nothing usable, 3 some images are unreadable, 130 interrupted",
)
