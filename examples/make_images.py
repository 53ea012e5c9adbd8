"""Make the images of examples/images and the picture of the README, from the project's own generator.

python examples/make_images.py
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from patchclip import Detector
from patchclip.synthetic import sample_defective, sample_surface
from patchclip.viz import contact_sheet

IMAGES = Path(__file__).parent / "images"
SIZE_HW = (360, 480)
NORMALS = 4

#: name -> (family, seed of the product, kind of defect, seed of the defect)
PRODUCTS = {
    "tile": ("grid", 45, "crack", 1),
    "fabric": ("fabric", 43, "hole", 1),
    "metal": ("brushed", 40, "scratch", 1),
}


def main() -> None:
    pictures, titles = [], []
    for name, (family, product, kind, defect) in PRODUCTS.items():
        surface = sample_surface(np.random.default_rng(product), [family])
        folder = IMAGES / f"{name}_normal"
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(NORMALS):
            normal = surface.photograph(surface.render(seed, SIZE_HW), seed)
            Image.fromarray(normal).save(folder / f"{seed}.jpg", quality=88)
        image, _, _ = sample_defective(surface, 9, np.random.default_rng(defect), kind=kind, size_hw=SIZE_HW)
        path = IMAGES / f"{name}_{kind}.jpg"
        Image.fromarray(image).save(path, quality=88)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # four normal images: the threshold is an extrapolation
            detector = Detector(object_name=name, defects=("crack", "hole", "scratch")).fit(sorted(folder.iterdir()))
        result = detector.predict(path)
        pictures += [Image.open(path), result.overlay()]
        titles += [path.name, f"score {result.score:.3f}, threshold {result.threshold:.3f}"]
    order = [*range(0, len(pictures), 2), *range(1, len(pictures), 2)]
    sheet = contact_sheet([pictures[k] for k in order], [titles[k] for k in order], columns=len(PRODUCTS), side=320)
    sheet.save(Path(__file__).parent / "heatmaps.png", optimize=True)


if __name__ == "__main__":
    main()
