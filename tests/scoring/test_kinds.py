"""Kinds of defects from examples, by hand-derived numbers and an independent loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from patchclip.scoring.kinds import VIEWS, DefectKinds, Examples, choose_kind, describe_regions, flip, learn_kinds
from patchclip.scoring.regions import DefectNames, named_regions


def at(*degrees: float) -> np.ndarray:
    """(N, 2) float32 unit vectors at these angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def viewed(*degrees: float) -> np.ndarray:
    """(N, VIEWS, 2) float32, all views alike."""
    return np.repeat(at(*degrees)[:, None], VIEWS, axis=1)


def cosine(degrees: float) -> float:
    return math.cos(math.radians(degrees))


# --- vectors of regions -----------------------------------------------------------------------------------------------


def test_cells_count_by_the_square_of_their_heat() -> None:
    heatmap = np.array([[0.1, 0.3, 0.1], [0.1, 0.5, 0.1]], np.float32)  # median 0.1
    grid = np.zeros((2, 3, 2), np.float32)
    grid[0, 1], grid[1, 1] = (1, 0), (0, 1)
    share = np.array([[False, True, False], [False, True, False]])
    [vector] = describe_regions(heatmap, share[None], [grid])
    assert vector.dtype == np.float32
    assert vector[1] / vector[0] == pytest.approx(4, rel=1e-5)  # heat of 0.2 and 0.4
    assert vector[2:].tolist() == pytest.approx((0.5 * vector[:2]).tolist(), rel=1e-4)  # no other cell has heat
    assert np.linalg.norm(vector) == pytest.approx(1)


def test_each_grid_has_cells_of_its_own_and_counts_alike() -> None:
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[1, 1] = 1  # the middle of a cell of the finer grid alone
    coarse, fine = np.zeros((2, 2, 1), np.float32), np.zeros((4, 4, 2), np.float32)
    coarse[0, 0], fine[1, 1], fine[2, 2] = 7, (0, 3), (5, 0)
    share = np.array([[True, False], [False, False]])
    [vector] = describe_regions(heatmap, share[None], [coarse, fine])
    assert vector.tolist() == pytest.approx((np.array([1, 0, 1, 0.5, 0, 0.5]) / 2.5**0.5).tolist(), abs=1e-4)


def test_the_rest_of_the_image_counts_less() -> None:
    heatmap = np.array([[0, 0, 0, 0.2, 0.6]], np.float32)  # median 0
    grid = np.zeros((1, 5, 2), np.float32)
    grid[0, 3], grid[0, 4] = (1, 0), (0, 1)
    shares = np.zeros((2, 1, 5), np.float32)
    shares[0, 0, 3] = shares[1, 0, 4] = 1
    first, second = describe_regions(heatmap, shares, [grid]) * 1.25**0.5
    image = np.array([1, 9]) / 82**0.5 / 2  # heat of 0.2 and 0.6
    assert first.tolist() == pytest.approx([1, 0, *image], abs=1e-4)
    assert second.tolist() == pytest.approx([0, 1, *image], abs=1e-4)


def test_a_region_without_heat_is_the_mean_of_its_cells() -> None:
    grid = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    share = np.array([[0.5, 0.5], [0, 0]])
    [vector] = describe_regions(np.zeros((6, 6), np.float32), share[None], [grid])
    expected = np.array([1, 2]) / math.sqrt(5)  # of (0, 1) and (2, 3)
    assert (1.25**0.5 * vector[:2]).tolist() == pytest.approx(expected.tolist())


# --- what is learnt ---------------------------------------------------------------------------------------------------


def log_odds(similarity: float, score: float, learnt: DefectKinds) -> float:
    return learnt.similarity_weight * similarity + learnt.score_weight * score - learnt.bound


def expected_log_odds(vectors: np.ndarray, labels: np.ndarray, similarity: float, score: float) -> float:
    """By an independent loop: each example that is not the only one of its kind is left out, with all its views."""
    count, view_count, _ = vectors.shape
    weights = np.repeat(count / len(set(labels)) / np.bincount(labels)[labels], view_count)
    flat, flat_labels = vectors.reshape(count * view_count, -1).astype(np.float64), np.repeat(labels, view_count)
    mean = np.average(flat, axis=0, weights=weights)
    ridge = np.average(((flat - mean) ** 2).sum(1), weights=weights)
    wanted = np.eye(len(set(labels)))[flat_labels] - 1 / len(set(labels))
    found, kind_weights = [], []
    for index in range(count):
        if np.sum(labels == labels[index]) == 1:
            continue
        kept = np.repeat(np.arange(count) != index, view_count)
        model = Ridge(alpha=ridge).fit(flat[kept], wanted[kept], sample_weight=weights[kept])
        first = vectors[index, 0].astype(np.float64)
        means = [flat[kept & (flat_labels == label)].mean(0) for label in sorted(set(labels))]
        similarities = [first @ mean / np.linalg.norm(mean) for mean in means]
        found.append((max(similarities), model.predict(first[None])[0].max()))
        kind_weights.append(1 / np.sum(labels == labels[index]))
    values = np.array(found)  # (examples, 2)
    means = np.average(values, axis=0, weights=kind_weights)
    spreads = np.average((values - means) ** 2, axis=0, weights=kind_weights) ** 0.5
    sums = ((values - means) / spreads).sum(1)
    spread = np.average(sums**2, weights=kind_weights) ** 0.5
    total = (similarity - means[0]) / spreads[0] + (score - means[1]) / spreads[1]
    return float((total / spread + 1) / 0.5)


def drawn(seed: int, counts: tuple[int, ...], *, views: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, views, width) float32 of unit length, and (N,) labels; each kind about an axis of its own."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    examples = 2 * np.eye(width)[labels] + rng.normal(size=(len(labels), width))
    vectors = examples[:, None] + 0.3 * rng.normal(size=(len(labels), views, width))
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("width", [6, 100])  # less and more than the vectors
def test_log_odds_against_a_loop(width: int) -> None:
    vectors, labels = drawn(0, (5, 1, 4, 6), views=4, width=width)
    learnt = learn_kinds([str(label) for label in labels], vectors)
    for similarity, score in ((0.2, 0.1), (0.9, 0.7)):
        expected = expected_log_odds(vectors, labels, similarity, score)
        assert log_odds(similarity, score, learnt) == pytest.approx(expected, rel=1e-4)


def test_least_squares_against_scikit_learn() -> None:
    vectors, labels = drawn(1, (12, 3, 5), views=2, width=7)
    flat, flat_labels = vectors.reshape(40, 7), np.repeat(labels, 2)
    weights = 20 / 3 / np.bincount(labels)[flat_labels]
    mean = np.average(flat, axis=0, weights=weights)
    ridge = np.average(((flat - mean) ** 2).sum(1), weights=weights)
    model = Ridge(alpha=ridge).fit(flat, np.eye(3)[flat_labels] - 1 / 3, sample_weight=weights)
    learnt = learn_kinds([str(label) for label in labels], vectors)
    np.testing.assert_allclose(learnt.scores(flat), model.predict(flat), atol=1e-5)
    assert learnt.counts == (12, 3, 5)


def test_many_examples_of_a_kind_do_not_drown_few() -> None:
    many = at(*np.linspace(-10, 10, 21))
    few = at(80, 110)
    learnt = learn_kinds(["many"] * 21 + ["few"] * 2, np.concatenate([many, few])[:, None])
    np.testing.assert_allclose(learnt.prototypes, at(0, 95), atol=1e-6)
    assert choose_kind(at(70)[0], learnt)[0] == "few"


def test_one_example_of_each_kind() -> None:
    learnt = learn_kinds(["a", "b", "c"], at(0, 90, 150)[:, None])
    to_others = np.array([cosine(90), cosine(60), cosine(60)])
    unknown = to_others.mean() - 0.5 * to_others.std()
    assert learnt.score_weight == 0
    assert learnt.bound / learnt.similarity_weight == pytest.approx(unknown, abs=1e-6)
    assert learnt.similarity_weight == pytest.approx(1 / (0.35 * (1 - to_others.mean())), rel=1e-6)
    assert [choose_kind(vector, learnt)[0] for vector in at(10, 80, 160)] == ["a", "b", "c"]
    assert choose_kind(at(-90)[0], learnt) == (None, None)


def test_one_example_in_all() -> None:
    learnt = learn_kinds(["a"], at(0)[:, None])
    assert learnt.bound / learnt.similarity_weight == pytest.approx(0.72)
    assert choose_kind(at(30)[0], learnt)[0] == "a"
    assert choose_kind(at(60)[0], learnt) == (None, None)


def test_one_kind_of_several_examples() -> None:
    learnt = learn_kinds(["a", "a", "a"], at(0, 20, 40)[:, None])
    assert choose_kind(at(20)[0], learnt) == ("a", pytest.approx(1, abs=0.3))
    assert choose_kind(at(120)[0], learnt) == (None, None)


def test_equal_examples_leave_room() -> None:
    learnt = learn_kinds(["a", "a", "b", "b"], at(0, 0, 90, 90)[:, None])
    assert choose_kind(at(5)[0], learnt)[0] == "a"
    assert choose_kind(at(-120)[0], learnt) == (None, None)


def test_confidence_counts_an_unknown_kind_too() -> None:
    directions, offsets = 0.1 * at(0, 90), np.array([0, 0.02], np.float32)
    kinds = DefectKinds(("a", "b"), (1, 1), directions, offsets, at(0, 90), 10.0, 2.0, 5.0)
    name, confidence = choose_kind(at(30)[0], kinds)
    scores = [0.1 * cosine(30), 0.1 * 0.5 + 0.02]
    assert kinds.scores(at(30))[0].tolist() == pytest.approx(scores)
    odds = 10 * cosine(30) + 2 * scores[0] - 5
    assert kinds.known_log_odds(at(30)[0]) == pytest.approx(odds, rel=1e-5)
    assert name == "a"
    known = 1 / (1 + math.exp(-odds))
    assert confidence == pytest.approx(known / (1 + math.exp((scores[1] - scores[0]) / 0.08)), rel=1e-4)
    assert choose_kind(at(-61)[0], kinds) == (None, None)


def test_views() -> None:
    image = np.arange(6).reshape(2, 3)
    views = [flip(image, view) for view in range(VIEWS)]
    assert [view.tolist() for view in views] == [
        [[0, 1, 2], [3, 4, 5]],
        [[2, 1, 0], [5, 4, 3]],
        [[3, 4, 5], [0, 1, 2]],
        [[5, 4, 3], [2, 1, 0]],
    ]


# --- regions ----------------------------------------------------------------------------------------------------------


def test_regions_are_named_by_taught_kinds_or_by_the_text() -> None:
    heatmap = np.zeros((4, 8), np.float32)
    heatmap[:, :2], heatmap[:, 6:] = 0.9, 0.8
    dense = np.zeros((2, 4, 2), np.float32)
    dense[:, 0], dense[:, 3] = (1, 0), (-1, 0)
    text = DefectNames(("dent", "hole"), np.eye(2, dtype=np.float32), 0.1)
    zero = np.zeros((1, 4), np.float32)
    prototype = np.pad(at(10), ((0, 0), (0, 2)))  # of the region alone
    kinds = DefectKinds(("scratch",), (3,), zero, zero[:, 0], prototype, 10.0, 0.0, 5.0)
    first, second = named_regions(heatmap, 0.5, [dense], kinds)
    assert (first.defect, first.defect_source) == ("scratch", "examples")
    assert first.confidence == pytest.approx(1 / (1 + math.exp(5 - 10 * cosine(10) / 1.25**0.5)), rel=1e-4)
    assert (second.defect, second.confidence, second.defect_source) == (None, None, None)
    by_text, _ = named_regions(heatmap, 0.5, [dense], text)
    assert (by_text.defect, by_text.defect_source) == ("dent", "text")


@pytest.mark.parametrize(
    ("kinds", "vectors"),
    [
        (["a"], viewed(0, 10)),
        ([], viewed()),
        (["a", 2], viewed(0, 10)),
        (["a", ""], viewed(0, 10)),
        (["a", "two\nlines"], viewed(0, 10)),
        ("ab", viewed(0, 10)),
        (["a", "b"], 2 * viewed(0, 10)),
        (["a", "b"], np.nan * viewed(0, 10)),
        (["a", "b"], viewed(0, 10).astype(np.float64)),
        (["a", "b"], viewed(0, 10)[:, :3]),
        (["a", "b"], at(0, 10)),
    ],
)
def test_saved_examples_that_are_none(kinds: object, vectors: np.ndarray) -> None:
    assert Examples.from_saved(["a", "b"], viewed(0, 10)).learnt.names == ("a", "b")
    with pytest.raises(ValueError, match="examples"):
        Examples.from_saved(kinds, vectors)
