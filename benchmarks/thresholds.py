#!/usr/bin/env python3
"""What the threshold that `fit` sets is worth, on synthetic surfaces that training never sees: how often new normal
images exceed it, and how often defective ones do.

python benchmarks/thresholds.py
python benchmarks/thresholds.py --rate 0.01 --shots 16 --classes 1 --products 40
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # a script: import from the checkout, and nothing in this folder by its bare name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from tqdm import tqdm

from patchclip import Detector
from patchclip.synthetic import HELD_OUT, sample_defective, sample_surface

_SEED = 52_000
_SIDE = 256


def product_images(number: int, normal: int, defective: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Normal and defective images of a product, (256, 256, 3) uint8."""
    rng = np.random.default_rng([_SEED, number])
    surface = sample_surface(rng, [HELD_OUT[number % len(HELD_OUT)]])
    normals = [surface.photograph(surface.render(k, (_SIDE, _SIDE)), k) for k in range(normal)]
    defects = [
        sample_defective(surface, normal + k, rng, size_hw=(_SIDE, _SIDE), held_out=True)[0] for k in range(defective)
    ]
    return normals, defects


def shares_above(
    detector: Detector, made: Sequence[tuple[list[np.ndarray], list[np.ndarray]]], shots: int, classes: int, new: int
) -> np.ndarray:
    """(fits, 2) shares of new normal and of defective images above the threshold.

    Args:
        made: normal and defective images of each product.
        shots: normal images of each to fit with, the first ones; new: to test, the last ones.
        classes: products fitted together.
    """
    shares = []
    for start in tqdm(range(0, len(made) - classes + 1, classes), f"{shots} shots", disable=None, leave=False):
        together = made[start : start + classes]
        groups = {str(k): normals[:shots] for k, (normals, _) in enumerate(together)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that few images fix no rate is what is measured here
            detector.fit(groups if classes > 1 else groups["0"], progress=False)
        tests = (
            [image for normals, _ in together for image in normals[-new:]],
            [image for _, defects in together for image in defects],
        )
        shares.append(
            [
                np.mean([result.is_anomalous for result in detector.predict_batch(part, progress=False)])
                for part in tests
            ]
        )
    return np.array(shares)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a line for each number of classes and shots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=0.05, help="what fit aims at (default %(default)s)")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4, 16], help="normal images of each to fit with")
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 4], help="products to fit together")
    parser.add_argument("--products", type=int, default=48, help="(default %(default)s)")
    parser.add_argument("--images", type=int, default=20, help="new ones of either sort (default %(default)s)")
    options = parser.parse_args(arguments)
    detector, new = Detector(max_false_positive_rate=options.rate), options.images
    made = [
        product_images(number, max(options.shots) + new, new)
        for number in tqdm(range(options.products), "images", disable=None, leave=False)
    ]
    print("classes  shots  normal above  in the worst tenth  defective above  balanced accuracy")
    for classes in options.classes:
        for shots in options.shots:
            shares = shares_above(detector, made, shots, classes, new)
            normal, defective = shares.mean(0)
            worst = np.quantile(shares[:, 0], 0.9, method="higher")
            print(
                f"{classes:7}  {shots:5}  {normal:12.1%}  {worst:10.0%} or more  {defective:15.1%}  "
                f"{(1 - normal + defective) / 2:17.3f}"
            )


if __name__ == "__main__":
    main()
