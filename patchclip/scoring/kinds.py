"""Kinds of defects learnt from examples: the vector of a region, and the kind that it is most like.

By numpy alone, since an exported file names regions without torch. Which kind is told by least squares with a ridge on
the examples' vectors, each kind with the same weight, so that one with many examples does not drown one with few. What
is not like enough the mean of any kind's examples is of an unknown kind.

The constants were chosen on synthetic products of held-out families (benchmarks/CHOICES.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

#: An unknown kind begins so many standard deviations below the mean similarity of an example that is left out.
_SPREADS_BELOW = 1.15

#: The same below the mean similarity of examples to other kinds, where no kind has two examples: a lower bound of what
#: a kind's own regions reach.
_SPREADS_BELOW_OTHERS = 0.5

#: Where there is one example in all: the similarity of two of a kind, less `_SPREADS_BELOW` standard deviations, and
#: the mean of 1 - similarity, both on synthetic defects by the embedded model.
_UNKNOWN_OF_ONE = 0.72
_DISSIMILARITY_OF_ONE = 0.21

#: Temperature of the probability that a region is of a known kind, relative to the mean of 1 - similarity of an example
#: that is left out; and of the probabilities among the known kinds.
_RELATIVE_TEMPERATURE = 0.2
_SCORE_TEMPERATURE = 0.08

#: Examples that hardly differ are taken to differ by so much.
_MIN_DISSIMILARITY = 0.01

#: Of saved vectors of unit length.
_LENGTH_TOLERANCE = 1e-3

#: Where all examples are equal.
_MIN_RIDGE = 1e-9

#: Heat above the median that counts, so that cells without any are not lost.
_MIN_HEAT = 1e-4


@dataclass(frozen=True, eq=False)
class DefectKinds:
    """What regions are compared with.

    Attributes:
        names: of K kinds; counts: how many examples each has.
        directions: (K, D) float32; offsets: (K,) float32. The highest of their scores is the likeliest kind.
        prototypes: (K, D) float32 of unit length, the mean of each kind's examples.
        unknown: similarity to all prototypes below which a region is of an unknown kind.
        temperature: of the probability that it is of a known one.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    directions: np.ndarray
    offsets: np.ndarray
    prototypes: np.ndarray
    unknown: float
    temperature: float

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """(..., D) of `describe_regions` -> (..., K), the highest for the likeliest kind."""
        return vectors @ self.directions.T + self.offsets


@dataclass(frozen=True, eq=False)
class Examples:
    """Regions of known kinds.

    Attributes:
        kinds: of each of N examples.
        vectors: (N, D) float32 of `describe_regions`.
    """

    kinds: tuple[str, ...]
    vectors: np.ndarray

    @cached_property
    def learnt(self) -> DefectKinds:
        """What they teach."""
        return learn_kinds(self.kinds, self.vectors)

    @classmethod
    def from_saved(cls, kinds: Any, vectors: np.ndarray) -> Examples:
        """As they were saved.

        Raises:
            ValueError: other values.
        """
        if not isinstance(kinds, list) or not kinds or not all(isinstance(kind, str) and kind for kind in kinds):
            raise ValueError(f"kinds of examples {kinds}")
        if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(kinds):
            raise ValueError(f"examples of {vectors.dtype} and the shape {vectors.shape}")
        lengths = np.linalg.norm(vectors, axis=1)
        if not (abs(lengths - 1) < _LENGTH_TOLERANCE).all():  # NaN too
            raise ValueError("examples of another length than 1")
        return cls(tuple(kinds), vectors)


def describe_regions(heatmap: np.ndarray, shares: np.ndarray, grids: Sequence[np.ndarray]) -> np.ndarray:
    """A vector for each region: the mean of the vectors of its cells, each weighted by the square of its heat above the
    median, for each grid by itself and of unit length; all grids side by side.

    Args:
        heatmap: (H, W) float32.
        shares: (R, gh, gw), how much of each patch belongs to each region; somewhere above 0.
        grids: (rows, columns, D) float32 each, on the grid of the patches or on a finer one.

    Returns:
        (R, sum of D) float32 of unit length.
    """
    parts = []
    for grid in grids:
        rows, columns, width = grid.shape
        patch_rows = np.arange(rows) * shares.shape[1] // rows
        patch_columns = np.arange(columns) * shares.shape[2] // columns
        weights = shares[:, patch_rows][:, :, patch_columns] * _squared_heat(heatmap, (rows, columns))
        weights = weights.reshape(len(shares), -1)
        weights = weights / weights.sum(1, keepdims=True)  # (R, rows * columns)
        parts.append(_unit(weights.astype(np.float32) @ grid.reshape(-1, width)))
    joined = np.concatenate(parts, 1)
    return _unit(joined).astype(np.float32)


def _squared_heat(heatmap: np.ndarray, grid_hw: tuple[int, int]) -> np.ndarray:
    """(rows, columns): the square of what the middles of the cells have above their median."""
    rows = ((np.arange(grid_hw[0]) + 0.5) * heatmap.shape[0] / grid_hw[0]).astype(int)
    columns = ((np.arange(grid_hw[1]) + 0.5) * heatmap.shape[1] / grid_hw[1]).astype(int)
    heat = heatmap[np.ix_(rows, columns)].astype(np.float64)
    return np.maximum(heat - np.median(heat), _MIN_HEAT) ** 2


def learn_kinds(kinds: Sequence[str], vectors: np.ndarray) -> DefectKinds:
    """What tells kinds apart, and what is none of them.

    Args:
        kinds: of each of N examples; vectors: (N, D) float32 of unit length.
    """
    names = tuple(dict.fromkeys(kinds))
    labels = np.array([names.index(kind) for kind in kinds])
    counts = np.bincount(labels)  # (K,)
    sums = np.stack([vectors[labels == label].sum(0) for label in range(len(names))]).astype(np.float64)  # (K, D)
    directions, offsets = _fit_least_squares(vectors.astype(np.float64), labels, counts)
    highest, labels_of = _left_out_similarities(vectors.astype(np.float64), labels, sums, counts)
    if len(highest) == 0:
        unknown, dissimilarity = _UNKNOWN_OF_ONE, _DISSIMILARITY_OF_ONE
    else:
        weights = 1 / counts[labels_of]  # a kind counts as much as another
        mean = float(np.average(highest, weights=weights))
        spread = float(np.average((highest - mean) ** 2, weights=weights)) ** 0.5
        below = _SPREADS_BELOW if counts.max() > 1 else _SPREADS_BELOW_OTHERS
        unknown, dissimilarity = mean - below * spread, max(1 - mean, _MIN_DISSIMILARITY)
    return DefectKinds(
        names=names,
        counts=tuple(counts.tolist()),
        directions=directions.astype(np.float32),
        offsets=offsets.astype(np.float32),
        prototypes=_unit(sums).astype(np.float32),
        unknown=unknown,
        temperature=_RELATIVE_TEMPERATURE * dissimilarity,
    )


def _fit_least_squares(vectors: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K, D) directions and (K,) offsets of ridge regression to 1 for the own kind and 0 for others, less 1 / K.

    The ridge is the mean squared length of the centred vectors; every kind has the same weight.
    """
    weights = len(labels) / len(counts) / counts[labels]  # 1 on average
    mean = np.average(vectors, axis=0, weights=weights)
    roots = np.sqrt(weights)[:, None]
    centred = (vectors - mean) * roots  # (N, D)
    wanted = (np.eye(len(counts))[labels] - 1 / len(counts)) * roots  # (N, K)
    products = centred @ centred.T  # (N, N)
    ridge = max(np.trace(products) / len(labels), _MIN_RIDGE)
    solved = np.linalg.solve(products + ridge * np.eye(len(labels)), wanted)  # (N, K)
    directions = solved.T @ centred
    return directions, -directions @ mean


def _left_out_similarities(
    vectors: np.ndarray, labels: np.ndarray, sums: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of examples, as if each had not been taught: the highest similarity to a kind, and the label.

    Of kinds with two examples or more, since the only one of a kind would leave none; where all kinds have one, of all
    of them to the other kinds.
    """
    prototypes = _unit(sums)
    similarities = vectors @ prototypes.T  # (N, K)
    has_others = counts[labels] > 1
    for index, label in enumerate(labels):
        if has_others[index]:
            similarities[index, label] = vectors[index] @ _unit(sums[label] - vectors[index])
        else:
            similarities[index, label] = -np.inf
    if len(counts) == 1 and not has_others.any():
        return np.empty(0), np.empty(0, np.int64)
    counted = has_others if has_others.any() else np.ones(len(labels), bool)
    return similarities[counted].max(1), labels[counted]


def choose_kind(vector: np.ndarray, kinds: DefectKinds) -> tuple[str | None, float | None]:
    """The likeliest kind of a region, and the probability that it is of that kind, not of another or an unknown one;
    None where it is like none of them.

    Args:
        vector: (D,) of `describe_regions`.
    """
    similarities = kinds.prototypes @ vector  # (K,)
    if similarities.max() < kinds.unknown:
        return None, None
    unknown = _softmax(np.append(similarities, kinds.unknown) / kinds.temperature)[-1]
    probabilities = _softmax(kinds.scores(vector) / _SCORE_TEMPERATURE)  # (K,)
    best = int(probabilities.argmax())
    return kinds.names[best], float((1 - unknown) * probabilities[best])


def _softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits.astype(np.float64) - logits.max())
    return odds / odds.sum()


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, 1e-12)
