"""A threshold from the scores of normal images alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: A usual spread counts as much as so many more scores.
_USUAL_COUNTS = 4

#: A score further from the middle than so many deviations counts as if it were there.
_FARTHEST = 1.5

#: What that keeps of a normal distribution's variance (Huber's proposal 2). Left-out scores are a little high already,
#: for each image has one fewer to be compared with, so it is not made up for there: on synthetic products a rate of 5 %
#: comes out as 4.1 to 6.5 %, and as 2.7 to 5.3 % where it is.
_VARIANCE_KEPT = {"fit": 1.0, "calibrate": 0.7784655}


@dataclass(frozen=True)
class Threshold:
    """Attributes: value; source, see `Detector.threshold_source`; guaranteed, whether its false-positive rate is."""

    value: float
    source: str
    guaranteed: bool = False


def images_needed(rate: float) -> int:
    """How many normal scores fix a threshold for that false-positive rate."""
    return math.ceil(1 / rate - 1 - 1e-9)


def from_normal_scores(
    scores: np.ndarray, rate: float, source: str, *, images: int | None = None, usual_spread: float | None = None
) -> Threshold:
    """The smallest threshold that a new normal image exceeds with probability `rate` at most.

    With n scores, each of an image of its own, it is the one of rank k = ceil((n + 1)(1 - rate)) (split conformal
    prediction), which holds for any distribution. Where k > n, that is n < 1 / rate - 1, no such rank exists: then it
    is the upper limit that Student's t predicts for one more score, on the scale of log odds, from a mean and a
    deviation in which a score far from the others counts no more than one at 1.5 deviations (Huber, proposal 2): an
    image that is unlike the few others when it is left out must not hide all defects.

    Args:
        scores: (n,) in [0, 1] of normal images, n >= 2.
        rate: in (0, 1).
        source: "fit" (leave-one-out scores, nearly exchangeable with new ones but not quite: never guaranteed) or
            "calibrate".
        images: how many images they are of, where they are of variations; None is n.
        usual_spread: deviation of the scores' log odds among normal images in general; counts as four more scores.

    Raises:
        ValueError: fewer than two scores, or a rate outside (0, 1).
    """
    if not 0 < rate < 1:
        raise ValueError(f"expected a false-positive rate between 0 and 1, got {rate}")
    count = len(scores)
    if count < 2:
        raise ValueError(f"expected at least 2 normal images for a threshold, got {count}: add more")
    images = min(images or count, count)
    ordered = np.sort(np.asarray(scores, np.float64))
    if images == count >= images_needed(rate):
        rank = math.ceil((count + 1) * (1 - rate) - 1e-9)
        return Threshold(float(ordered[rank - 1]), source, guaranteed=source == "calibrate")
    from scipy.special import expit, logit, stdtrit  # scipy.stats has Student's t too, and takes a second to import

    odds = logit(ordered.clip(1e-6, 1 - 1e-6))
    centre, deviation = _winsorised(odds, _VARIANCE_KEPT[source], usual_spread)
    degrees = count - 1 if usual_spread is None else images - 1 + _USUAL_COUNTS
    limit = centre + stdtrit(degrees, 1 - rate) * deviation * math.sqrt(1 + 1 / images)
    return Threshold(float(expit(limit)), source)


def _winsorised(values: np.ndarray, kept: float, usual_spread: float | None) -> tuple[float, float]:
    """Mean and deviation of (n,) values, n >= 2, whatever lies far out (Huber, proposal 2), which leaves `kept` of the
    variance."""
    prior, prior_count = (0.0, 0) if usual_spread is None else (usual_spread, _USUAL_COUNTS)
    centre, deviation = float(np.median(values)), prior or float(values.std(ddof=1))
    for _ in range(50):
        near = values.clip(centre - _FARTHEST * deviation, centre + _FARTHEST * deviation)
        centre = float(near.mean())
        squares = float(np.square(near - centre).sum())
        deviation = math.sqrt((prior_count * prior**2 + squares / kept) / (prior_count + len(values) - 1))
    return centre, deviation
