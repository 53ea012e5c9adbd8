"""A threshold from the scores of normal images alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: Where a threshold may come from: see `Detector.threshold_source`.
SOURCES = ("model", "uncalibrated", "fit", "calibrate", "user")


@dataclass(frozen=True)
class Threshold:
    """Attributes: value; source, one of `SOURCES`; guaranteed, whether its false-positive rate is."""

    value: float
    source: str
    guaranteed: bool = False


def from_normal_scores(scores: np.ndarray, rate: float, source: str) -> Threshold:
    """The smallest threshold that a new normal image exceeds with probability `rate` at most.

    With n scores it is the one of rank k = ceil((n + 1)(1 - rate)) (split conformal prediction), which holds for
    any distribution. Where k > n, that is n < 1 / rate - 1, no such rank exists: then it is the upper limit that a
    normal distribution predicts for one more score, and at least the largest score.

    Args:
        scores: (n,) of normal images, n >= 2.
        rate: in (0, 1).
        source: "fit" (leave-one-out scores, nearly exchangeable with new ones but not quite: never guaranteed) or
            "calibrate".

    Raises:
        ValueError: fewer than two scores, or a rate outside (0, 1).
    """
    if not 0 < rate < 1:
        raise ValueError(f"expected a false-positive rate between 0 and 1, got {rate}")
    count = len(scores)
    if count < 2:
        raise ValueError(f"expected at least 2 normal images for a threshold, got {count}: add more")
    ordered = np.sort(np.asarray(scores, np.float64))
    rank = math.ceil((count + 1) * (1 - rate) - 1e-9)
    if rank <= count:
        return Threshold(float(ordered[rank - 1]), source, guaranteed=source == "calibrate")
    from scipy.special import stdtrit  # scipy.stats has it too, and takes a second to import

    quantile = float(stdtrit(count - 1, 1 - rate))
    predicted = ordered.mean() + quantile * ordered.std(ddof=1) * math.sqrt(1 + 1 / count)
    return Threshold(float(max(predicted, ordered[-1])), source)
