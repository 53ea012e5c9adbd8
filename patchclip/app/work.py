"""What takes long: fitting, teaching and measuring with a detector, with each step said in a sentence."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..errors import PatchclipError
from ..printable import printable
from ..progress import progress_reported
from .inspected import Box, Inspected
from .photos import MAX_PIXELS

if TYPE_CHECKING:
    from ..detector import Detector

#: What is said while something takes long: a sentence, and the share that is done, in [0, 1].
Report: TypeAlias = "Callable[[str, float], None]"

#: What a person has named: the kind of defect, its image and the box of the place in pixels.
Named: TypeAlias = "tuple[str, Path, Box]"

_SENTENCES = {
    "fit": "Learning",
    "rank": "Comparing",
    "teach": "Learning the defect",
    "predict": "Inspecting",
}


class AppError(ValueError):
    """Something that cannot be done, in words for the person."""


def new_detector(object_name: str, defects: str) -> Detector:
    """A detector that has learnt nothing yet.

    Args:
        object_name: what the images show; defects: names, separated by commas. Empty ones are the defaults.

    Raises:
        AppError: words that cannot be used.
    """
    from ..detector import Detector
    from ..encoders.prompts import DEFAULT_DEFECTS

    names = dict.fromkeys(" ".join(name.split()) for name in defects.split(","))
    names.pop("", None)
    with quiet():
        try:
            return Detector(
                object_name=" ".join(object_name.split()) or "surface",
                defects=tuple(names) or tuple(DEFAULT_DEFECTS),
                max_pixels=MAX_PIXELS,
            )
        except ValueError as error:
            raise AppError(f"These words cannot be used: {error}") from error


def fit(detector: Detector, paths: Sequence[Path], report: Report) -> None:
    """On normal images. Raises AppError for images that cannot be learnt."""
    with reported(report):
        try:
            detector.fit([str(path) for path in paths])
        except (PatchclipError, ValueError) as error:
            raise AppError(f"These images cannot be learnt: {error}") from error


def teach(detector: Detector, named: Iterable[Named], report: Report) -> None:
    """Names of defects, beside those that are known."""
    with reported(report):
        for kind, path, box in named:
            try:
                detector.teach({kind: [(str(path), box)]}, add=True)
            except (PatchclipError, ValueError) as error:
                raise AppError(f"This place cannot be learnt: {error}") from error


def measure(detector: Detector, items: Sequence[Inspected], report: Report) -> None:
    """Run the network on all that can be used, and judge them."""
    usable = [item for item in items if item.problem is None]
    for index, item in enumerate(usable):
        report(f"Inspecting: image {index + 1} of {len(usable)}", index / len(usable))
        with quiet():
            [measured] = detector.measure([detector.prepare(item.photo.path)])
        item.measure(measured, detector)


def load(path: Path) -> Detector:
    """From a file. Raises AppError where it is no detector's, or its model is not on this machine."""
    from ..detector import Detector

    with quiet():
        try:
            return Detector.load(path)
        except (PatchclipError, ValueError, OSError) as error:
            text = " ".join(str(error).split()).replace(str(path), "the file")
            raise AppError(f"“{printable(path.name)}” cannot be used: {text}") from error


def export(detector: Detector, path: Path) -> None:
    """To an ONNX file. Raises AppError where it cannot be made."""
    with quiet():
        try:
            detector.export(path)
        except (PatchclipError, ValueError) as error:
            raise AppError(f"The ONNX file cannot be made: {' '.join(str(error).split())}") from error


@contextmanager
def reported(report: Report) -> Iterator[None]:
    """Steps of the library as sentences; its warnings are said by the page in other words."""

    def listen(description: str, done: int, total: int | None) -> None:
        sentence = _SENTENCES.get(description, "Working")
        if total:
            report(f"{sentence}: image {done} of {total}", done / total)

    with quiet(), progress_reported(listen):
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings, which are for programmers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
