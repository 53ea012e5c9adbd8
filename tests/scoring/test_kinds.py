"""Kinds of defects from examples, by hand-derived numbers and an independent loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from patchclip.scoring.kinds import DefectKinds, Examples, choose_kind, describe_regions, learn_kinds
from patchclip.scoring.regions import DefectNames, named_regions


def at(*degrees: float) -> np.ndarray:
    """(N, 2) float32 unit vectors at these angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


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
    assert np.linalg.norm(vector) == pytest.approx(1)


def test_each_grid_has_cells_of_its_own_and_counts_alike() -> None:
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[1, 1] = 1  # the middle of a cell of the finer grid alone
    coarse, fine = np.zeros((2, 2, 1), np.float32), np.zeros((4, 4, 2), np.float32)
    coarse[0, 0], fine[1, 1], fine[2, 2] = 7, (0, 3), (5, 0)
    share = np.array([[True, False], [False, False]])
    [vector] = describe_regions(heatmap, share[None], [coarse, fine])
    assert vector.tolist() == pytest.approx([0.5**0.5, 0, 0.5**0.5], abs=1e-4)


def test_a_region_without_heat_is_the_mean_of_its_cells() -> None:
    grid = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    share = np.array([[0.5, 0.5], [0, 0]])
    [vector] = describe_regions(np.zeros((6, 6), np.float32), share[None], [grid])
    expected = np.array([1, 2]) / math.sqrt(5)  # of (0, 1) and (2, 3)
    assert vector.tolist() == pytest.approx(expected.tolist())


# --- what is learnt ---------------------------------------------------------------------------------------------------


def test_the_bound_of_the_unknown_by_hand() -> None:
    learnt = learn_kinds(["a", "a", "b", "b"], at(0, 20, 90, 100))
    assert (learnt.names, learnt.counts) == (("a", "b"), (2, 2))
    np.testing.assert_allclose(learnt.prototypes, at(10, 95), atol=1e-6)
    left_out = np.array([cosine(20), cosine(20), cosine(10), cosine(10)])  # to the other one of its kind
    assert learnt.unknown == pytest.approx(left_out.mean() - 1.15 * left_out.std(), abs=1e-6)
    assert learnt.temperature == pytest.approx(0.2 * (1 - left_out.mean()), abs=1e-6)


def test_an_example_may_be_nearer_to_another_kind() -> None:
    learnt = learn_kinds(["a", "a", "b"], at(0, 60, 50))
    left_out = np.array([cosine(50), cosine(10)])  # both to b; the only one of b leaves none
    assert learnt.unknown == pytest.approx(left_out.mean() - 1.15 * left_out.std(), abs=1e-6)


def test_many_examples_of_a_kind_do_not_drown_few() -> None:
    many = at(*np.linspace(-10, 10, 21))
    few = at(80, 110)
    learnt = learn_kinds(["many"] * 21 + ["few"] * 2, np.concatenate([many, few]))
    np.testing.assert_allclose(learnt.prototypes, at(0, 95), atol=1e-6)
    assert choose_kind(at(70)[0], learnt)[0] == "few"
    similar_to_others = 1 - learnt.temperature / 0.2
    mean_of_many = np.mean([cosine(angle * 21 / 20) for angle in np.linspace(-10, 10, 21)])
    assert similar_to_others == pytest.approx((mean_of_many + cosine(30)) / 2, abs=1e-5)  # a half each


def test_least_squares_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = np.array([0] * 12 + [1] * 3 + [2] * 5)
    vectors = rng.normal(size=(20, 7)) + 3 * np.eye(7)[labels]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    weights = 20 / 3 / np.bincount(labels)[labels]
    mean = np.average(vectors, axis=0, weights=weights)
    ridge = np.average(((vectors - mean) ** 2).sum(1), weights=weights)
    model = Ridge(alpha=ridge).fit(vectors, np.eye(3)[labels] - 1 / 3, sample_weight=weights)
    learnt = learn_kinds([str(label) for label in labels], vectors)
    np.testing.assert_allclose(learnt.scores(vectors), model.predict(vectors), atol=1e-5)


def test_one_example_of_each_kind() -> None:
    learnt = learn_kinds(["a", "b", "c"], at(0, 90, 150))
    to_others = np.array([cosine(90), cosine(60), cosine(60)])
    assert learnt.unknown == pytest.approx(to_others.mean() - 0.5 * to_others.std(), abs=1e-6)
    assert [choose_kind(vector, learnt)[0] for vector in at(10, 80, 160)] == ["a", "b", "c"]
    assert choose_kind(at(-90)[0], learnt) == (None, None)


def test_one_example_in_all() -> None:
    learnt = learn_kinds(["a"], at(0))
    assert (learnt.unknown, learnt.temperature) == (0.72, pytest.approx(0.042))
    assert choose_kind(at(30)[0], learnt)[0] == "a"
    assert choose_kind(at(60)[0], learnt) == (None, None)


def test_equal_examples_leave_room() -> None:
    learnt = learn_kinds(["a", "a"], at(0, 0))
    assert learnt.temperature == pytest.approx(0.2 * 0.01)


def test_confidence_counts_an_unknown_kind_too() -> None:
    directions, offsets = 0.1 * at(0, 90), np.array([0, 0.02], np.float32)
    kinds = DefectKinds(("a", "b"), (1, 1), directions, offsets, at(0, 90), 0.5, 0.1)
    name, confidence = choose_kind(at(30)[0], kinds)
    odds = [math.exp(cosine(30) / 0.1), math.exp(0.5 / 0.1), math.exp(0.5 / 0.1)]
    known = (odds[0] + odds[1]) / sum(odds)
    scores = [0.1 * cosine(30), 0.1 * 0.5 + 0.02]
    assert kinds.scores(at(30))[0].tolist() == pytest.approx(scores)
    assert name == "a"
    assert confidence == pytest.approx(known / (1 + math.exp((scores[1] - scores[0]) / 0.08)), rel=1e-4)
    assert choose_kind(at(-61)[0], kinds) == (None, None)


def test_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 6)).astype(np.float32) + 2
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kinds = [str(kind) for kind in rng.integers(0, 4, 30)]
    learnt = learn_kinds(kinds, vectors)
    best, weights = [], []
    for index, kind in enumerate(kinds):
        similarities = []
        for other in set(kinds):
            members = [vectors[i] for i, name in enumerate(kinds) if name == other and i != index]
            mean = np.mean(members, axis=0)
            similarities.append(vectors[index] @ mean / np.linalg.norm(mean))
        best.append(max(similarities))
        weights.append(1 / kinds.count(kind))
    mean = np.average(best, weights=weights)
    spread = np.average((best - mean) ** 2, weights=weights) ** 0.5
    assert learnt.unknown == pytest.approx(mean - 1.15 * spread, abs=1e-5)


# --- regions ----------------------------------------------------------------------------------------------------------


def test_taught_kinds_come_before_the_text() -> None:
    heatmap = np.zeros((4, 8), np.float32)
    heatmap[:, :2], heatmap[:, 6:] = 0.9, 0.8
    dense = np.zeros((2, 4, 2), np.float32)
    dense[:, 0], dense[:, 3] = (1, 0), (-1, 0)
    text = DefectNames(("dent", "hole"), np.eye(2, dtype=np.float32), 0.1)
    zero = np.zeros((1, 2), np.float32)
    kinds = DefectKinds(("scratch",), (3,), zero, zero[:, 0], at(10), 0.5, 0.1)
    first, second = named_regions(heatmap, 0.5, dense, text, kinds=kinds, grids=[dense])
    assert (first.defect, first.defect_source) == ("scratch", "examples")
    assert first.confidence == pytest.approx(1 / (1 + math.exp((0.5 - cosine(10)) / 0.1)), rel=1e-4)
    assert (second.defect, second.confidence, second.defect_source) == (None, None, None)
    by_text, _ = named_regions(heatmap, 0.5, dense, text)
    assert (by_text.defect, by_text.defect_source) == ("dent", "text")


@pytest.mark.parametrize(
    ("kinds", "vectors"),
    [
        (["a"], at(0, 10)),
        ([], at()),
        (["a", 2], at(0, 10)),
        (["a", ""], at(0, 10)),
        ("ab", at(0, 10)),
        (["a", "b"], 2 * at(0, 10)),
        (["a", "b"], np.nan * at(0, 10)),
        (["a", "b"], at(0, 10).astype(np.float64)),
        (["a", "b"], at(0, 10)[:, :, None]),
    ],
)
def test_saved_examples_that_are_none(kinds: object, vectors: np.ndarray) -> None:
    assert Examples.from_saved(["a", "b"], at(0, 10)).learnt.names == ("a", "b")
    with pytest.raises(ValueError, match="examples"):
        Examples.from_saved(kinds, vectors)
