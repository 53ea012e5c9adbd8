"""Images of which nobody knows which are normal: ranked, and the normal ones ticked by a person."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .photos import Intake, Photo, count_usable
from .work import AppError, Report, new_detector, reported

if TYPE_CHECKING:
    from ..detector import Detector
    from ..ranked import Ranking


class Unlabelled:
    """A list of photos, in the order of how unlike the others each is once they are ranked.

    Args:
        intake: for uploads.

    Attributes:
        photos: those with a problem too.
        ticked: indices of those that a person takes for normal.
    """

    def __init__(self, intake: Intake):
        self._intake = intake
        self.photos: list[Photo] = []
        self.ticked: set[int] = set()
        self._ranking: Ranking | None = None
        self._ranked: list[int] = []  # indices of the photos in the ranking

    def add(self, uploads: Iterable[str | os.PathLike[str]], detector: Detector | None, report: Report) -> None:
        """Uploads, ranked with those that there are.

        Args:
            detector: any; None makes one.

        Raises:
            AppError: fewer than two can be used.
        """
        self.photos += self._intake.take(uploads, already=count_usable(self.photos))
        usable = [index for index, photo in enumerate(self.photos) if photo.problem is None]
        if len(usable) < 2:
            raise AppError("Images are compared with each other: add at least two, better twenty.")
        report("Loading the model", 0)
        ranker = detector or new_detector("", "")
        with reported(report):
            self._ranking = ranker.rank([self.photos[index].path for index in usable])
        self._ranked = usable
        self.tick_most_normal()

    def in_order(self) -> list[tuple[int, float]]:
        """Index and score of each photo, the least like the others first."""
        if self._ranking is None:
            return []
        ordered = self._ranking.most_anomalous(len(self._ranked))
        return [(self._ranked[item.index], item.score) for item in ordered]

    @property
    def unusual_count(self) -> int | None:
        """How many of the first ones stand apart from the rest; None where there is no such gap."""
        if self._ranking is None or self._ranking.suggested_cut is None:
            return None
        return self._ranking.suggested_cut.anomalous_count

    def tick(self, index: int) -> None:
        """A photo as normal, or not any more."""
        self.ticked ^= {index}

    def tick_most_normal(self) -> None:
        """Those that do not stand apart, or the more normal half where none does."""
        ordered = [index for index, _ in self.in_order()]
        unusual = self.unusual_count
        if unusual is None:
            unusual = len(ordered) // 2
        self.ticked = set(ordered[unusual:])

    def take_ticked(self) -> list[Photo]:
        """The ticked ones, which leave the list.

        Raises:
            AppError: none is ticked.
        """
        if not self.ticked:
            raise AppError("No image is ticked as normal yet.")
        taken = [self.photos[index] for index in sorted(self.ticked)]
        self._forget(self.ticked)
        return taken

    def clear(self) -> None:
        """Remove all, and their files."""
        for photo in self.photos:
            photo.remove()
        self._forget(set(range(len(self.photos))))

    def _forget(self, indices: set[int]) -> None:
        self.photos = [photo for index, photo in enumerate(self.photos) if index not in indices]
        self.ticked, self._ranking, self._ranked = set(), None, []
