#!/usr/bin/env python3
"""How often new normal images exceed the threshold that `fit` sets, on synthetic surfaces that training never sees.

python benchmarks/false_positives.py
python benchmarks/false_positives.py --rate 0.01 --shots 16 --products 40
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
from patchclip.synthetic import HELD_OUT, sample_surface

_SEED = 52_000
_SIDE = 256


def false_positive_rates(detector: Detector, shots: int, *, products: int, images: int) -> np.ndarray:
    """(products,) shares of new normal images above the threshold, each product fitted with `shots` others."""
    rates = []
    for number in tqdm(range(products), f"{shots} shots", disable=None, leave=False):
        surface = sample_surface(np.random.default_rng([_SEED, number]), [HELD_OUT[number % len(HELD_OUT)]])
        normals = [surface.photograph(surface.render(k, (_SIDE, _SIDE)), k) for k in range(shots + images)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that few images fix no rate is what is measured here
            detector.fit(normals[:shots], progress=False)
        results = detector.predict_batch(normals[shots:], progress=False)
        rates.append(np.mean([result.is_anomalous for result in results]))
    return np.array(rates)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a line for each number of shots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=0.05, help="what fit aims at (default %(default)s)")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4, 16], help="normal images to fit with")
    parser.add_argument("--products", type=int, default=48, help="(default %(default)s)")
    parser.add_argument("--images", type=int, default=20, help="new ones of each product (default %(default)s)")
    options = parser.parse_args(arguments)
    detector = Detector(max_false_positive_rate=options.rate)
    print("shots  exceeded by  worst tenth of the products")
    for shots in options.shots:
        rates = false_positive_rates(detector, shots, products=options.products, images=options.images)
        print(f"{shots:5}  {rates.mean():11.1%}  {np.quantile(rates, 0.9, method='higher'):.0%} or more")


if __name__ == "__main__":
    main()
