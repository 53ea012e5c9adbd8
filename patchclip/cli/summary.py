"""The last lines of a run: counts, the threshold and where it is from, speed, where the results are, what is next."""

from __future__ import annotations

import heapq
import shlex
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..outcomes import ANOMALOUS, UNREADABLE, VERDICTS
from .console import Console
from .rows import Row, to_line
from .run_folder import DETECTOR_FILE, RunFolder

if TYPE_CHECKING:
    from ..detector import Detector
    from ..runtime import OnnxDetector

_SHOWN = 5

#: A suggested command repeats so many inputs.
_MOST_INPUTS = 2

_SOURCES = {
    "model": "the embedded model's own, from synthetic images",
    "uncalibrated": "a guess: calibrate it",
    "fit": "by fit on {}",
    "fit_unlabelled": "by fit on {} without labels",
    "calibrate": "calibrated on {}",
    "user": "given",
}


class Tally:
    """Counts of verdicts, and the rows with the highest scores.

    Attributes:
        counts: verdict -> rows.
        elapsed_s: of the new rows.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.elapsed_s = 0.0
        self._new = 0
        self._highest: list[tuple[float, int, Row]] = []

    def add(self, row: Row, *, is_new: bool = True) -> None:
        """Count a row; an earlier one of a resumed run says nothing of the speed."""
        self.counts[row["verdict"]] += 1
        self._new += is_new
        if row["verdict"] == UNREADABLE:
            return
        heapq.heappush(self._highest, (row["score"], -self.counts.total(), row))
        if len(self._highest) > _SHOWN:
            heapq.heappop(self._highest)

    @property
    def images_per_s(self) -> float | None:
        """Of the new rows; None without any."""
        return round(self._new / self.elapsed_s, 2) if self._new and self.elapsed_s > 0 else None

    def highest(self) -> list[Row]:
        """The rows with the highest scores, those first."""
        return [row for _, _, row in sorted(self._highest, reverse=True)]


def print_summary(
    console: Console,
    args: Namespace,
    tally: Tally,
    detector: Detector | OnnxDetector,
    folder: RunFolder | None,
    *,
    interrupted: bool = False,
) -> None:
    """On standard error, unless quiet."""
    if folder is not None and not args.json:
        if highest := tally.highest():
            console.say("Highest scores:")
        for row in highest:
            console.say(f"  {to_line(row)}")
        console.say()
    counts = [f"{tally.counts[verdict]} {verdict}" for verdict in VERDICTS if tally.counts[verdict]]
    speed = f", {tally.images_per_s:.1f} images/s" if tally.images_per_s else ""
    console.say(f"{', '.join(counts) or 'no images'}{speed}", bold=True)
    console.say(f"threshold {describe_threshold(detector)}")
    if folder is not None:
        parts = "results.csv, results.jsonl, contact_sheet.png"
        if (folder.path / DETECTOR_FILE).exists():
            parts += f", {DETECTOR_FILE}"
        overlays = ", overlays/" if tally.counts[ANOMALOUS] else ""
        more = "".join(f", {name}/" for name in ("heatmaps", "masks") if getattr(args, name))
        console.say(f"results in {folder.path}: {parts}{overlays}{more}")
    if interrupted and folder is not None:
        console.say("next: the same command with --resume goes on")
    elif tally.counts.total() > tally.counts[UNREADABLE]:
        console.say(f"next: {_next_command(args, detector, folder)}")


def describe_threshold(detector: Detector | OnnxDetector) -> str:
    """Its value, where it is from, and how sure it is."""
    normals = count_normals(detector)
    images = "one image" if normals == 1 else f"{normals} images"
    source = _SOURCES[detector.threshold_source].format(images)
    sure = ", the rate is guaranteed" if detector.threshold_guaranteed else ""
    return f"{detector.threshold:.4f} ({source}{sure})"


def count_normals(detector: Detector | OnnxDetector) -> int:
    """How many normal images the threshold is from; 0 where it is from none."""
    if detector.threshold_source in ("model", "uncalibrated", "user"):
        return 0
    names = {(normal.class_name, normal.name) for normal in detector.normal_scores_}
    return len(names)


def needs_calibration(detector: Detector | OnnxDetector) -> bool:
    """Whether the normal images are too few for the rate."""
    from ..threshold import images_needed

    needed = images_needed(detector.options["max_false_positive_rate"])
    return detector.threshold_source != "user" and count_normals(detector) < needed


def quoted_inputs(given: Sequence[str]) -> str:
    """For a command that is suggested: as they were given, where they are few."""
    if len(given) > _MOST_INPUTS:
        return "INPUTS"
    return " ".join(map(shlex.quote, given))


def calibrate_command(path: str) -> str:
    """With a folder that the user has to name."""
    return f"patchclip calibrate more_good/ --detector {shlex.quote(path)}"


def export_command(path: str) -> str:
    """To a file beside the working folder."""
    return f"patchclip export {shlex.quote(path)} -o detector.onnx"


def _next_command(args: Namespace, detector: Detector | OnnxDetector, folder: RunFolder | None) -> str:
    from ..runtime import OnnxDetector

    inputs = quoted_inputs(args.inputs)
    if isinstance(detector, OnnxDetector):
        return f"patchclip info {shlex.quote(args.detector)}   (shows what it was exported from)"
    if detector.memory_ is None:
        return f"patchclip predict {inputs} --normals good/ --out run   (a few normal images find far more)"
    path = args.detector
    if folder is not None:
        path = str(folder.path / DETECTOR_FILE)
    if path is None:
        normals = quoted_inputs(args.normals)
        return f"patchclip fit {normals} -o detector.safetensors   (keeps what was learnt)"
    if needs_calibration(detector):
        return f"{calibrate_command(path)}   (further normal images make the threshold surer)"
    return export_command(path)
