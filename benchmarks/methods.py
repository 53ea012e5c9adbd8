"""The methods that are compared: each fits on a few normal images and gives test images a score."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from PIL import Image

from patchclip import DEFAULT_DEFECTS, Detector, ImageError

References = Mapping[str | None, Sequence[Path]]


@dataclass(frozen=True)
class Settings:
    """What all methods of a run share.

    Attributes:
        model, pretrained, device, precision, image_size, tile, object_name, max_false_positive_rate: of `Detector`.
        batch_size: images that go through a network at once.
        work: a folder for weights that a method writes.
    """

    work: Path
    model: str = "tiny"
    pretrained: str | None = None
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    image_size: int | None = None
    tile: int | None = None
    object_name: str = "surface"
    max_false_positive_rate: float = 0.05
    batch_size: int = 16


@dataclass(frozen=True)
class Prediction:
    """Of one image; higher = more anomalous.

    Attributes:
        score, threshold: anomalous above the threshold; None where the method sets none without labelled anomalies.
        heatmap: (H, W) float32, 0 or more, of the upright image; None where the method has none.
        defect: name of the defect, None for none; overlay: draws the image with its heatmap and regions, where the
            method does.
        similarity: to normal and to anomalous images.
    """

    score: float
    threshold: float | None
    heatmap: np.ndarray | None = None
    defect: str | None = None
    overlay: Callable[..., Image.Image] | None = None
    similarity: tuple[float, float] | None = None


class Method(Protocol):
    """A method for one category; `fit` may be called again and then forgets.

    Attributes:
        notes: what `fit` has to say for the record (epochs of training, where a threshold comes from).
    """

    notes: dict[str, object]

    @property
    def detector(self) -> Detector | None:
        """Whose `predict` this is; None for what is not patchclip's."""

    def fit(self, references: References, *, seed: int) -> None:
        """Learn from normal images; none for zero-shot."""

    def predict(self, paths: Sequence[Path], *, batch_size: int) -> Iterator[Prediction | ImageError]:
        """In the order of the paths, so many at once."""


@dataclass
class OwnMethod:
    """patchclip's Detector with some of its cues."""

    settings: Settings
    kinds: Sequence[str]
    cues: tuple[str, ...] | None
    recipe: Literal["dense", "winclip"] = "dense"
    notes: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start()

    def fit(self, references: References, *, seed: int) -> None:
        if not references:
            if self.detector.memory_ is not None:
                self._start()
            return
        images = {name: list(paths) for name, paths in references.items() if name is not None}
        with warnings.catch_warnings():  # the row says itself how far the threshold is to be trusted
            warnings.filterwarnings("ignore", message="fit: ")
            self.detector.fit(images or list(references[None]), progress=False)
        self._note()

    def predict(self, paths: Sequence[Path], *, batch_size: int) -> Iterator[Prediction | ImageError]:
        for result in self.detector.predict_batch(paths, batch_size=batch_size, progress=False, errors="return"):
            if isinstance(result, ImageError):
                yield result
                continue
            yield Prediction(result.score, result.threshold, result.heatmap, result.defect, result.overlay)

    def _start(self) -> None:
        """A detector that has seen nothing."""
        self.detector = make_detector(self.settings, kinds=self.kinds, cues=self.cues, recipe=self.recipe)
        self._note()

    def _note(self) -> None:
        source = self.detector.threshold_source
        self.notes = {
            "threshold_source": source,
            "threshold_guaranteed": self.detector.threshold_guaranteed,
            "false_positive_target": self.settings.max_false_positive_rate if source == "fit" else None,
            "cue_weights": dict(self.detector.weights_),
        }


def make_detector(
    settings: Settings,
    *,
    kinds: Sequence[str] = (),
    cues: tuple[str, ...] | None = None,
    recipe: Literal["dense", "winclip"] = "dense",
) -> Detector:
    """A Detector that names the data set's own kinds of defect, where it tells them apart."""
    return Detector(
        settings.model,
        pretrained=settings.pretrained,
        object_name=settings.object_name,
        defects=tuple(kinds) or DEFAULT_DEFECTS,
        recipe=recipe,
        cues=cues,
        image_size=settings.image_size,
        tile=settings.tile if recipe == "dense" else None,
        max_false_positive_rate=settings.max_false_positive_rate,
        precision=settings.precision,
        device=settings.device,
    )


@dataclass(frozen=True)
class Entry:
    """One of `METHODS`.

    Attributes:
        about: for --help and the report.
        make: settings and the data set's kinds of defect -> the method.
        zero_shot, few_shot: whether it runs without references, and with them.
        random: whether the seed changes more than which references are drawn.
        whole: whether it sees whole images, without tiles.
    """

    about: str
    make: Callable[[Settings, Sequence[str]], Method]
    zero_shot: bool = False
    few_shot: bool = True
    random: bool = False
    whole: bool = False


def _random_vit(settings: Settings, kinds: Sequence[str]) -> Method:
    from .baselines import RandomVit

    return RandomVit(settings, kinds)


def _course_zeroshot(settings: Settings, kinds: Sequence[str]) -> Method:
    from .baselines import CourseZeroShot

    return CourseZeroShot(settings)


def _course_fewshot(settings: Settings, kinds: Sequence[str]) -> Method:
    from .baselines import CourseFewShot

    return CourseFewShot(settings)


def _anomalib_patchcore(settings: Settings, kinds: Sequence[str]) -> Method:
    from .peers import AnomalibPatchcore

    return AnomalibPatchcore(settings)


def _anomalib_winclip(settings: Settings, kinds: Sequence[str]) -> Method:
    from .peers import AnomalibWinclip

    return AnomalibWinclip(settings)


METHODS: dict[str, Entry] = {
    "dense": Entry(
        "text alone, zero-shot",
        lambda settings, kinds: OwnMethod(settings, kinds, ("text",)),
        zero_shot=True,
        few_shot=False,
    ),
    "winclip": Entry(
        "WinCLIP to the letter, zero-shot and few-shot",
        lambda settings, kinds: OwnMethod(settings, kinds, ("text", "tokens"), "winclip"),
        zero_shot=True,
        whole=True,
    ),
    "bank": Entry("bank of patch tokens alone", lambda settings, kinds: OwnMethod(settings, kinds, ("tokens",))),
    "texture": Entry(
        "bank of patch descriptors alone", lambda settings, kinds: OwnMethod(settings, kinds, ("texture",))
    ),
    "imagenet": Entry(
        "bank of the embedded ImageNet features alone",
        lambda settings, kinds: OwnMethod(settings, kinds, ("imagenet",)),
    ),
    "random-vit": Entry("bank of tokens of an untrained network of the same shape", _random_vit, random=True),
    "dense+bank": Entry("all cues: the detector's default", lambda settings, kinds: OwnMethod(settings, kinds, None)),
    "course-zeroshot": Entry(
        "global embedding against normal means and synthetic anomalies", _course_zeroshot, random=True, whole=True
    ),
    "course-fewshot": Entry("linear head on the global embedding", _course_fewshot, random=True, whole=True),
    "anomalib-patchcore": Entry(
        "anomalib's PatchCore on the same weights", _anomalib_patchcore, random=True, whole=True
    ),
    "anomalib-winclip": Entry("anomalib's WinCLIP on the same weights", _anomalib_winclip, zero_shot=True, whole=True),
}

DEFAULT_METHODS = ("dense", "bank", "texture", "imagenet", "random-vit", "dense+bank")
COURSE_METHODS = (*DEFAULT_METHODS, "course-zeroshot", "course-fewshot")
