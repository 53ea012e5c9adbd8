"""Scores of normal images, by which a threshold is set."""

from __future__ import annotations

from dataclasses import dataclass

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
