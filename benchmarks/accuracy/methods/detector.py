"""patchclip's Detector with some of its cues."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from accuracy.methods.base import Prediction, References, Settings
from patchclip import DEFAULT_DEFECTS, Detector, ImageError


class DetectorMethod:
    """A Detector, fitted anew for each draw of references.

    Args:
        kinds: of defects, as the data set names them.
        cues: None is the detector's default.
    """

    def __init__(
        self,
        settings: Settings,
        kinds: Sequence[str],
        *,
        cues: tuple[str, ...] | None = None,
        recipe: Literal["dense", "winclip"] = "dense",
    ):
        self.settings = settings
        self.kinds = kinds
        self.cues = cues
        self.recipe: Literal["dense", "winclip"] = recipe
        self._fitted = False
        self._start()

    def fit(self, references: References, *, seed: int) -> None:
        if not references:
            if self._fitted:
                self._start()
                self._fitted = False
            return
        classes = {name: list(paths) for name, paths in references.items() if name is not None}
        with warnings.catch_warnings():  # the row says itself how far the threshold is to be trusted
            warnings.filterwarnings("ignore", message="fit: ")
            self.detector.fit(classes or list(references[None]), progress=False)
        self._fitted = True
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
        self.notes: dict[str, object] = {
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
    """A Detector that names the data set's kinds of defect, where it tells them apart."""
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


def make_bare_detector(settings: Settings) -> Detector:
    """The model without banks: for its network alone."""
    return make_detector(settings, cues=("text",))
