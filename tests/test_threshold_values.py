"""Thresholds from scores alone: by rank, by hand, and how often new scores exceed them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from patchclip.threshold import from_normal_scores, images_needed


@pytest.mark.parametrize(("rate", "count"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.3, 3), (0.5, 1)])
def test_so_many_images_fix_a_rate(rate: float, count: int) -> None:
    assert images_needed(rate) == count
    scores = np.arange(1, max(count, 2) + 1) / 200
    assert from_normal_scores(scores[-count:] if count > 1 else scores, rate, "calibrate").guaranteed


def test_conformal_threshold_by_rank() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, 100) / 100)  # n = 99
    found = from_normal_scores(scores, 0.05, "calibrate")
    assert (found.value, found.guaranteed) == (0.95, True)  # rank ceil(100 * 0.95) = 95
    assert from_normal_scores(scores, 0.01, "calibrate").value == 0.99
    assert not from_normal_scores(scores, 0.05, "fit").guaranteed


def test_conformal_threshold_holds_on_new_scores() -> None:
    rng = np.random.default_rng(1)
    exceeded = [rng.gamma(2) > from_normal_scores(rng.gamma(2, size=39), 0.1, "calibrate").value for _ in range(4000)]
    assert abs(np.mean(exceeded) - 0.1) < 0.02


def test_few_scores_extrapolate_on_log_odds() -> None:
    odds = np.array([-2.3, -2.0, -1.7, -2.0])  # none beyond 1.5 deviations: mean -2, deviation 0.2449 / 0.7785^0.5
    scores = 1 / (1 + np.exp(-odds))
    found = from_normal_scores(scores, 0.05, "calibrate")
    # t of 3 degrees of freedom at 0.95 is 2.3534
    assert math.log(found.value / (1 - found.value)) == pytest.approx(-2 + 2.3534 * 0.27762 * math.sqrt(1.25), abs=1e-3)
    assert not found.guaranteed
    assert from_normal_scores(np.array([0.3, 0.3]), 0.05, "fit").value == pytest.approx(0.3)
    # with a usual spread of 0.5, worth four scores: deviation sqrt((4 * 0.25 + 0.18) / 7), t of 7 is 1.8946
    found = from_normal_scores(scores, 0.05, "fit", usual_spread=0.5)
    expected = -2 + 1.8946 * math.sqrt(1.18 / 7) * math.sqrt(1.25)
    assert math.log(found.value / (1 - found.value)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("spread", [None, 0.3])
def test_the_limit_of_few_scores_is_exceeded_as_often_as_it_says(spread: float | None) -> None:
    rng = np.random.default_rng(2)

    def exceeded(count: int, rate: float) -> float:
        scores = 1 / (1 + np.exp(2 - 0.3 * rng.standard_normal((600, count + 1))))
        limits = [from_normal_scores(row[:-1], rate, "calibrate", usual_spread=spread).value for row in scores]
        return float(np.mean(scores[:, -1] > limits))

    assert exceeded(6, 0.1) == pytest.approx(0.1, abs=0.03)
    assert exceeded(18, 0.05) == pytest.approx(0.05, abs=0.025)
    assert exceeded(50, 0.01) < 0.025


def test_variations_of_few_images_count_as_those() -> None:
    scores = np.random.default_rng(0).uniform(0.1, 0.2, 24)
    one, four = (from_normal_scores(scores, 0.05, "fit", image_count=n, usual_spread=0.2).value for n in (1, 4))
    assert one > four > from_normal_scores(scores, 0.05, "fit", usual_spread=0.2).value


def test_one_odd_image_does_not_hide_the_defects() -> None:
    usual = np.array([0.13, 0.14, 0.15, 0.12, 0.13, 0.16, 0.14])
    alone, beside = (from_normal_scores(np.append(usual, odd), 0.05, "fit").value for odd in (0.15, 0.6))
    assert usual.max() < alone < beside < 0.3
    assert from_normal_scores(np.append(usual, 0.99), 0.05, "fit").value == pytest.approx(beside)


@pytest.mark.parametrize(("count", "rate", "reason"), [(1, 0.05, "at least 2"), (5, 0.0, "rate"), (5, 1.0, "rate")])
def test_impossible_thresholds(count: int, rate: float, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_normal_scores(np.zeros(count), rate, "fit")


def test_quantile_of_an_extrapolated_threshold_is_students() -> None:
    odds = np.array([-2.2, -1.7, -2.1, -2.0])  # none so far out that it is brought in
    expected = odds.mean() + stats.t.ppf(0.99, 3) * odds.std(ddof=1) * np.sqrt(1.25)
    found = from_normal_scores(1 / (1 + np.exp(-odds)), 0.01, "fit").value
    assert found == pytest.approx(1 / (1 + np.exp(-expected)), rel=1e-9)
