"""`python -m patchclip.pretrain.constants [FOLDER]`: the constants that are measured on synthetic images.

Four things are set here and nowhere else, from surfaces of the training families with seeds of their own. In the
open_clip_config.json of a released model: its zero-shot threshold, which a stated share of normal synthetic images
exceeds, the usual ratios of the spreads of its cues, and the usual spread of the scores of normal images once it is
fitted. Where no folder is given, that of the default model, and the whitening of the texture descriptor
(assets/texture.json) too.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from scipy.special import logit
from tqdm import tqdm

from ..detector import Detector
from ..encoders.loading import ASSETS, DEFAULT_MODEL
from ..encoders.texture import CONSTANTS_FILE, TextureDescriptor
from ..scoring.cues import BANK_CUES
from ..synthetic import sample_surface

_SEED = 41_000
_SIDE = 224
_PATCH = 16


def normal_images(products: int, views: int) -> list[list[np.ndarray]]:
    """`views` flawless images (224, 224, 3) uint8 of each product."""
    out = []
    for index in range(products):
        surface = sample_surface(np.random.default_rng([_SEED, index]))
        out.append([surface.photograph(surface.render(view, (_SIDE, _SIDE)), view) for view in range(views)])
    return out


def measure_whitening(products: list[list[np.ndarray]]) -> dict[str, object]:
    """Scale: root mean square over products of each value's deviation within the product. Half: ten times the median
    over products of the largest squared distance of a normal patch to the nearest patch of another image, so that
    the map is nearly proportional to the squared distance up to there."""
    descriptor = TextureDescriptor(_PATCH)
    described = []
    for views in products:
        rgb = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float() / 255
        described.append(descriptor.describe(rgb).flatten(1, 2))  # (views, N, 39)
    scale = torch.stack([d.flatten(0, 1).var(0) for d in described]).mean(0).sqrt()
    largest = [
        float(torch.cdist(first / scale, second / scale).min(1).values.max() ** 2) for first, second, *_ in described
    ]
    return {"scale": [round(value, 6) for value in scale.tolist()], "half_at": round(10 * float(np.median(largest)), 3)}


def measure_threshold(products: list[list[np.ndarray]], rate: float, model: str = DEFAULT_MODEL) -> float:
    """The score that a share `rate` of normal images exceeds, zero-shot, in float32."""
    detector = Detector(model, precision="fp32")
    images = [view for views in products for view in views]
    scores = [result.score for result in detector.predict_batch(images)]
    return round(float(np.quantile(scores, 1 - rate, method="higher")), 4)


def measure_cue_spreads(
    products: list[list[np.ndarray]], shots: int = 4, model: str = DEFAULT_MODEL
) -> dict[str, float]:
    """Cue -> the standard deviation of its maps over the normal images of a fit, left out one by one, relative to that
    of the others: the geometric mean over products.

    Args:
        model: one that does not bring the ratios yet, so that the weights of a fit go by its own spreads alone.
    """
    detector = Detector(model, precision="fp32")
    gains = {cue.name: cue.gain for cue in BANK_CUES}
    logarithms: dict[str, list[float]] = defaultdict(list)
    for views in tqdm(products, "cue spreads", disable=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the threshold is of no interest
            detector.fit(views[:shots], progress=False)
        spreads = {cue: gains.get(cue, 1.0) / weight for cue, weight in detector.weights_.items()}
        level = np.mean(np.log(list(spreads.values())))
        for cue, spread in spreads.items():
            logarithms[cue].append(float(np.log(spread) - level))
    return {cue: round(float(np.exp(np.mean(values))), 3) for cue, values in logarithms.items()}


def measure_spread(products: list[list[np.ndarray]], shots: int = 4, model: str = DEFAULT_MODEL) -> float:
    """Root mean square over products of the deviation of the scores' log odds among normal images that `fit` has not
    seen, after a fit with `shots` others."""
    detector, variances = Detector(model, precision="fp32"), []
    for views in tqdm(products, "spread", disable=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the threshold is of no interest
            detector.fit(views[:shots], progress=False)
        scores = [result.score for result in detector.predict_batch(views[shots:], progress=False)]
        variances.append(logit(scores).var(ddof=1))
    return round(float(np.sqrt(np.mean(variances))), 2)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m patchclip.pretrain.constants", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="a released model (default: the embedded one)")
    parser.add_argument("--products", type=int, default=400)
    parser.add_argument("--rate", type=float, default=0.05, help="false-positive rate of the threshold (default 0.05)")
    args = parser.parse_args()
    products = normal_images(args.products, 2)
    if args.folder is None:
        CONSTANTS_FILE.write_text(json.dumps(measure_whitening(products)) + "\n")
        model, folder = DEFAULT_MODEL, ASSETS / DEFAULT_MODEL
    else:
        model, folder = f"local-dir:{args.folder}", args.folder
    config_file = folder / "open_clip_config.json"
    config = json.loads(config_file.read_text())
    about = config["patchclip"]
    about["threshold"] = measure_threshold(products, args.rate, model)
    fitted_products = normal_images(args.products // 8, 10)
    about.pop("cue_spreads", None)
    config_file.write_text(json.dumps(config, indent=2) + "\n")
    about["cue_spreads"] = measure_cue_spreads(fitted_products, model=model)
    config_file.write_text(json.dumps(config, indent=2) + "\n")
    about["score_spread"] = measure_spread(fitted_products, model=model)
    config_file.write_text(json.dumps(config, indent=2) + "\n")
    print(f"threshold {about['threshold']} at a rate of {args.rate}, spread {about['score_spread']}")


if __name__ == "__main__":
    main()
