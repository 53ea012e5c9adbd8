"""Defective images among the normal ones: named, left out of the threshold, and nothing is guaranteed then."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit
from scipy.stats import norm

from patchclip import Detector
from patchclip.normal_scores import NormalScore
from patchclip.threshold import Threshold, from_normal_scores, threshold_of, unlike_the_rest

#: Log odds of nine scores: the median is -3, and the four above it are 0.1 higher.
NINE = [-3.1] * 4 + [-3.0] + [-2.9] * 4

SIDE = 64


def named(scores: Sequence[float], class_name: str | None = None) -> list[NormalScore]:
    return [NormalScore(f"image {index}", class_name, score) for index, score in enumerate(scores)]


def normal_quantiles(count: int, centre: float = -3.0, deviation: float = 0.2) -> list[float]:
    """Ascending scores whose log odds are spread as those of a normal distribution are on average."""
    levels = (np.arange(count) + 0.5) / count
    return expit(centre + deviation * norm.ppf(levels)).tolist()


def set_threshold(normals: Sequence[NormalScore], source: str = "calibrate") -> tuple[Threshold, list[str]]:
    """The threshold at a rate of 5 %, and the warnings that name images."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        threshold = threshold_of(normals, 0.05, source, usual_spread=None)
    return threshold, [str(warning.message) for warning in found if "unlike" in str(warning.message)]


# --- which scores are unlike the rest ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usual_spread", "limit"),
    [
        # half of nine scores have 4 degrees of freedom and the deviation 0.1; t of 4 at 1 - 0.005 / 10 is 8.610
        (None, 8.610 * 0.1 * math.sqrt(10 / 9)),
        # the usual spread as four more: (0.04 + 4 * 0.04) / 8 = 0.025; t of 8 is 5.041
        (0.2, 5.041 * math.sqrt(0.025) * math.sqrt(10 / 9)),
    ],
)
def test_limit_by_tables(usual_spread: float | None, limit: float) -> None:
    for height, expected in ((limit - 0.002, []), (limit + 0.002, [4])):
        log_odds = [*NINE[:4], -3.0 + height, *NINE[4:]]
        assert unlike_the_rest(expit(log_odds).tolist(), 0.005, usual_spread=usual_spread) == expected


def test_two_do_not_hide_each_other() -> None:
    scores = expit([*NINE, *NINE, 0.0, 0.5]).tolist()
    assert unlike_the_rest(scores, 0.005, usual_spread=None) == [19, 18]
    low = expit([*NINE, *NINE, -9.0, -9.5]).tolist()
    assert unlike_the_rest(low, 0.005, usual_spread=None) == []


def test_a_quarter_at_most() -> None:
    scores = normal_quantiles(12) + [0.9] * 5  # 17 of them, of which four may be unlike
    assert unlike_the_rest(scores, 0.005, usual_spread=None) == []
    assert len(unlike_the_rest(normal_quantiles(12) + [0.9] * 4, 0.005, usual_spread=None)) == 4


def test_few_or_equal_scores_are_alike() -> None:
    assert unlike_the_rest([], 0.005, usual_spread=0.2) == []
    assert unlike_the_rest([0.01, 0.9], 0.005, usual_spread=0.2) == []
    assert unlike_the_rest([0.01, 0.012, 0.05], 0.005, usual_spread=None) == []
    assert unlike_the_rest([0.01, 0.012, 0.5], 0.005, usual_spread=0.2) == [2]
    rounded = [0.05] * 30 + [0.05 + 1e-4]
    assert unlike_the_rest(rounded, 0.005, usual_spread=None) == []
    assert unlike_the_rest([0.0] * 20 + [1.0], 0.005, usual_spread=None) == [20]


def test_clean_sets_are_seldom_warned_of() -> None:
    """Of a normal distribution, 1 set in 100 or fewer; scores of images have a longer tail."""
    rng = np.random.default_rng(0)
    for count in (4, 8, 20, 64):
        found = 0
        for _ in range(300):
            scores = expit(rng.normal(-3, 0.3, count)).tolist()
            found += bool(unlike_the_rest(scores, 0.005, usual_spread=None))
        assert found <= 6, count


# --- what the threshold then is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "rank"), [(19, 19), (39, 38)])  # ceil((n + 1) * 0.95) of those that are left
def test_one_is_left_out(count: int, rank: int) -> None:
    scores = normal_quantiles(count)
    threshold, notes = set_threshold(named([*scores, 0.6]))
    assert threshold.value == scores[rank - 1]
    assert not threshold.guaranteed
    [note] = notes
    median = np.median([*scores, 0.6])
    assert (
        f"unlike the rest of {count + 1} normal images, whose median score is {median:.4f}: image {count} with" in note
    )
    assert "0.6000; left out of the threshold" in note
    assert threshold.normal_scores[:-1] == tuple(named(scores))
    assert threshold.normal_scores[-1] == NormalScore(f"image {count}", None, 0.6, "unlike", counts=False)


def test_none_is_left_out_of_clean_images() -> None:
    for count in (4, 8, 20, 64):
        threshold, notes = set_threshold(named(normal_quantiles(count)))
        assert notes == []
        assert threshold.guaranteed == (count >= 19)
        assert all(normal.counts and normal.kind == "image" for normal in threshold.normal_scores)


def test_more_than_a_tenth_count() -> None:
    clean = normal_quantiles(18)
    both, notes = set_threshold(named([*clean, 0.5, 0.6]))
    assert both.value < 0.1
    assert "image 19 with 0.6000, image 18 with 0.5000; left out" in notes[0]
    three, notes = set_threshold(named([*clean[1:], 0.4, 0.5, 0.6]))
    assert (three.value, three.guaranteed) == (0.6, True)
    assert "too many to be left out" in notes[0]
    assert [normal.kind for normal in three.normal_scores[-3:]] == ["unlike"] * 3
    assert all(normal.counts for normal in three.normal_scores)


def test_what_is_not_quite_unlike_counts_less_in_a_fit() -> None:
    """The threshold is that of few images for a tenth of the rate, where the usual spread is known."""
    scores = [*normal_quantiles(19), float(expit(-2.2))]
    assert unlike_the_rest(scores, 0.005, usual_spread=0.2) == []
    limit = from_normal_scores(np.array(scores), 0.005, "fit", usual_spread=0.2).value
    assert scores[18] < limit < scores[19]
    expected = {("fit", 0.2): limit, ("fit", None): scores[19], ("calibrate", 0.2): scores[19]}
    for (source, usual_spread), value in expected.items():
        found = from_normal_scores(np.array(scores), 0.05, source, usual_spread=usual_spread)
        assert found.value == pytest.approx(value, abs=1e-12)
        assert found.guaranteed == (source == "calibrate")


def test_a_second_kind_of_normal_image_stays_normal() -> None:
    """Four of 20: two of them, a tenth of all, may exceed the threshold of a fit."""
    scores = [*normal_quantiles(16, centre=-5), *normal_quantiles(4, centre=-2)]
    found = from_normal_scores(np.array(scores), 0.05, "fit", usual_spread=0.2)
    assert found.value == scores[17]


def test_too_few_are_left_for_the_rate() -> None:
    with pytest.warns(UserWarning, match="unlike"), pytest.warns(UserWarning, match="18 normal images cannot fix"):
        threshold = threshold_of(named([*normal_quantiles(18), 0.6]), 0.05, "fit", usual_spread=None)
    assert 0.05 < threshold.value < 0.1


def test_many_are_not_all_listed() -> None:
    _, [note] = set_threshold(named([*normal_quantiles(60), *[0.9] * 6]))
    assert note.count("with 0.9000") == 5
    assert "1 more, see normal_scores_" in note


def test_copies_and_variations_are_neither_unlike_nor_the_rest() -> None:
    copies = [NormalScore(f"copy {index}", None, 1e-6, "copy") for index in range(30)]
    threshold, notes = set_threshold([*copies, *named(normal_quantiles(8))])
    assert notes == []
    assert all(normal.counts for normal in threshold.normal_scores)
    variations = [NormalScore("image 0", "alone", score, "variation") for score in (1e-3,) * 5 + (0.9,)]
    images = named(normal_quantiles(19), "several")
    threshold, notes = set_threshold([*variations, *images])
    assert notes == []
    assert [normal.counts for normal in threshold.normal_scores] == [False] * 6 + [True] * 19


def test_classes_are_judged_by_themselves() -> None:
    """But for those of fewer than six images, which share one scale."""
    easy = named(normal_quantiles(20, centre=-4, deviation=0.1), "easy")
    hard = named(normal_quantiles(6, centre=-2), "hard")
    assert set_threshold([*easy, *hard])[1] == []
    _, [note] = set_threshold([*easy, *hard, NormalScore("x.png", "easy", float(expit(-2.0)))])
    assert "x.png of class 'easy' with 0.1192" in note
    pairs = []
    for index in range(10):
        pairs += named([0.05 + 0.001 * index, 0.05 - 0.001 * index], f"class {index}")
    assert set_threshold(pairs)[1] == []
    _, [note] = set_threshold([*pairs[:-1], NormalScore("image 1", "class 9", 0.7)])
    assert "image 1 of class 'class 9' with 0.7000" in note


# --- from images ------------------------------------------------------------------------------------------------------


def draw(seed: int, *, is_bad: bool = False) -> np.ndarray:
    """A smooth surface (64, 64, 3) uint8 with noise, and a dark square where it is bad."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:SIDE, :SIDE]
    grey = 120 + 18 * np.sin(column / 9) + 12 * np.sin(row / 13) + rng.normal(0, 4, (SIDE, SIDE))
    if is_bad:
        grey[16:36, 20:40] = 0
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture
def detector(local_model: str) -> Detector:
    return Detector(local_model, precision="fp32", cues=("tokens",))


def warnings_of(call: Callable[[], object]) -> list[str]:
    """The warnings of a call in this file."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    assert {Path(warning.filename).name for warning in found} <= {Path(__file__).name}
    return [str(warning.message) for warning in found]


def test_fit_names_the_file(detector: Detector, tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.png" for seed in range(20)]
    for seed, path in enumerate(paths):
        Image.fromarray(draw(seed, is_bad=seed == 7)).save(path)
    [note] = warnings_of(lambda: detector.fit(paths, progress=False))
    bad = detector.normal_scores_[7]
    scores = [normal.score for normal in detector.normal_scores_]
    assert (bad.name, bad.kind, bad.counts) == (str(paths[7]), "unlike", False)
    assert f"{paths[7]} with {bad.score:.4f}" in note
    assert f"20 normal images, whose median score is {np.median(scores):.4f}" in note
    assert [normal.name for normal in detector.normal_scores_] == [str(path) for path in paths]
    assert detector.threshold == sorted(scores)[18]
    assert detector.predict(draw(50, is_bad=True)).score < bad.score  # the bank holds such a defect now
    opened = [Image.open(path) for path in paths[:3]]
    warnings_of(lambda: detector.fit(opened, progress=False))
    for image in opened:
        image.close()
    assert [normal.name for normal in detector.normal_scores_] == [str(path) for path in paths[:3]]


def test_scores_are_those_of_leaving_one_out(detector: Detector) -> None:
    images = [draw(seed) for seed in range(5)]
    warnings_of(lambda: detector.fit(images[:2] + images[3:], progress=False))
    expected = detector.predict(images[2]).score
    warnings_of(lambda: detector.fit(images, progress=False))
    assert [normal.name for normal in detector.normal_scores_] == [f"image {index}" for index in range(5)]
    assert detector.normal_scores_[2].score == pytest.approx(expected, abs=1e-6)


def test_fit_names_the_class(detector: Detector) -> None:
    classes = {
        "a": [draw(seed, is_bad=seed == 3) for seed in range(12)],
        "b": [draw(seed)[::-1] for seed in range(20, 30)],
        "alone": [draw(40)],
    }
    notes = warnings_of(lambda: detector.fit(classes, progress=False))
    assert "image 3 of class 'a' with" in notes[0]
    kinds = {}
    for normal in detector.normal_scores_:
        kinds.setdefault(normal.class_name, []).append(normal.kind)
    assert kinds["a"] == ["image"] * 3 + ["unlike"] + ["image"] * 8
    assert set(kinds["b"]) == {"image"}
    assert kinds["alone"] == ["variation"] * 6


def test_calibrate_guarantees_nothing_with_an_image_left_out(detector: Detector, tmp_path: Path) -> None:
    warnings_of(lambda: detector.fit([draw(seed) for seed in range(8)], progress=False))
    clean = [draw(seed) for seed in range(100, 120)]
    assert warnings_of(lambda: detector.calibrate(iter(clean), progress=False)) == []
    assert detector.threshold_guaranteed
    before = detector.threshold
    bad = [*clean, draw(130, is_bad=True)]
    [note] = warnings_of(lambda: detector.calibrate(iter(bad), progress=False))
    assert "calibrate: unlike the rest of 21 normal images" in note
    assert "image 20 with" in note
    assert not detector.threshold_guaranteed
    assert detector.threshold == pytest.approx(before, abs=1e-6)
    assert [normal.counts for normal in detector.normal_scores_] == [True] * 20 + [False]

    detector.save(tmp_path / "detector.safetensors")
    loaded = Detector.load(tmp_path / "detector.safetensors")
    assert loaded.normal_scores_ == detector.normal_scores_
    loaded.threshold = 0.2
    assert loaded.normal_scores_ == detector.normal_scores_  # to choose a threshold by


def test_before_a_fit_there_are_none(detector: Detector) -> None:
    assert detector.normal_scores_ == ()
    golden = Path(__file__).parent / "golden"
    older = Detector.load(golden / "format_1_local.safetensors", pretrained=golden / "clip", device="cpu")
    assert older.normal_scores_ == ()


def test_what_fit_has_seen_is_a_copy(detector: Detector) -> None:
    images = [draw(seed) for seed in range(6)]
    warnings_of(lambda: detector.fit([*images, images[0]], progress=False))
    assert [normal.kind for normal in detector.normal_scores_] == ["copy", *["image"] * 5, "copy"]
    warnings_of(lambda: detector.calibrate([images[1], draw(50), draw(51), draw(52)], progress=False))
    assert [normal.kind for normal in detector.normal_scores_] == ["copy"] + ["image"] * 3
