"""A threshold from the scores of normal images alone, and the warnings about how much it is worth."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

#: The usual spread counts as much as this many more scores.
_PRIOR_SCORES = 4

#: A score further from the centre than this many deviations counts as if it were there (Huber).
_WINSOR_DEVIATIONS = 1.5

#: What that keeps of a normal distribution's variance (Huber's proposal 2). Leave-one-out scores are a little high
#: already, since each image has one fewer to be compared with, so it is not corrected there: on synthetic products a
#: rate of 5 % comes out as 4.1 to 6.5 %, and as 2.7 to 5.3 % where it is.
_VARIANCE_KEPT = {"fit": 1.0, "calibrate": 0.7784655}

#: Before `fit` and `calibrate`, where the model brings no threshold.
UNCALIBRATED_VALUE = 0.5


@dataclass(frozen=True)
class Threshold:
    """Where the score of an anomalous image begins.

    Attributes:
        value: in [0, 1]; higher scores are anomalous.
        source: see `Detector.threshold_source`.
        guaranteed: whether its false-positive rate holds for new normal images of the same kind.
    """

    value: float
    source: str
    guaranteed: bool = False


@dataclass(frozen=True, eq=False)
class NormalScores:
    """Scores of normal images that the banks were not made from.

    Attributes:
        scores: (n,) in [0, 1].
        image_count: of how many images they are; fewer than n where some are of variations of one image.
        left_out: (n,) bool, whether each is of an image compared with the others; False for a variation.
    """

    scores: np.ndarray
    image_count: int
    left_out: np.ndarray


def images_needed(rate: float) -> int:
    """How many normal scores fix a threshold for that false-positive rate."""
    return math.ceil(1 / rate - 1 - 1e-9)


def fit_threshold(normals: NormalScores, rate: float, *, usual_spread: float | None) -> Threshold:
    """From leave-one-out scores; warns where there are too few.

    Variations of the only image of a class vary less than images do: they are left out where the other images suffice.
    """
    scores, image_count = normals.scores, normals.image_count
    if normals.left_out.sum() >= images_needed(rate):
        scores = scores[normals.left_out]
    image_count = min(image_count, len(scores))
    threshold = from_normal_scores(scores, rate, "fit", image_count=image_count, usual_spread=usual_spread)
    _warn_of_extrapolation(threshold, image_count, len(scores), rate)
    return threshold


def calibrate_threshold(
    images: Sequence[tuple[float, str]], fitted_images: Collection[str], rate: float, *, usual_spread: float | None
) -> Threshold:
    """From normal images that `fit` has not seen; warns where there are too few, or copies.

    Args:
        images: score and fingerprint of each.
        fitted_images: fingerprints of the images that `fit` has seen.
    """
    scores = [score for score, _ in images]
    new_images = {fingerprint for _, fingerprint in images} - set(fitted_images)
    copies = len(images) - len(new_images)
    if copies:
        warnings.warn(
            f"calibrate: {copies} of {len(scores)} images are copies of each other or of those that fit has seen, "
            "and the threshold may be too low: take new images",
            stacklevel=4,
        )
    threshold = from_normal_scores(np.array(scores), rate, "calibrate", usual_spread=usual_spread)
    _warn_of_extrapolation(threshold, len(scores), len(scores), rate)
    if copies:
        return replace(threshold, guaranteed=False)
    return threshold


def _warn_of_extrapolation(threshold: Threshold, image_count: int, score_count: int, rate: float) -> None:
    needed = images_needed(rate)
    if image_count >= max(needed, score_count):
        return
    images = "one normal image" if image_count == 1 else f"{image_count} normal images"
    reason = f"which takes {needed}" if image_count < needed else "but images alone in their class do not count"
    warnings.warn(
        f"{threshold.source}: {images} cannot fix a false-positive rate of {rate:g}, {reason}: the threshold "
        f"{threshold.value:.4f} is an extrapolation; calibrate with {needed} new images, or set it",
        stacklevel=5,
    )


def from_normal_scores(
    scores: np.ndarray,
    rate: float,
    source: str,
    *,
    image_count: int | None = None,
    usual_spread: float | None = None,
) -> Threshold:
    """The smallest threshold that a new normal image exceeds with probability `rate` at most.

    With n scores, each of another image, it is the one of rank k = ceil((n + 1)(1 - rate)) (split conformal
    prediction), which holds for any distribution. Where k > n, that is n < 1 / rate - 1, no such rank exists: then it
    is the upper limit that Student's t predicts for one more score, on the scale of log odds, from a mean and a
    deviation in which a score far from the others counts no more than one at 1.5 deviations (Huber, proposal 2): an
    image that is unlike the few others when it is left out must not hide all defects.

    Args:
        scores: (n,) in [0, 1] of normal images, n >= 2.
        rate: in (0, 1).
        source: "fit" (leave-one-out scores, nearly exchangeable with new ones but not quite: never guaranteed) or
            "calibrate".
        image_count: of how many images they are, where they are of variations; None is n.
        usual_spread: deviation of the scores' log odds among normal images in general; counts as four more scores.

    Raises:
        ValueError: fewer than two scores, or a rate outside (0, 1).
    """
    if not 0 < rate < 1:
        raise ValueError(f"expected a false-positive rate between 0 and 1, got {rate}")
    count = len(scores)
    if count < 2:
        raise ValueError(f"expected at least 2 normal images for a threshold, got {count}: add more")
    image_count = min(image_count or count, count)
    ordered = np.sort(np.asarray(scores, np.float64))
    if image_count == count >= images_needed(rate):
        rank = math.ceil((count + 1) * (1 - rate) - 1e-9)
        return Threshold(float(ordered[rank - 1]), source, guaranteed=source == "calibrate")
    from scipy.special import expit, logit, stdtrit  # scipy.stats has Student's t too, and takes a second to import

    log_odds = logit(ordered.clip(1e-6, 1 - 1e-6))
    centre, deviation = _winsorised(log_odds, _VARIANCE_KEPT[source], usual_spread)
    degrees = count - 1 if usual_spread is None else image_count - 1 + _PRIOR_SCORES
    limit = centre + stdtrit(degrees, 1 - rate) * deviation * math.sqrt(1 + 1 / image_count)
    return Threshold(float(expit(limit)), source)


def _winsorised(values: np.ndarray, variance_kept: float, usual_spread: float | None) -> tuple[float, float]:
    """Mean and deviation of (n,) values, n >= 2, limited in how far each counts (Huber, proposal 2), which leaves
    `variance_kept` of the variance."""
    prior_deviation, prior_count = (0.0, 0) if usual_spread is None else (usual_spread, _PRIOR_SCORES)
    centre = float(np.median(values))
    deviation = prior_deviation or float(values.std(ddof=1))
    for _ in range(50):
        reach = _WINSOR_DEVIATIONS * deviation
        limited = values.clip(centre - reach, centre + reach)
        centre = float(limited.mean())
        squares = float(np.square(limited - centre).sum()) / variance_kept
        deviation = math.sqrt((prior_count * prior_deviation**2 + squares) / (prior_count + len(values) - 1))
    return centre, deviation
