"""The table of methods: what each name of --methods means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from accuracy.methods.base import Method, Settings
from accuracy.methods.course import CourseFewShot, CourseZeroShot
from accuracy.methods.detector import DetectorMethod
from accuracy.methods.peers import AnomalibPatchcore, AnomalibWinclip
from accuracy.methods.ranking import RankMethod
from accuracy.methods.untrained import RandomVit
from patchclip.datasets import Category

MakeMethod = Callable[[Settings, Sequence[str]], Method]


@dataclass(frozen=True)
class Entry:
    """One of `METHODS`.

    Attributes:
        description: for --help.
        make: settings and the data set's kinds of defect -> the method.
        zero_shot, few_shot: whether it runs without references, and with them.
        random: whether the seed changes more than which references are drawn.
        whole: whether it sees whole images, without tiles.
        together: whether it scores the test images by each other, as one batch.
        teaches: whether its names of defects are measured after examples.
    """

    description: str
    make: MakeMethod
    zero_shot: bool = False
    few_shot: bool = True
    random: bool = False
    whole: bool = False
    together: bool = False
    teaches: bool = False


def _without_kinds(method: Callable[[Settings], Method]) -> MakeMethod:
    """A method that names no defects."""
    return lambda settings, kinds: method(settings)


METHODS: dict[str, Entry] = {
    "dense": Entry(
        "text alone, zero-shot",
        partial(DetectorMethod, cues=("text",)),
        zero_shot=True,
        few_shot=False,
    ),
    "rank": Entry(
        "the test images as one batch, unlabelled and compared with each other",
        RankMethod,
        zero_shot=True,
        few_shot=False,
        together=True,
    ),
    "winclip": Entry(
        "WinCLIP to the letter, zero-shot and few-shot",
        partial(DetectorMethod, cues=("text", "tokens"), recipe="winclip"),
        zero_shot=True,
        whole=True,
    ),
    "bank": Entry("bank of patch tokens alone", partial(DetectorMethod, cues=("tokens",))),
    "texture": Entry("bank of patch descriptors alone", partial(DetectorMethod, cues=("texture",))),
    "imagenet": Entry("bank of the embedded ImageNet features alone", partial(DetectorMethod, cues=("imagenet",))),
    "random-vit": Entry("bank of tokens of an untrained network of the same shape", RandomVit, random=True),
    "dense+bank": Entry("all cues: the detector's default", DetectorMethod, teaches=True),
    "course-zeroshot": Entry(
        "global embedding against normal means and synthetic anomalies",
        _without_kinds(CourseZeroShot),
        random=True,
        whole=True,
    ),
    "course-fewshot": Entry(
        "linear head on the global embedding", _without_kinds(CourseFewShot), random=True, whole=True
    ),
    "anomalib-patchcore": Entry(
        "anomalib's PatchCore on the same weights",
        _without_kinds(AnomalibPatchcore.on_tokens),
        random=True,
        whole=True,
    ),
    "anomalib-patchcore-imagenet": Entry(
        "anomalib's PatchCore on the embedded EfficientNet-Lite0",
        _without_kinds(AnomalibPatchcore.on_imagenet),
        random=True,
        whole=True,
    ),
    "anomalib-winclip": Entry(
        "anomalib's WinCLIP on the same weights", _without_kinds(AnomalibWinclip), zero_shot=True, whole=True
    ),
}

DEFAULT_METHODS = ("dense", "bank", "texture", "imagenet", "random-vit", "dense+bank")
COURSE_METHODS = (*DEFAULT_METHODS, "course-zeroshot", "course-fewshot")


def default_methods(category: Category) -> Sequence[str]:
    """What runs without --methods."""
    return COURSE_METHODS if category.layout == "course" else DEFAULT_METHODS
