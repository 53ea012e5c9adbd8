"""A threshold from the scores of normal images alone, and the warnings about how much it is worth.

An image among the normal ones whose score is far above the rest may show a defect: it is named in a warning, and left
out of the threshold.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .normal_scores import IMAGE, UNLIKE, VARIATION, NormalScore

#: The usual spread counts as much as this many more scores.
_PRIOR_SCORES = 4

#: A score further from the centre than this many deviations counts as if it were there (Huber).
_WINSOR_DEVIATIONS = 1.5

#: What that keeps of a normal distribution's variance (Huber's proposal 2). Leave-one-out scores are a little high
#: already, since each image has one fewer to be compared with, so it is not corrected there: on synthetic products a
#: rate of 5 % comes out as 2.5 to 4.4 % (docs/thresholds.md), and correcting it lowers it further.
_VARIANCE_KEPT = {"fit": 1.0, "fit_unlabelled": 1.0, "calibrate": 0.7784655}

#: The log odds of a normal image's score fall by so much for each unit of the logarithm of the number of images in the
#: banks: 0.12 to 0.21 within fitted images.
_FALL_WITH_BANK = 0.15

#: In so many sets of good images one would count as unlike the rest, were the upper half of the log odds that of a
#: normal distribution. Its tail is longer: of synthetic sets it is up to 3 % after a fit (benchmarks/CHOICES.md).
_UNLIKE_RATE = 0.005

#: At most this share of the scores, the highest, can be unlike the rest; one in any case.
_MOST_UNLIKE = 0.25

#: At most this share, rounded up, is left out of a threshold, or exceeds that of `fit`: more may be normal images of a
#: second kind. After `fit_unlabelled` it is the share that may be anomalous.
MOST_LEFT_OUT = 0.1

#: Classes of fewer images are judged together, on the scale that they share.
_LEAST_CLASS = 6

#: The limit that lowers the threshold of `fit` is for a rate so many times smaller.
_LIMIT_RATE_DIVISOR = 10

#: Log odds that differ less than this on average differ by rounding.
_LEAST_DEVIATION = 0.02

#: A warning names as many images.
_MOST_NAMED = 5

#: Before `fit` and `calibrate`, where the model brings no threshold.
UNCALIBRATED_VALUE = 0.5


#: Where a threshold can come from, see `Detector.threshold_source`.
SOURCES = ("model", "uncalibrated", "fit", "fit_unlabelled", "calibrate", "user")


@dataclass(frozen=True)
class Threshold:
    """Where the score of an anomalous image begins.

    Attributes:
        value: in [0, 1]; higher scores are anomalous.
        source: see `Detector.threshold_source`.
        guaranteed: whether its false-positive rate holds for new normal images of the same kind.
        normal_scores: of the images of the last `fit` or `calibrate`.
    """

    value: float
    source: str
    guaranteed: bool = False
    normal_scores: tuple[NormalScore, ...] = ()

    @classmethod
    def from_saved(cls, value: Any, source: Any, guaranteed: Any, normal_scores: Iterable[Any]) -> Threshold:
        """From what a file holds. Raises TypeError or ValueError for other values."""
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= 1 or source not in SOURCES or not isinstance(guaranteed, bool):
            raise ValueError(f"a threshold of {[value, source, guaranteed]}")
        return cls(float(value), source, guaranteed, tuple(NormalScore.from_saved(*saved) for saved in normal_scores))


def images_needed(rate: float) -> int:
    """How many normal scores fix a threshold for that false-positive rate."""
    return math.ceil(1 / rate - 1 - 1e-9)


def threshold_of(
    normals: Sequence[NormalScore],
    rate: float,
    source: str,
    *,
    usual_spread: float | None,
    most_left_out: float = MOST_LEFT_OUT,
) -> Threshold:
    """By `from_normal_scores`; warns of images that are unlike the rest, and where there are too few.

    Images that are unlike the rest of their class (`unlike_the_rest`) are left out where they are few enough, and
    nothing is guaranteed then. Variations vary less than images do: they are left out where images suffice.

    Args:
        normals: of any kind but "unlike".
        rate, source, usual_spread, most_left_out: see `from_normal_scores`.
    """
    marked = _mark_unlike(normals, usual_spread, most_left_out)
    images = [normal for normal in marked if normal.counts and normal.kind != VARIATION]
    if len(images) >= images_needed(rate):
        marked = [replace(normal, counts=False) if normal.kind == VARIATION else normal for normal in marked]
    counted = [normal for normal in marked if normal.counts]
    classes_of_one = {normal.class_name for normal in counted if normal.kind == VARIATION}
    image_count = len(images) + len(classes_of_one)
    scores = np.array([normal.score for normal in counted])
    if source != "calibrate" and len(images) < images_needed(rate):
        scores = _against_whole_banks(scores, counted)
    threshold = from_normal_scores(
        scores, rate, source, image_count=image_count, usual_spread=usual_spread, most_left_out=most_left_out
    )
    if source != "fit_unlabelled":  # where some are expected to be anomalous
        _warn_of_unlike(marked, source)
    _warn_of_extrapolation(threshold, image_count, len(scores), rate)
    has_left_out = any(normal.kind == UNLIKE and not normal.counts for normal in marked)
    guaranteed = threshold.guaranteed and not has_left_out
    return replace(threshold, guaranteed=guaranteed, normal_scores=tuple(marked))


def most_of(share: float, count: int) -> int:
    """How many of `count` images a share of them is, rounded up but never all; 7 of 100 for 0.07, by any float."""
    return min(math.ceil(share * count - 1e-9), count - 1)


def _mark_unlike(normals: Sequence[NormalScore], usual_spread: float | None, most_left_out: float) -> list[NormalScore]:
    """The same with those that are unlike the rest as such; few of them do not count."""
    indices = [index for index, normal in enumerate(normals) if normal.kind == IMAGE]
    sizes = Counter(normals[index].class_name for index in indices)
    groups = defaultdict(list)
    for index in indices:
        class_name = normals[index].class_name
        is_small = sizes[class_name] < _LEAST_CLASS
        groups[None if is_small else class_name].append(index)
    unlike = []
    for group in groups.values():
        scores = [normals[index].score for index in group]
        for position in unlike_the_rest(scores, _UNLIKE_RATE / len(groups), usual_spread=usual_spread):
            unlike.append(group[position])
    are_few = len(unlike) <= most_of(most_left_out, len(indices))
    marked = list(normals)
    for index in unlike:
        marked[index] = replace(normals[index], kind=UNLIKE, counts=not are_few)
    return marked


def _against_whole_banks(scores: np.ndarray, normals: Sequence[NormalScore]) -> np.ndarray:
    """What leave-one-out scores would be with as many images in the banks as a new image is compared with."""
    from scipy.special import expit, logit  # see from_normal_scores

    sizes = Counter(normal.class_name for normal in normals if normal.kind == IMAGE)
    excess = np.zeros(len(scores))
    for index, normal in enumerate(normals):
        size = sizes[normal.class_name]
        if normal.kind == IMAGE and size > 1:
            excess[index] = _FALL_WITH_BANK * math.log(size / (size - 1))
    return expit(logit(scores.clip(1e-6, 1 - 1e-6)) - excess)


def unlike_the_rest(scores: Sequence[float], rate: float, *, usual_spread: float | None) -> list[int]:
    """Which scores of normal images are far above the others, by the generalized extreme Studentized deviate test
    (Rosner, Technometrics 25, 1983).

    The k highest are, where the lowest of them exceeds Student's upper prediction limit of the scores below: for the
    largest such k up to a quarter of all. The limit is on the scale of log odds, from the median and from the deviation
    of the upper half, since scores are skewed to the right.

    Args:
        scores: (n,) in [0, 1].
        rate: how often a set has one where none is; for a normal distribution.
        usual_spread: see `from_normal_scores`.

    Returns:
        Indices, the highest first; none of fewer than three scores.
    """
    from scipy.special import logit, stdtrit  # see from_normal_scores

    order = np.argsort(scores)[::-1]
    descending = logit(np.clip(scores, 1e-6, 1 - 1e-6))[order]
    unlike_count = 0
    for count in range(1, max(1, int(_MOST_UNLIKE * len(scores))) + 1):
        rest = descending[count:]
        if len(rest) < 2:
            break
        median = np.median(rest)
        squares = float(np.square((rest - median).clip(min=0)).sum())
        degrees = (len(rest) - 1) / 2  # half of the scores count
        if usual_spread is not None:
            squares += _PRIOR_SCORES * usual_spread**2
            degrees += _PRIOR_SCORES
        deviation = max(math.sqrt(squares / degrees), _LEAST_DEVIATION)
        limit = stdtrit(degrees, 1 - rate / (len(rest) + 1)) * deviation * math.sqrt(1 + 1 / len(rest))
        if descending[count - 1] - median > limit:
            unlike_count = count
    return order[:unlike_count].tolist()


def _warn_of_unlike(normals: Sequence[NormalScore], source: str) -> None:
    unlike = sorted((normal for normal in normals if normal.kind == UNLIKE), key=lambda normal: -normal.score)
    if not unlike:
        return
    scores = [normal.score for normal in normals if normal.kind in (IMAGE, UNLIKE)]
    described = []
    for normal in unlike[:_MOST_NAMED]:
        whose = "" if normal.class_name is None else f" of class {normal.class_name!r}"
        described.append(f"{normal.name}{whose} with {normal.score:.4f}")
    if len(unlike) > _MOST_NAMED:
        described.append(f"{len(unlike) - _MOST_NAMED} more, see normal_scores_")
    consequence = "left out of the threshold"
    if unlike[0].counts:
        consequence = "too many to be left out of the threshold, which may be too high"
    warnings.warn(
        f"{source}: unlike the rest of {len(scores)} normal images, whose median score is {np.median(scores):.4f}: "
        f"{', '.join(described)}; {consequence}. Look at them, and {source} again without those that show a defect",
        stacklevel=5,
    )


def _warn_of_extrapolation(threshold: Threshold, image_count: int, score_count: int, rate: float) -> None:
    needed = images_needed(rate)
    if image_count >= max(needed, score_count):
        return
    images = "one normal image" if image_count == 1 else f"{image_count} normal images"
    reason = f"which takes {needed}" if image_count < needed else "since images alone in their class do not count"
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
    most_left_out: float = MOST_LEFT_OUT,
) -> Threshold:
    """The smallest threshold that a new normal image exceeds with probability `rate` at most.

    With n scores, each of another image, it is the one of rank k = ceil((n + 1)(1 - rate)) (split conformal
    prediction), which holds for any distribution. Where k > n, that is n < 1 / rate - 1, no such rank exists: then it
    is the upper limit that Student's t predicts for one more score, on the scale of log odds, from a mean and a
    deviation in which a score far from the others counts no more than one at 1.5 deviations (Huber, proposal 2): an
    image that is unlike the few others when it is left out must not hide all defects.

    After a fit and with a usual spread the threshold is at most that limit for a tenth of the rate, but no lower than
    `most_left_out` of the scores exceed: an image that is bad and not far enough from the rest to be left out hides
    fewer defects then.

    Args:
        scores: (n,) in [0, 1] of normal images, n >= 2.
        rate: in (0, 1).
        source: "fit", "fit_unlabelled" (leave-one-out scores, nearly exchangeable with new ones but not quite: never
            guaranteed) or "calibrate".
        image_count: of how many images they are, where they are of variations; None is n.
        usual_spread: deviation of the scores' log odds among normal images in general; counts as four more scores.
        most_left_out: share of the images, rounded up, that may be unlike the rest.

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
    if image_count != count or count < images_needed(rate):
        return Threshold(_upper_limit(ordered, rate, source, image_count, usual_spread), source)
    rank = math.ceil((count + 1) * (1 - rate) - 1e-9)
    value = float(ordered[rank - 1])
    if source != "calibrate" and usual_spread is not None:
        limit = _upper_limit(ordered, rate / _LIMIT_RATE_DIVISOR, source, count, usual_spread)
        lowest = float(ordered[-1 - most_of(most_left_out, count)])
        value = min(value, max(limit, lowest))
    return Threshold(value, source, guaranteed=source == "calibrate")


def _upper_limit(ordered: np.ndarray, rate: float, source: str, image_count: int, usual_spread: float | None) -> float:
    """Student's upper prediction limit for one more score, robust against a few that are far from the others."""
    from scipy.special import expit, logit, stdtrit  # scipy.stats has Student's t too, and takes a second to import

    log_odds = logit(ordered.clip(1e-6, 1 - 1e-6))
    centre, deviation = _winsorised(log_odds, _VARIANCE_KEPT[source], usual_spread)
    degrees = len(ordered) - 1 if usual_spread is None else image_count - 1 + _PRIOR_SCORES
    limit = centre + stdtrit(degrees, 1 - rate) * deviation * math.sqrt(1 + 1 / image_count)
    return float(expit(limit))


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
