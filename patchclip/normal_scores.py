"""Scores of normal images, by which a threshold is set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Kinds of `NormalScore`.
IMAGE, UNLIKE, COPY, VARIATION = NORMAL_KINDS = ("image", "unlike", "copy", "variation")


@dataclass(frozen=True)
class NormalScore:
    """The score of a normal image against banks that were not made from it.

    Attributes:
        name: the path of the image, or "image 3", counted from 0 among the images of its class.
        class_name: its class; None without classes.
        score: in [0, 1].
        kind: "image"; "unlike" where the score is far above the rest; "copy" where the banks hold the same image;
            "variation" of an image that is alone in its class.
        counts: whether the threshold comes from it.
    """

    name: str
    class_name: str | None
    score: float
    kind: str = IMAGE
    counts: bool = True

    @classmethod
    def from_saved(cls, name: Any, class_name: Any, score: Any, kind: Any, counts: Any) -> NormalScore:
        """The inverse of `dataclasses.astuple`. Raises ValueError for other values."""
        are_names = isinstance(name, str) and (class_name is None or isinstance(class_name, str))
        is_score = isinstance(score, float) and 0 <= score <= 1
        if not are_names or not is_score or kind not in NORMAL_KINDS or not isinstance(counts, bool):
            raise ValueError(f"a normal score of {[name, class_name, score, kind, counts]}")
        return cls(name, class_name, score, kind, counts)
