"""Where the scores of a batch part into two groups, if they do."""

from __future__ import annotations

import math

import numpy as np

#: Fewer scores tell nothing.
_LEAST_SCORES = 8

#: The lower group has at least this share of the scores, the upper one at least so many.
_LEAST_LOWER_SHARE = 0.2
_LEAST_UPPER = 2

#: A group's log odds are taken to vary at least so much: a few equal scores are no group.
_LEAST_DEVIATION = 0.05

#: By how much two groups must describe the scores better than one, in log likelihood for each score. Of 44 synthetic
#: batches of 40 images without a defect two part further, of 44 with 20 images three.
_LEAST_GAIN = 0.3

#: The gain of batches without a defect exceeds x about as often as exp(-x / this).
_GAIN_SCALE = 0.1


def find_gap(scores: np.ndarray) -> tuple[float, float] | None:
    """A value between two groups of scores, and how sure it is that there are two.

    The log odds are cut where two normal distributions, with a mean, a deviation and a weight for each side, are the
    likeliest.

    Args:
        scores: (n,) in [0, 1].

    Returns:
        The middle between the two scores beside the cut, and the share in [0, 1] of batches without a defect that would
        part less, by synthetic ones: 0.95 and above. None where the scores do not part so far, and of fewer than eight.
    """
    count = len(scores)
    if count < _LEAST_SCORES:
        return None
    ordered = np.sort(np.asarray(scores, np.float64))
    clipped = ordered.clip(1e-6, 1 - 1e-6)
    log_odds = np.log(clipped / (1 - clipped))
    alone = math.log(_deviation(log_odds))
    best_gain, best_position = 0.0, 0
    for position in range(math.ceil(_LEAST_LOWER_SHARE * count), count - _LEAST_UPPER + 1):
        lower_share = position / count
        lower = lower_share * math.log(_deviation(log_odds[:position]) / lower_share)
        upper = (1 - lower_share) * math.log(_deviation(log_odds[position:]) / (1 - lower_share))
        gain = alone - lower - upper
        if gain > best_gain:
            best_gain, best_position = gain, position
    if best_gain < _LEAST_GAIN:
        return None
    cut = float(ordered[best_position - 1 : best_position + 1].mean())
    return cut, 1 - math.exp(-best_gain / _GAIN_SCALE)


def _deviation(values: np.ndarray) -> float:
    return max(float(values.std()), _LEAST_DEVIATION)
