"""Where scores part: values by hand, no gap where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit

from patchclip.scoring.gap import find_gap


def test_two_groups_by_hand() -> None:
    """Six log odds at -3 +- 0.1 and four at -1 +- 0.1: a deviation of 0.1 in both, of all it is
    sqrt(0.01 + 0.24 * 4)."""
    log_odds = np.array([-3.1, -2.9] * 3 + [-1.1, -0.9] * 2)
    scores = expit(log_odds)
    found = find_gap(scores)
    assert found is not None
    cut, confidence = found
    assert cut == pytest.approx((expit(-2.9) + expit(-1.1)) / 2)
    gain = math.log(math.sqrt(0.97)) - math.log(0.1) + 0.6 * math.log(0.6) + 0.4 * math.log(0.4)
    assert confidence == pytest.approx(1 - math.exp(-gain / 0.1))
    assert find_gap(scores[::-1]) == found
    assert find_gap(scores[:7]) is None  # too few


def test_the_lower_group_is_a_fifth_at_least() -> None:
    """An image below all others, as a blank one is, is no group of normal images."""
    upper = np.linspace(-1.3, -0.7, 20)
    for count, parts in ((1, False), (6, True)):
        lower = np.linspace(-3.1, -2.9, count)
        found = find_gap(expit(np.concatenate([lower, upper])))
        assert (found is not None) == parts
        if found is not None:
            assert found[0] == pytest.approx((expit(-2.9) + expit(-1.3)) / 2)


@pytest.mark.parametrize("count", [20, 40, 400])
def test_one_group_seldom_parts(count: int) -> None:
    rng = np.random.default_rng(0)
    parted = sum(find_gap(expit(rng.normal(-2, 0.3, count))) is not None for _ in range(50))
    assert parted <= 2
    assert find_gap(np.full(count, 0.2)) is None
    assert find_gap(np.linspace(0.1, 0.3, count)) is None
