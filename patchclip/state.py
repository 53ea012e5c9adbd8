"""What a detector has learnt, and how it is looked at: banks, weights, normal scores and the threshold."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING

from .normal_scores import NormalScore
from .threshold import Threshold

if TYPE_CHECKING:
    from .scoring.kinds import DefectKinds, Examples
    from .scoring.memory import Fitted, Memory


class ThresholdState:
    """The threshold of a detector, which may be set, and what it comes from."""

    def __init__(self, threshold: Threshold):
        self._threshold = threshold

    @property
    def normal_scores_(self) -> tuple[NormalScore, ...]:
        """Name, score in [0, 1] and more of each image that `fit` or `calibrate` set the threshold by; else empty."""
        return self._threshold.normal_scores

    @property
    def threshold(self) -> float:
        """Scores above it are anomalous. May be set."""
        return self._threshold.value

    @threshold.setter
    def threshold(self, value: float) -> None:
        if not isinstance(value, Real) or not 0 <= value <= 1:
            raise ValueError(f"expected a number between 0 and 1 as threshold, got {value!r}")
        self._threshold = Threshold(float(value), "user", normal_scores=self.normal_scores_)

    @property
    def threshold_source(self) -> str:
        """ "model" (set on synthetic images), "uncalibrated" (0.5), "fit", "fit_unlabelled", "calibrate" or "user"."""
        return self._threshold.source

    @property
    def threshold_guaranteed(self) -> bool:
        """Whether the stated false-positive rate holds for new normal images of the same kind."""
        return self._threshold.guaranteed


class DetectorState(ThresholdState):
    """What fitting and calibrating leave in a `Detector`; all of it read-only but the threshold.

    Args:
        threshold: before any fit.
    """

    def __init__(self, threshold: Threshold):
        super().__init__(threshold)
        self._fitted: Fitted | None = None
        self._examples: Examples | None = None

    @property
    def memory_(self) -> Memory | None:
        """The banks of each class, (N, D) float32 vectors each; None before `fit`."""
        return self._fitted.memory if self._fitted else None

    @property
    def weights_(self) -> dict[str, float]:
        """Cue -> weight in the heatmap, together 1; empty before `fit` and with recipe "winclip"."""
        return dict(self._fitted.cue_weights) if self._fitted else {}

    @property
    def levels_(self) -> tuple[float, ...]:
        """(classes,) floats, where heatmaps of each class are one half; empty for fewer than two classes."""
        return self._fitted.class_levels if self._fitted else ()

    @property
    def classes_(self) -> tuple[str, ...]:
        """Names of the classes it was fitted with; empty without."""
        return self._fitted.class_names if self._fitted else ()

    @property
    def kinds_(self) -> dict[str, int]:
        """Kind of defect -> how many examples of it were taught; empty without."""
        learnt = self._learnt_kinds
        return {} if learnt is None else dict(zip(learnt.names, learnt.counts, strict=True))

    @property
    def _learnt_kinds(self) -> DefectKinds | None:
        return None if self._examples is None else self._examples.learnt
