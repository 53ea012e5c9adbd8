#!/usr/bin/env python3
"""What the threshold that `fit` sets is worth: how often new normal images exceed it, and how often defective ones do.

It is measured on synthetic surfaces that training never sees, or on real sets.

On real sets it stands beside the threshold that only labels could set: the one that as many of the set's own normal
test images exceed as `--rate` says.

python benchmarks/thresholds.py
python benchmarks/thresholds.py --data path/to/metal_plate --dataset elpv --shots 1 4 16
python benchmarks/thresholds.py --rate 0.01 --shots 16 --classes 1 --products 40
python benchmarks/thresholds.py --shots 20 --classes 1 --bad 1
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from accuracy.categories import load_categories
from accuracy.plan import draw_references, is_readable
from patchclip import Detector
from patchclip.datasets import Category
from patchclip.synthetic import HELD_OUT, sample_defective, sample_surface

_SEED = 52_000
_SIDE = 256


# --- synthetic products -------------------------------------------------------------------------------------------


def product_images(product: int, normal: int, defective: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """So many normal and defective images of a product, (256, 256, 3) uint8."""
    rng = np.random.default_rng([_SEED, product])
    surface = sample_surface(rng, [HELD_OUT[product % len(HELD_OUT)]])
    size_hw = (_SIDE, _SIDE)
    normals = [surface.photograph(surface.render(index, size_hw), index) for index in range(normal)]
    defects = []
    for index in range(normal, normal + defective):
        image, *_ = sample_defective(surface, index, rng, size_hw=size_hw, held_out=True)
        defects.append(image)
    return normals, defects


def shares_above(
    detector: Detector,
    made: Sequence[tuple[list[np.ndarray], list[np.ndarray]]],
    shots: int,
    classes: int,
    new: int,
    *,
    bad: int = 0,
) -> np.ndarray:
    """(fits, 2) shares of new normal and of defective images above the threshold.

    Args:
        made: normal and defective images of each product.
        shots: normal images of each to fit with, the first ones; new: to test, the last ones.
        classes: products fitted together.
        bad: as many of the shots of each are its first defective images, which are not tested.
    """
    shares = []
    for start in tqdm(range(0, len(made) - classes + 1, classes), f"{shots} shots", disable=None, leave=False):
        products = made[start : start + classes]
        references = {str(k): normals[: shots - bad] + defects[:bad] for k, (normals, defects) in enumerate(products)}
        _fit(detector, references if classes > 1 else references["0"])
        new_normals = [image for normals, _ in products for image in normals[-new:]]
        new_defects = [image for _, defects in products for image in defects[bad:]]
        shares.append([_share_above(detector, new_normals), _share_above(detector, new_defects)])
    return np.array(shares)


def _share_above(detector: Detector, images: Sequence[np.ndarray]) -> float:
    results = detector.predict_batch(images, progress=False)
    return float(np.mean([result.is_anomalous for result in results]))


def _fit(detector: Detector, references: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that few images fix no rate is what is measured here
        detector.fit(references, progress=False)


def _measure_products(detector: Detector, options: argparse.Namespace) -> None:
    """A line for each number of classes and shots."""
    made, new = [], options.images
    for product in tqdm(range(options.products), "images", disable=None, leave=False):
        made.append(product_images(product, max(options.shots) + new, new + options.bad))
    print("classes  shots  normal above  in the worst tenth  defective above  balanced accuracy")
    for classes in options.classes:
        for shots in options.shots:
            shares = shares_above(detector, made, shots, classes, new, bad=options.bad)
            normal, defective = shares.mean(0)
            worst = np.quantile(shares[:, 0], 0.9, method="higher")
            balanced = (1 - normal + defective) / 2
            print(f"{classes:7}  {shots:5}  {normal:12.1%}  {worst:10.0%} or more  {defective:15.1%}  {balanced:17.3f}")


# --- real sets ----------------------------------------------------------------------------------------------------


def category_shares(detector: Detector, category: Category, shots: int, draws: int, *, rate: float) -> np.ndarray:
    """(draws, 2, 2): shares of normal and of defective test images above the fitted threshold, and above the best one.

    Args:
        shots: normal images to fit with; draws: of them, as `run.py` draws them.
        rate: of normal test images above the best threshold.
    """
    samples = [sample for sample in category.test if is_readable(sample.path)]
    defective = np.array([sample.label == 1 for sample in samples])
    shares = []
    for seed in tqdm(range(draws), f"{category.name}, {shots} shots", disable=None, leave=False):
        references, _ = draw_references(category, shots, seed)
        _fit(detector, references[None] if set(references) == {None} else references)
        results = detector.predict_batch([sample.path for sample in samples], progress=False)
        pairs = np.array([(result.score, result.is_anomalous) for result in results])
        scores, flagged = pairs.T
        best = scores > best_threshold(scores[~defective], rate)
        shares.append([[above[~defective].mean(), above[defective].mean()] for above in (flagged, best)])
    return np.array(shares)


def best_threshold(normal_scores: np.ndarray, rate: float) -> float:
    """The lowest that no more of these scores exceed than come nearest to the rate: one of them."""
    exceeding = min(round(rate * len(normal_scores)), len(normal_scores) - 1)
    return float(np.sort(normal_scores)[-1 - exceeding])


def _measure_categories(detector: Detector, categories: Sequence[Category], options: argparse.Namespace) -> None:
    """A line for each category and number of shots."""
    width = max(len(_title(category)) for category in categories)
    print(f"{'':{width}}  {'':5}  at the fitted threshold, mean (worst)  at the best threshold")
    print(f"{'set':{width}}  shots  {'false alarms':>17}  {'defects found':>17}   false alarms  defects found")
    for category in categories:
        for shots in options.shots:
            shares = category_shares(detector, category, shots, options.draws, rate=options.rate)
            (alarms, found), (best_alarms, best_found) = shares.mean(0)
            most, fewest = shares[:, 0, 0].max(), shares[:, 0, 1].min()
            cells = [f"{alarms:.1%} ({most:.0%})", f"{found:.1%} ({fewest:.0%})"]
            print(
                f"{_title(category):{width}}  {shots:5}  {cells[0]:>17}  {cells[1]:>17}   {best_alarms:12.1%}  "
                f"{best_found:13.1%}"
            )


def _title(category: Category) -> str:
    return category.name if category.name == category.dataset else f"{category.dataset}/{category.name}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure products, or the real sets that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=0.05, help="what fit aims at (default %(default)s)")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4, 16], help="normal images of each to fit with")
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 4], help="products to fit together")
    parser.add_argument("--products", type=int, default=48, help="(default %(default)s)")
    parser.add_argument("--images", type=int, default=20, help="new ones of either sort (default %(default)s)")
    parser.add_argument("--bad", type=int, default=0, help="defective ones among the shots (default %(default)s)")
    real = parser.add_argument_group("real sets in place of the synthetic products")
    real.add_argument("--data", type=Path, action="append", default=[], help="as of run.py; may be repeated")
    real.add_argument("--dataset", action="append", default=[], choices=("elpv", "textile"), help="may be repeated")
    real.add_argument("--draws", type=int, default=6, help="of the shots (default %(default)s)")
    real.add_argument("--limit", type=int, default=100, help="test images of either sort (default %(default)s)")
    options = parser.parse_args(arguments)
    if not 0 <= options.bad < min(options.shots):
        parser.error(f"--bad {options.bad}: expected fewer than the fewest shots")
    detector = Detector(max_false_positive_rate=options.rate)
    if not options.data and not options.dataset:
        _measure_products(detector, options)
        return
    categories = load_categories(options.data, options.dataset, limit=options.limit, folder=Path())
    _measure_categories(detector, categories, options)


if __name__ == "__main__":
    main()
