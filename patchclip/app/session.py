"""What one person has taught, inspected and corrected: plain Python, no page in it.

Two threads may call a session at once, as where the threshold is moved while the detector learns: what takes long works
on a copy of the detector, which replaces the other in one step.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from . import work
from .corrections import Change, Step
from .inspected import Inspected
from .photos import Intake, Photo, count_usable, read_examples
from .unlabelled import Unlabelled
from .work import AppError, Named, Report

if TYPE_CHECKING:
    from ..detector import Detector

#: Corrections that can be taken back.
_MOST_UNDOS = 10


class Session:
    """The state of one person.

    Args:
        folder: for uploads; it exists.
        downloads: for the files to take along; it exists.

    Attributes:
        normals: photos, those with a problem too.
        unlabelled: others, of which nobody knows which are normal.
        inspected: in the order of their upload.
        selected: index in `inspected` of the image that is shown large; None where there is none.
        file_name: of the file that the detector was loaded from; None where it was learnt here.
        saved, exported: files of the detector as it is now; None where they were not made.
        sort: column of the table, and whether the highest comes first.
    """

    def __init__(self, folder: Path, downloads: Path):
        self.downloads = downloads
        self._intake = Intake(folder)
        self.normals: list[Photo] = []
        self.unlabelled = Unlabelled(self._intake)
        self.inspected: list[Inspected] = []
        self.selected: int | None = None
        self._detector: Detector | None = None
        self.file_name: str | None = None
        self.saved: Path | None = None
        self.exported: Path | None = None
        self.sort = ("name", False)
        self._named: tuple[Named, ...] = ()
        self._undos: list[Step] = []
        self._lock = threading.RLock()

    @property
    def detector(self) -> Detector | None:
        """None before anything was learnt, loaded or inspected."""
        return self._detector

    def _set_detector(self, detector: Detector) -> None:
        """Another one, or a changed one: the files are no longer of it."""
        self._detector, self.saved, self.exported = detector, None, None

    @property
    def has_learnt(self) -> bool:
        """Whether the detector knows normal images."""
        return self.detector is not None and self.detector.memory_ is not None

    @property
    def can_correct(self) -> bool:
        """Whether the detector has learnt, and its normal images are here."""
        return self.has_learnt and count_usable(self.normals) > 0

    # --- teach --------------------------------------------------------------------------------------------------------

    def add_normals(self, uploads: Iterable[str | os.PathLike[str]]) -> None:
        """Uploads as normal images."""
        with self._lock:
            self.normals += self._intake.take(uploads, already=count_usable(self.normals))

    def add_example_normals(self) -> None:
        """The normal tiles of the package."""
        with self._lock:
            self.normals += read_examples("normal_[123].jpg", known={photo.path for photo in self.normals})

    def add_ticked(self) -> None:
        """The unlabelled images that a person has ticked. Raises AppError where there are none."""
        with self._lock:
            self.normals += self.unlabelled.take_ticked()

    def remove_normal(self, index: int) -> None:
        """One, and its file."""
        with self._lock:
            photo = self.normals.pop(index)
            self._remove_unused([photo])

    def clear_normals(self) -> None:
        """All, and their files."""
        with self._lock:
            removed, self.normals = self.normals, []
            self._remove_unused(removed)

    def learn(self, object_name: str, defects: str, report: Report) -> None:
        """Fit a new detector on the normal images, and look at the inspected ones again. What was named stays known.

        Args:
            object_name, defects: see `work.new_detector`.

        Raises:
            AppError: no usable normal image, or words that cannot be used.
        """
        paths = [photo.path for photo in self.normals if photo.problem is None]
        if not paths:
            raise AppError("There are no normal images yet: add some, or take the examples.")
        report("Loading the model", 0)
        detector = work.new_detector(object_name, defects)
        work.fit(detector, paths, report)
        work.teach(detector, self._named, report)
        with self._lock:
            self._set_detector(detector)
            self.file_name, self._undos = None, []
        work.measure(detector, self.inspected, report)

    def normal_scores(self) -> dict[int, tuple[float, bool]]:
        """Index of each normal image that was compared with the others -> its score, and whether it is unlike them."""
        if self.detector is None:
            return {}
        scored = {normal.name: normal for normal in self.detector.normal_scores_ if normal.kind != "variation"}
        found = {}
        for index, photo in enumerate(self.normals):
            normal = scored.get(str(photo.path))
            if normal is not None:
                found[index] = (normal.score, normal.kind == "unlike")
        return found

    # --- inspect ------------------------------------------------------------------------------------------------------

    def inspect(self, uploads: Iterable[str | os.PathLike[str]], report: Report) -> None:
        """Uploads to be judged; the first new one that can be used is shown."""
        with self._lock:
            usable = sum(item.problem is None for item in self.inspected)
            photos = self._intake.take(uploads, already=usable)
        self._inspect_photos(photos, report)

    def inspect_examples(self, report: Report) -> None:
        """The cracked tile of the package and a normal one."""
        known = {item.photo.path for item in self.inspected}
        photos = [*read_examples("crack.jpg", known=known), *read_examples("normal_0.jpg", known=known)]
        self._inspect_photos(photos, report)

    def _inspect_photos(self, photos: Iterable[Photo], report: Report) -> None:
        new = [Inspected(photo) for photo in photos]
        detector = self.detector
        if detector is None:
            report("Loading the model", 0)
            detector = work.new_detector("", "")
            self._set_detector(detector)
        work.measure(detector, new, report)
        with self._lock:
            usable = [index for index, item in enumerate(new) if item.problem is None]
            if new:
                self.selected = len(self.inspected) + (usable[0] if usable else 0)
            self.inspected += new

    def clear_inspected(self) -> None:
        """Forget all images that were inspected."""
        with self._lock:
            removed = [item.photo for item in self.inspected]
            self.inspected, self.selected = [], None
            self._remove_unused(removed)

    def set_threshold(self, threshold: float) -> None:
        """Judge all images again; the network does not run."""
        with self._lock:
            if self.detector is not None:
                self.detector.threshold = min(1.0, max(0.0, float(threshold)))
                self._set_detector(self.detector)
                for item in self.inspected:
                    item.judge(self.detector)

    def sort_by(self, column: str) -> None:
        """The table by a column; again by the same, the other way round."""
        is_same = self.sort[0] == column
        self.sort = (column, not self.sort[1] if is_same else column == "score")

    def shown(self) -> Inspected | None:
        """The image that is shown large."""
        with self._lock:
            return None if self.selected is None else self.inspected[self.selected]

    # --- correct ------------------------------------------------------------------------------------------------------

    def mark_as_normal(self, report: Report) -> Change:
        """Add the shown image to the normal ones, learn again, and look at all inspected images again.

        Raises:
            AppError: no image is shown, it is normal already, or the normal images are not here.
        """
        item = self.shown()
        if item is None or item.result is None:
            raise AppError("Choose an image first.")
        usable = [photo.path for photo in self.normals if photo.problem is None]
        if self.detector is None or not self.can_correct:
            raise AppError(
                "The normal images are not here, so nothing can be added to them: teach some first, or move the "
                "threshold."
            )
        if item.photo.path in usable:
            raise AppError("This image is among the normal ones already.")
        step = self._step(self.detector, f"“{item.photo.name}” counts as normal")
        detector = copy.copy(self.detector)
        work.fit(detector, [*usable, item.photo.path], report)
        with self._lock:
            self._undos = [*self._undos, step][-_MOST_UNDOS:]
            self._set_detector(detector)
            self.normals = [*self.normals, item.photo]
        work.measure(detector, self.inspected, report)
        return Change(step.what, step.threshold, detector.threshold)

    def name_region(self, region: int, kind: str, report: Report) -> Change:
        """Teach what the defect in a region of the shown image is called: regions like it have that name from then on.

        Args:
            region: index among the regions.

        Raises:
            AppError: no name, no such region, or nothing was learnt yet.
        """
        item, kind = self.shown(), " ".join(kind.split())
        boxes = [] if item is None else item.boxes_xyxy()
        if item is None or not 0 <= region < len(boxes):
            raise AppError("Choose a marked place in an image first.")
        if not kind:
            raise AppError("Write what it is, such as: crack")
        if self.detector is None or not self.has_learnt:
            raise AppError("Names can be taught once normal images are known: teach some first.")
        step = self._step(self.detector, f"places like this are called “{kind}”")
        named: Named = (kind, item.photo.path, boxes[region])
        detector = copy.copy(self.detector)
        work.teach(detector, [named], report)
        with self._lock:
            self._undos = [*self._undos, step][-_MOST_UNDOS:]
            self._set_detector(detector)
            self._named = (*self._named, named)
            for other in self.inspected:
                other.judge(detector)
        return Change(step.what, step.threshold, detector.threshold)

    @property
    def undo_text(self) -> str | None:
        """What `undo` takes back; None for nothing."""
        return self._undos[-1].what if self._undos else None

    def undo(self, report: Report) -> Change:
        """Take back the last correction. Raises AppError where there is none."""
        with self._lock:
            if not self._undos or self.detector is None:
                raise AppError("There is nothing to take back.")
            step = self._undos.pop()
            before = self.detector.threshold
            self._set_detector(step.detector)
            self.normals, self._named = list(step.normals), step.named
        work.measure(step.detector, self.inspected, report)
        return Change(f"taken back: {step.what}", before, step.detector.threshold)

    def _step(self, detector: Detector, what: str) -> Step:
        return Step(detector, detector.threshold, tuple(self.normals), self._named, what)

    # --- take along ---------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the detector's file. Raises AppError where nothing was learnt."""
        path = self.downloads / "detector.safetensors"
        self._learnt_detector().save(path)
        self.saved = path

    def export(self) -> None:
        """Write the same for machines without torch. Raises AppError where it cannot be made."""
        path = self.downloads / "detector.onnx"
        work.export(self._learnt_detector(), path)
        self.exported = path

    def _learnt_detector(self) -> Detector:
        if self.detector is None or not self.has_learnt:
            raise AppError("There is nothing to take along yet: teach some normal images first.")
        return self.detector

    def load(self, path: str | os.PathLike[str], report: Report) -> None:
        """A detector from a file in place of the present one, whose normal images are forgotten.

        Raises:
            AppError: the file is not one, or its model is not on this machine.
        """
        name = os.path.basename(path)
        report("Loading the detector", 0)
        detector = work.load(Path(path))
        with self._lock:
            self._set_detector(detector)
            self.file_name, self._named, self._undos = name, (), []
        self.clear_normals()
        work.measure(detector, self.inspected, report)

    def _remove_unused(self, photos: Iterable[Photo]) -> None:
        """Files that no list has any more."""
        used = {photo.path for photo in self.normals} | {item.photo.path for item in self.inspected}
        used |= {photo.path for step in self._undos for photo in step.normals}
        used |= {path for _, path, _ in self._named}
        for photo in photos:
            if photo.path not in used:
                photo.remove()
