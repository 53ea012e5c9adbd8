"""What the page's parts do where it is more than one call of a session: actions return the sentence to be said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import table
from .session import Change, Session
from .work import AppError, Report


def open_page(detector_file: Path | None) -> Callable[[Session, Report], None]:
    """Of a page that was opened; the model's libraries are loaded by this, the first action, and no sooner."""

    def act(session: Session, report: Report) -> None:
        if detector_file is not None and session.detector is None:
            session.load(detector_file, report)

    return act


def add_normals(session: Session, report: Report, paths: list[str]) -> None:
    """Uploads as normal images."""
    session.add_normals(paths)


def add_unlabelled(session: Session, report: Report, paths: list[str]) -> None:
    """Uploads of which nobody knows which are normal."""
    session.unlabelled.add(paths, session.detector, report)


def tick(session: Session, index: int) -> None:
    """An unlabelled image as normal, or not any more."""
    session.unlabelled.tick(index)


def learn(session: Session, report: Report, object_name: str, defects: str) -> str:
    """From the normal images."""
    session.learn(object_name, defects, report)
    return "Learnt. Go on with 2 Inspect."


def inspect(session: Session, report: Report, paths: list[str]) -> None:
    """Uploads to be judged."""
    session.inspect(paths, report)


def inspect_camera(session: Session, report: Report, path: str | None) -> None:
    """A picture of the camera, to be judged."""
    if path is None:
        raise AppError("Take a picture first.")
    session.inspect([path], report)


def set_threshold(session: Session, report: Report, threshold: float) -> None:
    """By the slider."""
    session.set_threshold(threshold)


def show(session: Session, index: int) -> None:
    """An inspected image, large."""
    if 0 <= index < len(session.inspected):
        session.selected = index


def sort(session: Session, index: int) -> None:
    """The table, by the column of that index."""
    session.sort_by(list(table.COLUMNS)[index])


def mark_as_normal(session: Session, report: Report) -> str:
    """The image that is shown large."""
    return describe(session.mark_as_normal(report))


def name_region(session: Session, report: Report, place: float | None, kind: str) -> str:
    """A marked place, counted from 1, of the image that is shown large."""
    return describe(session.name_region(int(place or 1) - 1, kind, report))


def undo(session: Session, report: Report) -> str:
    """The last correction."""
    return describe(session.undo(report))


def describe(change: Change) -> str:
    """A correction, and what became of the threshold."""
    what = change.what[0].upper() + change.what[1:]
    if abs(change.after - change.before) < 5e-4:
        return f"{what}. The threshold stays at {change.after:.3f}."
    return f"{what}. The threshold was {change.before:.3f} and is {change.after:.3f} now."


def load(session: Session, report: Report, path: str) -> str:
    """A detector's file."""
    session.load(path, report)
    return "Loaded. Go on with 2 Inspect."


def make_files(session: Session, report: Report) -> str:
    """To take along."""
    report("Writing detector.safetensors", 0.1)
    session.save()
    report("Writing detector.onnx, which takes up to a minute", 0.3)
    session.export()
    return "Both files are ready."
