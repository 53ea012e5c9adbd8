#!/usr/bin/env python3
"""Whether synthetic products rank variants of the detector as real sets do.

That is the rank correlation (Spearman) of their image AUROC, over variants that differ in cues, size and bank. A choice
made by synthetic products is worth something only where it is clearly above zero, for several seeds.

python benchmarks/representative.py
python benchmarks/representative.py --products plain --seeds 0 1 2 --count 64
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from tqdm import tqdm

from accuracy.categories import load_categories
from accuracy.plan import draw_references
from accuracy.tables import markdown
from patchclip import Detector, metrics
from patchclip.datasets import Category
from patchclip.synthetic import HELD_OUT, sample_defective, sample_surface

#: Variant -> what it differs in from the default.
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "without text": {"cues": ("tokens", "texture", "imagenet")},
    "tokens": {"cues": ("tokens",)},
    "texture": {"cues": ("texture",)},
    "imagenet": {"cues": ("imagenet",)},
    "text, tokens": {"cues": ("text", "tokens")},
    "text, imagenet": {"cues": ("text", "imagenet")},
    "tokens, texture": {"cues": ("tokens", "texture")},
    "tokens, imagenet": {"cues": ("tokens", "imagenet")},
    "texture, imagenet": {"cues": ("texture", "imagenet")},
    "336 px": {"image_size": 336},
    "coreset of 10 %": {"coreset": 0.1},
    "smoothing of 1 patch": {"smoothing": 1.0},
}

#: The sets that choices may be made by.
_DEVELOPMENT = ("elpv/mono", "elpv/poly", "textile/local")

_SEED = 61_000
_SIDE = 256

#: Normal images to fit on, normal ones to test, defective ones: (256, 256, 3) uint8 each.
Images = tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]

#: Variant -> column -> image AUROC.
Figures = Mapping[str, Mapping[str, float]]


def plain_product(rng: np.random.Generator, shots: int, each: int) -> Images:
    """A product of a family that training never sees, as the benchmark's synthetic set has them."""
    surface = sample_surface(rng, HELD_OUT)
    size_hw = (_SIDE, _SIDE)
    normals = [surface.photograph(surface.render(index, size_hw), index) for index in range(shots + each)]
    defective = []
    for index in range(shots + each, shots + 2 * each):
        image, *_ = sample_defective(surface, index, rng, size_hw=size_hw, held_out=True)
        defective.append(image)
    return normals[:shots], normals[shots:], defective


#: Sort of products -> makes one.
PRODUCTS: dict[str, Callable[[np.random.Generator, int, int], Images]] = {
    "plain": plain_product,
}


def image_auroc(
    detector: Detector, references: Sequence[Any], normal: Sequence[Any], defective: Sequence[Any]
) -> float:
    """Of a fit on the references; images or paths."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of thresholds, which are not looked at
        detector.fit(references, progress=False)
    scores = [result.score for result in detector.predict_batch([*normal, *defective], progress=False)]
    labels = np.repeat([0, 1], [len(normal), len(defective)])
    return metrics.auroc(labels, np.array(scores))


def category_auroc(detector: Detector, category: Category, shots: int, draws: int) -> float:
    """Mean of several draws of the references."""
    normal, defective = ([sample.path for sample in category.test if sample.label == label] for label in (0, 1))
    values = []
    for seed in range(draws):
        references, _ = draw_references(category, shots, seed)
        values.append(image_auroc(detector, references[None], normal, defective))
    return float(np.mean(values))


def products_auroc(detector: Detector, products: Sequence[Images]) -> float:
    """Mean of the products."""
    return float(np.mean([image_auroc(detector, *images) for images in products]))


def rank_correlation(found: Figures, one: str, other: str) -> float:
    """Spearman's of two columns over the variants; NaN where all variants are equal in one of them."""
    pairs = np.array([(columns[one], columns[other]) for columns in found.values()])
    if np.ptp(pairs, axis=0).min() == 0:
        return float("nan")
    return float(spearmanr(pairs).statistic)


def measure(
    variants: Sequence[str],
    categories: Sequence[Category],
    products: Mapping[str, Sequence[Images]],
    *,
    shots: int,
    draws: int,
    **options: Any,
) -> Figures:
    """One column for each set, their mean, and one for each lot of products.

    Args:
        categories: at least one.
        options: of every detector.
    """
    found = {}
    for variant in tqdm(variants, "variants", disable=None, leave=False):
        detector = Detector(**{**options, **VARIANTS[variant]})
        columns = {_title(category): category_auroc(detector, category, shots, draws) for category in categories}
        columns["mean"] = float(np.mean(list(columns.values())))
        for name, lot in products.items():
            columns[name] = products_auroc(detector, lot)
        found[variant] = columns
    return found


def _title(category: Category) -> str:
    return f"{category.dataset}/{category.name}"


def tables(found: Figures, sets: Sequence[str]) -> str:
    """A row for each variant, the best on real sets first; and the correlation of each column with each set.

    The mean over sets is led by the set on which variants differ most, the mean of the correlations by none.
    """
    columns = list(next(iter(found.values())))
    ordered = sorted(found, key=lambda variant: found[variant]["mean"], reverse=True)
    figures = [[variant, *(f"{found[variant][column]:.3f}" for column in columns)] for variant in ordered]
    correlations = {name: [rank_correlation(found, name, column) for column in columns] for name in (*sets, "mean")}
    correlations["mean of the sets' correlations"] = list(np.mean([correlations[name] for name in sets], axis=0))
    lines = [[name, *(f"{value:+.2f}" for value in values)] for name, values in correlations.items()]
    return "\n\n".join(
        [markdown(["image AUROC", *columns], figures), markdown(["rank correlation with", *columns], lines)]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="NAME", help="default: all")
    add("--sets", nargs="+", default=list(_DEVELOPMENT), choices=_DEVELOPMENT, help="default: all")
    add("--products", nargs="*", default=list(PRODUCTS), choices=PRODUCTS, help="default: all")
    add("--seeds", nargs="+", type=int, default=[0, 1], help="a lot of products for each (default: 0 1)")
    add("--count", type=int, default=32, help="products in a lot (default: %(default)s)")
    add("--each", type=int, default=6, help="normal and defective images of a product (default: %(default)s)")
    add("--shots", type=int, default=4, help="normal images to fit on (default: %(default)s)")
    add("--draws", type=int, default=3, help="of them, on real sets (default: %(default)s)")
    add("--limit", type=int, default=50, help="normal and anomalous test images of a set (default: %(default)s)")
    add("--out", type=Path, metavar="FILE", help="write the figures there as JSON")
    options = parser.parse_args(arguments)
    sets = list(dict.fromkeys(name.split("/")[0] for name in options.sets))
    categories = load_categories([], sets, limit=options.limit, folder=Path())
    chosen = [category for category in categories if _title(category) in options.sets]
    products = {}
    for sort in options.products:
        for seed in options.seeds:
            generators = (np.random.default_rng([_SEED, seed, index]) for index in range(options.count))
            products[f"{sort} {seed}"] = [PRODUCTS[sort](rng, options.shots, options.each) for rng in generators]
    found = measure(options.variants, chosen, products, shots=options.shots, draws=options.draws)
    print(tables(found, [_title(category) for category in chosen]))
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
