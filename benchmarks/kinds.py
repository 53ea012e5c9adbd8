#!/usr/bin/env python3
"""Kinds of defects on synthetic products that the model never saw: how often they are named rightly, and whether the
confidence is the share of names that are right.

Each product has eight normal images and some defective images of twelve kinds, of which those with a score above the
threshold count, by their strongest region.

python benchmarks/kinds.py
python benchmarks/kinds.py --products 4 --draws 2
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

import internals
from accuracy.names import NO_NAME, name_rest
from accuracy.tables import markdown
from patchclip import Detector
from patchclip.synthetic import HELD_OUT, KINDS, sample_defective, sample_surface

_NORMALS = 8
_SIDE = 256
_SEED = 71_000

#: Numbers of kinds of a trial, which is named twice: after examples of all, and of all but one.
_SIZES = (12, 5)

_BINS = 10

#: The kind of each of N defects, and their vectors (N, V, D).
Defects = tuple[np.ndarray, np.ndarray]


@dataclass
class Figures:
    """Of trials with one number of kinds and of examples: shares, one entry for each trial."""

    right: list[float] = field(default_factory=list)
    without_name: list[float] = field(default_factory=list)
    likeliest: list[float] = field(default_factory=list)
    untaught_without_name: list[float] = field(default_factory=list)


def make_product(detector: Detector, index: int, each: int) -> Defects:
    """Fit the detector on a product of a held-out family; its defects have held-out fills."""
    rng = np.random.default_rng([_SEED, index])
    surface = sample_surface(rng, [HELD_OUT[index % len(HELD_OUT)]])
    size_hw = (_SIDE, _SIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the threshold by few images
        detector.fit([surface.photograph(surface.render(i, size_hw), i) for i in range(_NORMALS)], progress=False)
    kinds, views = [], []
    for kind_index, kind in enumerate(KINDS):
        for defect_index in range(each):
            image_index = _NORMALS + kind_index * each + defect_index
            try:
                image, *_ = sample_defective(surface, image_index, rng, kind=kind, size_hw=size_hw, held_out=True)
            except ValueError:  # no defect of this kind is seen on this surface
                continue
            described = internals.describe_views(detector, image, threshold=detector.threshold)
            if described is not None:
                kinds.append(kind)
                views.append(described)
    return np.array(kinds), np.stack(views)


def trials(
    defects: Sequence[Defects], counts: Sequence[int], draws: int
) -> Iterator[tuple[int, int, np.random.Generator, Defects]]:
    """Number of kinds, number of examples, what draws them, and the defects of those kinds."""
    for size in _SIZES:
        for count in counts:
            for product, (kinds, views) in enumerate(defects):
                for draw in range(draws):
                    rng = np.random.default_rng([_SEED, size, count, product, draw])
                    belongs = np.isin(kinds, rng.permutation(sorted(set(kinds)))[:size])
                    yield size, count, rng, (kinds[belongs], views[belongs])


def measure(
    defects: Sequence[Defects], counts: Sequence[int], draws: int
) -> tuple[dict[tuple[int, int], Figures], np.ndarray]:
    """What is named how often, and how sure.

    Returns:
        (number of kinds, number of examples) -> figures; and (M, 3), for each name that is shown where one kind was not
        taught: its confidence, whether it is right (0 or 1), and a weight, by which the kinds of a trial count alike.
    """
    figures: dict[tuple[int, int], Figures] = {}
    shown = []
    for size, count, rng, (kinds, views) in trials(defects, counts, draws):
        names = sorted(set(kinds))
        untaught = names[rng.integers(len(names))]
        drawn = {name: rng.permutation(np.flatnonzero(kinds == name))[:count] for name in names}
        all_examples = np.concatenate(list(drawn.values()))
        rest = np.setdiff1d(np.arange(len(kinds)), all_examples)
        truth = kinds[rest]
        if len(rest) == 0:
            continue
        found = figures.setdefault((size, count), Figures())

        named, _, likeliest = name_rest(kinds, views, all_examples, rest)
        found.right.append(float(np.mean(named == truth)))
        found.likeliest.append(float(np.mean(likeliest == truth)))
        found.without_name.append(float(np.mean(named == NO_NAME)))

        taught = np.concatenate([examples for name, examples in drawn.items() if name != untaught])
        named, confidence, _ = name_rest(kinds, views, taught, rest)
        if (truth == untaught).any():
            found.untaught_without_name.append(float(np.mean(named[truth == untaught] == NO_NAME)))
        weights = np.array([1 / np.sum(truth == kind) for kind in truth])
        has_name = named != NO_NAME
        shown.append(np.stack([confidence, named == truth, weights], 1)[has_name])
    return figures, np.concatenate(shown)


def calibration_error(shown: np.ndarray) -> tuple[float, list[tuple[float, float, float]]]:
    """Expected calibration error in ten bins, and share, mean confidence and share right of each that is not empty."""
    confidence, right, weights = shown.T
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    rows = []
    for index in sorted(set(bins)):
        inside = bins == index
        share = float(weights[inside].sum() / weights.sum())
        said, true = (float(np.average(values[inside], weights=weights[inside])) for values in (confidence, right))
        rows.append((share, said, true))
    return sum(share * abs(said - true) for share, said, true in rows), rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, default=8, help="synthetic products (default: %(default)s)")
    parser.add_argument("--each", type=int, default=14, help="defects of each kind (default: %(default)s)")
    parser.add_argument("--examples", type=int, nargs="+", default=[1, 3, 5, 10], help="of a kind (default: 1 3 5 10)")
    parser.add_argument("--draws", type=int, default=4, help="of the examples (default: %(default)s)")
    options = parser.parse_args(arguments)
    detector = Detector()
    defects = []
    for index in tqdm(range(options.products), unit="product"):
        defects.append(make_product(detector, index, options.each))
    figures, shown = measure(defects, options.examples, options.draws)
    head = [
        "kinds",
        "examples of a kind",
        "right",
        "without a name",
        "likeliest kind right",
        "untaught: without a name",
    ]
    rows = []
    for (size, count), found in figures.items():
        lists = (found.right, found.without_name, found.likeliest, found.untaught_without_name)
        rows.append([str(size), str(count), *(f"{np.mean(values):.2f}" if values else "–" for values in lists)])
    print(markdown(head, rows))
    error, bins = calibration_error(shown)
    print(
        f"\nExpected calibration error {error:.3f}, where one kind in {' or '.join(map(str, _SIZES))} is not taught:\n"
    )
    print(markdown(["share", "said", "right"], [[f"{value:.2f}" for value in row] for row in bins]))


if __name__ == "__main__":
    main()
