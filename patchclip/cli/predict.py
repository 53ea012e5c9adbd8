"""`patchclip predict`: the verdict on each image and frame, as lines, JSON Lines and a folder of results."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections import Counter, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ..files import hash_file, is_exported
from ..outcomes import ANOMALOUS, UNREADABLE
from . import detectors
from .command import Command
from .console import Console
from .detectors import (
    check_exists,
    load_detector,
    load_exported,
    new_detector,
    normal_images,
    set_threshold,
    tell_skipped,
)
from .facts import run_facts
from .inputs import IMAGE, Inputs, find_inputs, without_login
from .reporting import ANOMALIES, DONE, INTERRUPTED, SOME_FAILED, UNUSABLE
from .rows import Row, make_row, to_json, to_line
from .run_folder import CONTACT_SHEET, DETECTOR_FILE, FINISHED, PREDICT, RunFolder
from .summary import Tally, print_summary

if TYPE_CHECKING:
    from ..detector import Detector
    from ..errors import ImageError
    from ..images.load import ImageLike
    from ..result import Result
    from ..runtime import OnnxDetector
    from .frames import Item
    from .pictures import Pictures

#: What decides about the rows of a run: a resumed one has the same.
_SETTINGS = (
    "inputs",
    "every",
    "frames",
    "normals",
    "detector",
    "threshold",
    "model",
    "object",
    "defects",
    "rate",
    "heatmaps",
    "masks",
)


def run(console: Console, args: Namespace) -> int:
    """Fit or load a detector, predict, and sum up."""
    _check(args)
    inputs = find_inputs(args.inputs)
    tell_skipped(console, inputs.skipped, inputs.problems)
    if args.resume and inputs.has_streams:
        raise click.UsageError("--resume: not possible with a camera or an address")
    normals = normal_images(console, args.normals, "--normals") if args.normals else []
    folder = None
    if args.out is not None:
        settings = {name: _plain(getattr(args, name)) for name in _SETTINGS}
        if args.detector and is_exported(args.detector):  # the folder keeps a copy of other detectors alone
            settings["detector_sha256"] = hash_file(args.detector)
        folder = RunFolder(args.out, PREDICT, settings, resume=args.resume, overwrite=args.overwrite)
        if folder.has_replaced:
            console.note(f"the results of an earlier run in {args.out} are replaced")
    detector = _get_detector(console, args, normals, folder)
    session = _Session(console, args, inputs, detector, folder)
    return session.run()


def _plain(value: Any) -> Any:
    """As JSON has it, and without the login of an address."""
    if isinstance(value, tuple):
        return [without_login(entry) for entry in value]
    return value


def _check(args: Namespace) -> None:
    """Raise click.UsageError for options that do not go together, before anything slow is done."""
    for option in ("heatmaps", "masks", "resume", "overwrite"):
        if getattr(args, option) and args.out is None:
            raise click.UsageError(f"--{option}: needs --out DIR to write to")
    if args.resume and args.overwrite:
        raise click.UsageError("--resume and --overwrite: go on with the run, or begin again: choose one")
    if args.normals and args.detector:
        raise click.UsageError("--normals and --detector: fit, or load what was fitted: choose one")
    if args.detector:
        check_exists(args.detector, "--detector")


def _get_detector(
    console: Console, args: Namespace, normals: list[str], folder: RunFolder | None
) -> Detector | OnnxDetector:
    """Of the run that is resumed, from a file, fitted to normal images, or zero-shot."""
    saved = folder.path / DETECTOR_FILE if folder is not None else None
    if args.resume and saved is not None and saved.exists():
        from ..detector import Detector

        return Detector.load(saved, device=args.device, allow_download=args.allow_download)
    if args.detector is not None and is_exported(args.detector):
        exported = load_exported(args, args.detector)
        set_threshold(exported, args.threshold)
        return exported
    if args.detector:
        detector = load_detector(console, args, args.detector)
    else:
        detector = new_detector(console, args)
        if normals:
            detector.fit(normals, progress=console.shows_progress)
    set_threshold(detector, args.threshold)
    if saved is not None:
        detector.save(saved)
    return detector


class _Session:
    """One run over the inputs, from the first row to the summary."""

    def __init__(
        self,
        console: Console,
        args: Namespace,
        inputs: Inputs,
        detector: Detector | OnnxDetector,
        folder: RunFolder | None,
    ):
        self.console = console
        self.args = args
        self.inputs = inputs
        self.detector = detector
        self.folder = folder
        self.tally = Tally()
        self.pictures: Pictures | None = None
        if folder is not None:
            from .pictures import Pictures

            self.pictures = Pictures(folder.path, heatmaps=args.heatmaps, masks=args.masks)
            self.pictures.add_earlier(folder.rows)
            for row in folder.rows:
                self.tally.add(row, is_new=False)
        self.done = self._done_keys()

    def _done_keys(self) -> set[tuple[str, int | None]]:
        rows = self.folder.rows if self.folder is not None else []
        return {(row["image"], row["frame"]) for row in rows}

    def run(self) -> int:
        """The exit code."""
        if self.folder is not None:
            self.folder.begin(_command_line(), run_facts(self.detector))
        if self.done:
            self.console.say(f"resumed: {len(self.done)} rows are there already")
        begun = time.perf_counter()
        status = "failed"
        try:
            self._predict_all()
            status = FINISHED
        except KeyboardInterrupt:
            status = "interrupted"
        finally:
            self.tally.elapsed_s = time.perf_counter() - begun
            code = INTERRUPTED if status == "interrupted" else self._exit_code()
            self._end(status, code)
        if status == "interrupted":
            self.console.error("interrupted; what was done is kept" if self.folder else "interrupted")
        print_summary(self.console, self.args, self.tally, self.detector, self.folder, interrupted=code == INTERRUPTED)
        return code

    def _predict_all(self) -> None:
        prints_lines = self.args.json or self.folder is None
        total = None if any(source.kind != IMAGE for source in self.inputs.sources) else len(self.inputs.sources)
        with self.console.progress("predict", total=total, lines_on_stdout=prints_lines) as bar:
            bar.update(len(self.done))
            for item, outcome in self._outcomes():
                row = make_row(item, outcome)
                if self.pictures is not None and not isinstance(outcome, Exception):
                    self.pictures.write(item, outcome, row)
                self._hand_over(row)
                bar.update()

    def _hand_over(self, row: Row) -> None:
        if self.folder is not None:
            self.folder.append(row)
        self.tally.add(row)
        if self.args.json:
            self.console.data(to_json(row, only_ascii=True))
        elif self.folder is None:
            colour = {"fg": "red"} if row["verdict"] == ANOMALOUS else {}
            self.console.data(to_line(row), **colour)
        elif row["verdict"] == UNREADABLE:
            self.console.note(row["error"])

    def _outcomes(self) -> Iterator[tuple[Item, Result | ImageError]]:
        """Of each item in order: files in batches, decoded ahead; frames of a camera one by one, at once."""
        from ..errors import ImageError
        from .frames import each_item

        items = each_item(
            self.inputs.sources,
            every=self.args.every,
            most_frames=self.args.frames,
            is_done=lambda item: item.key in self.done,
        )
        waiting: deque[Item] = deque()

        def images() -> Iterator[ImageLike]:
            for item, image in items:
                waiting.append(item)
                yield image

        if not self.inputs.has_streams:
            for outcome in self.detector.predict_batch(images(), progress=False, errors="return"):
                yield waiting.popleft(), outcome
            return
        for item, image in items:
            try:
                yield item, self.detector.predict(image)
            except ImageError as error:
                yield item, error

    def _end(self, status: str, code: int) -> None:
        if self.folder is None:
            return
        if self.pictures is not None and status != "failed":
            self.pictures.save_sheet(self.folder.path / CONTACT_SHEET)
        facts = {"counts": dict(self.tally.counts), "images_per_s": self.tally.images_per_s, "exit_code": code}
        self.folder.end(status, facts)

    def _exit_code(self) -> int:
        counts: Counter[str] = self.tally.counts
        if counts.total() and counts[UNREADABLE] == counts.total():
            return UNUSABLE
        if self.args.fail_on_anomaly and counts[ANOMALOUS]:
            return ANOMALIES
        return SOME_FAILED if counts[UNREADABLE] else DONE


def _command_line() -> list[str]:
    return ["patchclip", *(without_login(argument) for argument in sys.argv[1:])]


COMMAND = Command(
    "predict",
    run,
    purpose="Say which images and frames are anomalous, and where. INPUTS are files, folders, globs, videos, camera "
    "numbers, rtsp:// addresses, or - for a list on standard input.",
    arguments=[click.Argument(["inputs"], nargs=-1, required=True, metavar="INPUTS...")],
    options={
        "Detector (zero-shot without --normals and --detector)": [
            click.Option(["--normals"], multiple=True, metavar="PATH", help="Fit to these normal images first."),
            detectors.DETECTOR_OR_EXPORTED,
            detectors.THRESHOLD,
            detectors.MODEL,
            detectors.OBJECT,
            detectors.DEFECTS,
            detectors.RATE,
            detectors.DEVICE,
            detectors.DOWNLOAD,
        ],
        "Videos and cameras": [
            click.Option(
                ["--every"],
                type=click.IntRange(1),
                default=1,
                metavar="N",
                help="Look at each N-th frame.  [default: 1]",
            ),
            click.Option(["--frames"], type=click.IntRange(1), metavar="N", help="Stop after N frames of each."),
        ],
        "Output": [
            click.Option(["--json"], is_flag=True, help="JSON Lines on standard output."),
            click.Option(["--out"], metavar="DIR", help="Folder for tables, overlays and the detector."),
            click.Option(["--heatmaps"], is_flag=True, help="Write heatmaps there as 16-bit PNG."),
            click.Option(["--masks"], is_flag=True, help="Write binary masks there."),
            click.Option(["--resume"], is_flag=True, help="Go on with the run in --out."),
            click.Option(["--overwrite"], is_flag=True, help="Write to --out whatever is in it."),
            click.Option(["--fail-on-anomaly"], is_flag=True, help="Exit with 1 if there is any."),
        ],
    },
    examples=[
        "patchclip predict photos/",
        "patchclip predict photos/ --normals good/ --out run",
        "patchclip predict clip.mp4 --every 10 --detector bottle.safetensors --json",
    ],
    exit_codes="0 done, 1 anomalies (--fail-on-anomaly), 2 wrong usage or nothing usable, 3 some inputs failed, "
    "130 interrupted",
)
