"""What a correction began with and what it did, so that it can be said and taken back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .photos import Photo
from .work import Named

if TYPE_CHECKING:
    from ..detector import Detector


@dataclass(frozen=True)
class Step:
    """What a correction began with, for `Session.undo`.

    Attributes:
        what: it did, in words.
    """

    detector: Detector
    threshold: float
    normals: tuple[Photo, ...]
    named: tuple[Named, ...]
    what: str


@dataclass(frozen=True)
class Change:
    """What a correction did, in words, and the thresholds before and after it."""

    what: str
    before: float
    after: float
