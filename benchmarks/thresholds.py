#!/usr/bin/env python3
"""What the threshold that `fit` sets is worth, on synthetic surfaces that training never sees: how often new normal
images exceed it, and how often defective ones do.

python benchmarks/thresholds.py
python benchmarks/thresholds.py --rate 0.01 --shots 16 --classes 1 --products 40
python benchmarks/thresholds.py --shots 20 --classes 1 --bad 1
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from patchclip import Detector
from patchclip.synthetic import HELD_OUT, sample_defective, sample_surface

_SEED = 52_000
_SIDE = 256


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that few images fix no rate is what is measured here
            detector.fit(references if classes > 1 else references["0"], progress=False)
        new_normals = [image for normals, _ in products for image in normals[-new:]]
        new_defects = [image for _, defects in products for image in defects[bad:]]
        shares.append([_share_above(detector, new_normals), _share_above(detector, new_defects)])
    return np.array(shares)


def _share_above(detector: Detector, images: Sequence[np.ndarray]) -> float:
    results = detector.predict_batch(images, progress=False)
    return float(np.mean([result.is_anomalous for result in results]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a line for each number of classes and shots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=0.05, help="what fit aims at (default %(default)s)")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4, 16], help="normal images of each to fit with")
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 4], help="products to fit together")
    parser.add_argument("--products", type=int, default=48, help="(default %(default)s)")
    parser.add_argument("--images", type=int, default=20, help="new ones of either sort (default %(default)s)")
    parser.add_argument("--bad", type=int, default=0, help="defective ones among the shots (default %(default)s)")
    options = parser.parse_args(arguments)
    if not 0 <= options.bad < min(options.shots):
        parser.error(f"--bad {options.bad}: expected fewer than the fewest shots")
    detector, new = Detector(max_false_positive_rate=options.rate), options.images
    made = []
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


if __name__ == "__main__":
    main()
