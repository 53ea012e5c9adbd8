"""Kinds of defects learnt from examples: the vector of a region, and the kind that it is most like.

By numpy alone, since an exported file names regions without torch. The kind is found by ridge regression on the
examples' vectors, each kind with the same weight, so that one with many examples does not drown one with few. A region
that is less like the known kinds than most examples are, each left out in turn, is of an unknown kind.

The constants were chosen on synthetic products and on photographs of steel (benchmarks/CHOICES.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..printable import is_name
from .vectors import have_unit_length, softmax, unit

#: Views of an example: as it is, and flipped (`flip`).
VIEWS = 4

#: An unknown kind begins so many standard deviations below the mean of examples that are left out.
_SPREADS_BELOW = 1.0

#: Temperature, in these standard deviations, of the probability that a region is of a known kind; and of the
#: probabilities among the known kinds.
_KNOWN_TEMPERATURE = 0.5
_SCORE_TEMPERATURE = 0.08

#: Where no kind has two examples: an unknown kind begins so many standard deviations below the mean similarity of
#: examples to other kinds, a lower bound of what a kind's own regions reach; and the temperature, relative to the mean
#: of 1 - similarity.
_SPREADS_BELOW_OTHERS = 0.5
_RELATIVE_TEMPERATURE = 0.35

#: Where there is one example in all: the similarity where an unknown kind begins, and the mean of 1 - similarity, both
#: of two of a kind on synthetic defects by the embedded model.
_UNKNOWN_OF_ONE = 0.72
_DISSIMILARITY_OF_ONE = 0.21

#: Examples that hardly differ are taken to differ by so much.
_MIN_DISSIMILARITY = 0.01
_MIN_SPREAD = 0.02

#: Standard deviation of the sum of two standardised values, at the least.
_MIN_SUM_SPREAD = 0.5

#: Where all examples are equal.
_MIN_RIDGE = 1e-9

#: Of the whole image in a region's vector.
_IMAGE_WEIGHT = 0.5

#: Heat above the median that counts, so that cells without any are not lost.
_MIN_HEAT = 1e-4


@dataclass(frozen=True, eq=False)
class DefectKinds:
    """What regions are compared with.

    Attributes:
        names: of K kinds; counts: how many examples each has.
        directions: (K, D) float32; offsets: (K,) float32. The highest of their scores is the likeliest kind.
        prototypes: (K, D) float32 of unit length, the mean of each kind's examples.
        similarity_weight, score_weight, bound: the log odds that a region is of a known kind are its highest similarity
            to a prototype and its highest score, with these weights, less the bound.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    directions: np.ndarray
    offsets: np.ndarray
    prototypes: np.ndarray
    similarity_weight: float
    score_weight: float
    bound: float

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """(..., D) of `describe_regions` -> (..., K), the highest for the likeliest kind."""
        return vectors @ self.directions.T + self.offsets

    def known_log_odds(self, vector: np.ndarray) -> float:
        """(D,) of `describe_regions` -> below 0 for a region of an unknown kind."""
        similarity = float((self.prototypes @ vector).max())
        score = float(self.scores(vector).max())
        return self.similarity_weight * similarity + self.score_weight * score - self.bound


@dataclass(frozen=True, eq=False)
class Examples:
    """Regions of known kinds.

    Attributes:
        kinds: of each of N examples.
        vectors: (N, VIEWS, D) float32 of `describe_regions`; the first view is the example as it is.
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
        if not isinstance(kinds, list) or not kinds or not all(map(is_name, kinds)):
            raise ValueError(f"kinds of examples {kinds}")
        if vectors.dtype != np.float32 or vectors.ndim != 3 or vectors.shape[:2] != (len(kinds), VIEWS):
            raise ValueError(f"examples of {vectors.dtype} and the shape {vectors.shape}")
        if not have_unit_length(vectors):
            raise ValueError("examples of another length than 1")
        return cls(tuple(kinds), vectors)


def flip(image: np.ndarray, view: int) -> np.ndarray:
    """(H, W, ...) as a view of an example shows it: as it is, left to right, top to bottom, or both."""
    if view % 2:
        image = image[:, ::-1]
    if view // 2:
        image = image[::-1]
    return np.ascontiguousarray(image)


def describe_regions(heatmap: np.ndarray, shares: np.ndarray, grids: Sequence[np.ndarray]) -> np.ndarray:
    """A vector for each region: the mean of the vectors of its cells, each weighted by the square of its heat above the
    median, for each grid by itself and of unit length; all grids side by side. Then the same of the whole image, with
    less weight: what is spread over an image tells its kind too.

    Args:
        heatmap: (H, W) float32.
        shares: (R, gh, gw), how much of each patch belongs to each region; somewhere above 0.
        grids: (rows, columns, D) float32 each, on the grid of the patches or on a finer one.

    Returns:
        (R, vector_width) float32 of unit length.
    """
    shares = np.concatenate([shares, np.ones_like(shares[:1])])  # the last is the whole image
    parts = []
    for grid in grids:
        rows, columns, width = grid.shape
        patch_rows = np.arange(rows) * shares.shape[1] // rows  # the patch that a finer row begins in
        patch_columns = np.arange(columns) * shares.shape[2] // columns
        weights = shares[:, patch_rows][:, :, patch_columns] * _squared_heat(heatmap, (rows, columns))
        weights = weights.reshape(len(shares), -1)
        weights = weights / weights.sum(1, keepdims=True)  # (R + 1, rows * columns)
        parts.append(unit(weights.astype(np.float32) @ grid.reshape(-1, width)))
    joined = np.concatenate(parts, 1)
    image = np.broadcast_to(_IMAGE_WEIGHT * joined[-1], joined[:-1].shape)
    return unit(np.concatenate([joined[:-1], image], 1)).astype(np.float32)


def vector_width(grid_widths: Iterable[int]) -> int:
    """Of what `describe_regions` makes of grids with so many values a cell."""
    return 2 * sum(grid_widths)


def _squared_heat(heatmap: np.ndarray, grid_hw: tuple[int, int]) -> np.ndarray:
    """(rows, columns): the square of what the middles of the cells have above their median."""
    rows = ((np.arange(grid_hw[0]) + 0.5) * heatmap.shape[0] / grid_hw[0]).astype(int)
    columns = ((np.arange(grid_hw[1]) + 0.5) * heatmap.shape[1] / grid_hw[1]).astype(int)
    heat = heatmap[np.ix_(rows, columns)].astype(np.float64)
    return np.maximum(heat - np.median(heat), _MIN_HEAT) ** 2


def learn_kinds(kinds: Sequence[str], vectors: np.ndarray) -> DefectKinds:
    """What tells kinds apart, and what is none of them.

    Args:
        kinds: of each of N examples; vectors: (N, V, D) float32 of unit length, V views of each.
    """
    names = tuple(dict.fromkeys(kinds))
    labels = np.array([names.index(kind) for kind in kinds])
    counts = np.bincount(labels)  # (K,)
    views = vectors.astype(np.float64)
    sums = np.stack([views[labels == label].sum((0, 1)) for label in range(len(names))])  # (K, D)
    directions, offsets, left_out_scores = _fit_least_squares(views, labels, counts)
    similarity_weight, score_weight, bound = _fit_log_odds(views, labels, sums, counts, left_out_scores)
    return DefectKinds(
        names=names,
        counts=tuple(counts.tolist()),
        directions=directions.astype(np.float32),
        offsets=offsets.astype(np.float32),
        prototypes=unit(sums).astype(np.float32),
        similarity_weight=similarity_weight,
        score_weight=score_weight,
        bound=bound,
    )


def _fit_least_squares(
    views: np.ndarray, labels: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ridge regression of (N, V, D) to 1 for the own kind and 0 for others, less 1 / K.

    The ridge is the mean squared length of the centred vectors; every kind has the same weight.

    Returns:
        (K, D) directions, (K,) offsets, and (N, K) the scores of the first view of each example by what the other
        examples teach: from the residuals of the fit, by the hat matrix (the weights and the ridge stay as they are).
        Where no kind has two examples these are 0.
    """
    count, view_count, width = views.shape
    kind_count = len(counts)
    weights = np.repeat(count / kind_count / counts[labels], view_count)  # 1 on average
    roots = np.sqrt(weights)[:, None]
    vectors = views.reshape(-1, width)
    mean = np.average(vectors, axis=0, weights=weights)
    centred = (vectors - mean) * roots  # (N * V, D)
    wanted = np.repeat(np.eye(kind_count)[labels] - 1 / kind_count, view_count, axis=0) * roots  # (N * V, K)
    ridge = max(float((centred**2).sum()) / len(centred), _MIN_RIDGE)

    basis = np.linalg.qr(centred.T)[0]  # (D, <= D); the solution is in the span of the vectors
    inner = centred @ basis
    inverse = np.linalg.inv(inner.T @ inner + ridge * np.eye(inner.shape[1]))
    solved = inverse @ inner.T @ wanted  # (<= D, K)
    directions = (basis @ solved).T
    offsets = -directions @ mean
    if counts.max() == 1:
        return directions, offsets, np.zeros((count, kind_count))

    residuals = (wanted - inner @ solved).reshape(count, view_count, kind_count)
    inner, roots = inner.reshape(count, view_count, -1), roots.reshape(count, view_count, 1)
    hats = inner @ inverse @ inner.transpose(0, 2, 1) + roots @ roots.transpose(0, 2, 1) / weights.sum()  # (N, V, V)
    left_out = np.linalg.solve(np.eye(view_count) - hats, residuals)
    scores = (wanted.reshape(residuals.shape) - left_out) / roots
    return directions, offsets, scores[:, 0]


def _fit_log_odds(
    views: np.ndarray, labels: np.ndarray, sums: np.ndarray, counts: np.ndarray, left_out_scores: np.ndarray
) -> tuple[float, float, float]:
    """The weight of the similarity, the weight of the score, and the bound of `DefectKinds`.

    By how examples look that were left out. The only one of a kind would leave none of it: such do not count; where
    all are such, their similarity to other kinds does.
    """
    rows = np.arange(len(labels))
    first = views[:, 0]
    similarities = first @ unit(sums).T  # (N, K)
    has_others = counts[labels] > 1
    rest = unit(sums[labels] - views.sum(1))  # (N, D)
    similarities[rows, labels] = np.where(has_others, (first * rest).sum(1), -np.inf)
    if has_others.any():
        weights = (1 / counts[labels])[has_others]  # a kind counts as much as another
        mean, spread = _moments(similarities.max(1)[has_others], weights)
        mean_score, score_spread = _moments(left_out_scores.max(1)[has_others], weights)
        standardised = (similarities.max(1)[has_others] - mean) / spread
        standardised += (left_out_scores.max(1)[has_others] - mean_score) / score_spread
        scale = _KNOWN_TEMPERATURE * max(float(np.average(standardised**2, weights=weights)) ** 0.5, _MIN_SUM_SPREAD)
        bound = (mean / spread + mean_score / score_spread) / scale - _SPREADS_BELOW / _KNOWN_TEMPERATURE
        return 1 / (spread * scale), 1 / (score_spread * scale), bound
    if len(counts) == 1:
        unknown, dissimilarity = _UNKNOWN_OF_ONE, _DISSIMILARITY_OF_ONE
    else:
        mean, spread = float(similarities.max(1).mean()), float(similarities.max(1).std())
        unknown, dissimilarity = mean - _SPREADS_BELOW_OTHERS * spread, max(1 - mean, _MIN_DISSIMILARITY)
    weight = 1 / (_RELATIVE_TEMPERATURE * dissimilarity)
    return weight, 0.0, weight * unknown


def _moments(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Mean, and standard deviation of at least `_MIN_SPREAD`."""
    mean = float(np.average(values, weights=weights))
    spread = float(np.average((values - mean) ** 2, weights=weights)) ** 0.5
    return mean, max(spread, _MIN_SPREAD)


def choose_kind(vector: np.ndarray, kinds: DefectKinds) -> tuple[str | None, float | None]:
    """The likeliest kind of a region, and the probability that it is of that kind, not of another or an unknown one;
    None where it is like none of them.

    Args:
        vector: (D,) of `describe_regions`.
    """
    log_odds = kinds.known_log_odds(vector)
    if log_odds < 0:
        return None, None
    known = 1 / (1 + math.exp(-log_odds))
    probabilities = softmax(kinds.scores(vector) / _SCORE_TEMPERATURE)  # (K,)
    best = int(probabilities.argmax())
    return kinds.names[best], float(known * probabilities[best])
