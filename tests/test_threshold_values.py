"""Thresholds from scores alone: by rank, by hand, and how often new scores exceed them; and by class."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from patchclip.normal_scores import NormalScore
from patchclip.threshold import from_normal_scores, images_needed, threshold_of, unlike_the_rest


@pytest.mark.parametrize(("rate", "count"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.3, 3), (0.5, 1), (1 / 49, 48)])
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
    # 50 * 0.58 is 29.000000000000004 in floating point
    assert from_normal_scores(np.arange(1, 50) / 100, 0.42, "calibrate").value == 0.29


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


@pytest.mark.parametrize("share", [0.9, 0.96, 0.999])
def test_nearly_all_may_be_left_out(share: float) -> None:
    """Fewer scores than may be left out fix the threshold by their limit alone."""
    scores = np.array([*np.linspace(0.1, 0.11, 15), *np.linspace(0.8, 0.9, 5)])
    found = from_normal_scores(scores, 0.05, "fit_unlabelled", usual_spread=0.1, most_left_out=share)
    assert 0.11 < found.value < 0.8


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
    # four scores of two images: deviation sqrt((4 * 0.25 + 0.18) / 7), t of 2 - 1 + 4 degrees of freedom is 2.0150
    scores = expit([-2.3, -2.0, -1.7, -2.0])
    found = from_normal_scores(scores, 0.05, "fit", image_count=2, usual_spread=0.5)
    assert logit(found.value) == pytest.approx(-2 + 2.0150 * math.sqrt(1.18 / 7) * math.sqrt(1 + 1 / 2), abs=1e-3)


def test_one_odd_image_does_not_hide_the_defects() -> None:
    usual = np.array([0.13, 0.14, 0.15, 0.12, 0.13, 0.16, 0.14])
    alone, beside = (from_normal_scores(np.append(usual, odd), 0.05, "fit").value for odd in (0.15, 0.6))
    assert usual.max() < alone < beside < 0.3
    assert from_normal_scores(np.append(usual, 0.99), 0.05, "fit").value == pytest.approx(beside)


def test_a_far_score_counts_as_one_at_one_and_a_half_deviations() -> None:
    """Eight at -2.1 and -1.9 and one far off: with it at c + 1.5 s the mean is c = -2 + 1.5 s / 8, and the squares of
    the deviations from there, 8 * 0.01 + 8 * (1.5 s / 8)^2 + (1.5 s)^2, are 8 s^2."""
    deviation = math.sqrt(8 * 0.01 / (8 - 2.25 / 8 - 2.25))
    centre = -2 + 1.5 * deviation / 8
    expected = centre + stats.t.ppf(0.95, 8) * deviation * math.sqrt(1 + 1 / 9)
    found = from_normal_scores(expit([-2.1] * 4 + [-1.9] * 4 + [1.0]), 0.05, "fit")
    assert logit(found.value) == pytest.approx(expected, abs=1e-6)


def test_the_limit_of_a_fit_only_lowers_its_threshold() -> None:
    alike = expit(np.linspace(-3.1, -2.9, 19))
    assert from_normal_scores(alike, 0.05, "fit", usual_spread=0.5).value == alike.max()  # whose limit is far above it
    two_kinds = expit([*np.linspace(-5.2, -4.8, 20), *np.linspace(-2.2, -1.8, 5)])
    # a tenth of 25, rounded up, exceed it
    assert from_normal_scores(two_kinds, 0.05, "fit", usual_spread=0.2).value == two_kinds[-4]


@pytest.mark.parametrize(("count", "rate", "reason"), [(1, 0.05, "at least 2"), (5, 0.0, "rate"), (5, 1.0, "rate")])
def test_impossible_thresholds(count: int, rate: float, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_normal_scores(np.zeros(count), rate, "fit")


def test_quantile_of_an_extrapolated_threshold_is_students() -> None:
    odds = np.array([-2.2, -1.7, -2.1, -2.0])  # none so far out that it is brought in
    expected = odds.mean() + stats.t.ppf(0.99, 3) * odds.std(ddof=1) * np.sqrt(1.25)
    found = from_normal_scores(1 / (1 + np.exp(-odds)), 0.01, "fit").value
    assert found == pytest.approx(1 / (1 + np.exp(-expected)), rel=1e-9)


# --- which scores are unlike the rest of their class ------------------------------------------------------------------


def classes_with_unlike(log_odds: dict[str, list[float]]) -> set[str | None]:
    """The classes of which scores with these log odds are unlike the rest, in a calibration at 50 %."""
    normals = []
    for class_name, values in log_odds.items():
        normals += [NormalScore("image", class_name, float(expit(value))) for value in values]
    found = threshold_of(normals, 0.5, "calibrate", usual_spread=None)
    return {normal.class_name for normal in found.normal_scores if normal.kind == "unlike"}


def test_few_scores_of_leave_one_out_are_extrapolated_to_the_whole_bank() -> None:
    """By 0.15 times the logarithm of n / (n - 1), on the scale of log odds; enough of them are taken as they are."""
    few = [0.10, 0.11, 0.12, 0.13]
    lowered = expit(logit(np.array(few)) - 0.15 * math.log(4 / 3))

    def threshold(scores: list[float], source: str) -> float:
        normals = [NormalScore(f"image {index}", None, score) for index, score in enumerate(scores)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return threshold_of(normals, 0.05, source, usual_spread=None).value

    assert threshold(few, "fit") == pytest.approx(from_normal_scores(lowered, 0.05, "fit").value)
    assert threshold(few, "calibrate") == from_normal_scores(np.array(few), 0.05, "calibrate").value
    enough = [0.1 + 0.001 * index for index in range(19)]
    assert threshold(enough, "fit") == max(enough)


@pytest.mark.filterwarnings("ignore:.*unlike the rest")
def test_classes_share_the_rate_of_false_alarms() -> None:
    """The median of the nine lower scores is -3 and their deviation 0.1; t of 4 degrees of freedom is 8.610 at
    1 - 0.005 / 10, and 10.306 at half of that rate."""
    nine = [-3.1] * 4 + [-3.0] + [-2.9] * 4
    margin = 0.1 * math.sqrt(10 / 9)
    for classes, quantile in ((["a"], 8.610), (["a", "b"], 10.306)):
        for factor, expected in ((0.99, set()), (1.01, {"a"})):
            log_odds = dict.fromkeys(classes, nine)
            log_odds["a"] = [*nine, -3.0 + factor * quantile * margin]
            assert classes_with_unlike(log_odds) == expected


def test_a_class_of_six_is_judged_by_itself() -> None:
    six = [-4.02, -4.01, -4.0, -4.0, -3.99, -3.98]
    assert classes_with_unlike({"six": six, "two": [-2.0, -2.0]}) == set()


def test_scores_that_differ_by_rounding_are_alike() -> None:
    """Thirty equal ones have no deviation, and count with one of 0.02; t of 14.5 degrees of freedom is 4.681 at
    1 - 0.005 / 31."""
    limit = 4.681 * 0.02 * math.sqrt(1 + 1 / 30)
    for factor, expected in ((0.99, []), (1.01, [30])):
        scores = expit([-3.0] * 30 + [-3.0 + factor * limit])
        assert unlike_the_rest(scores.tolist(), 0.005, usual_spread=None) == expected


@pytest.mark.filterwarnings("ignore:.*unlike the rest")
def test_copies_do_not_raise_how_many_are_left_out() -> None:
    """Two of ten images are more than a tenth, whatever copies of others there are beside them."""
    log_odds = [-3.1, -3.1, -3.0, -3.0, -3.0, -3.0, -2.9, -2.9, 1.0, 1.1]
    images = [NormalScore("image", None, float(expit(value))) for value in log_odds]
    copies = [NormalScore("copy", None, float(expit(-3.0)), "copy")] * 20
    for normals in (images, [*images, *copies]):
        found = threshold_of(normals, 0.5, "calibrate", usual_spread=None).normal_scores
        assert [(normal.kind, normal.counts) for normal in found[8:10]] == [("unlike", True)] * 2
