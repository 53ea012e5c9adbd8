"""A data set in a course's layout, train/<class>/* and test/{normal,anomaly}/*: one detector for all classes.

python examples/course_dataset.py

    classes fabric, metal, tile; 6 test images, threshold 0.544
    image AUROC 1.000, accuracy 1.000
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np

from patchclip import Detector
from patchclip.datasets import read_dataset
from patchclip.metrics import auroc

IMAGES = Path(__file__).parent / "images"


def copy_example(folder: Path) -> Path:
    """The images of this folder in that layout: of each product three to fit on, and two to test."""
    for name, defective in (("tile", "tile_crack"), ("fabric", "fabric_hole"), ("metal", "metal_scratch")):
        for split in (f"train/{name}", "test/normal", "test/anomaly"):
            (folder / split).mkdir(parents=True, exist_ok=True)
        for index in range(3):
            shutil.copy(IMAGES / f"{name}_normal/{index}.jpg", folder / "train" / name)
        shutil.copy(IMAGES / f"{name}_normal/3.jpg", folder / f"test/normal/{name}.jpg")
        shutil.copy(IMAGES / f"{defective}.jpg", folder / "test/anomaly")
    return folder


def evaluate(data: Path) -> None:
    [category] = read_dataset(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few images: the threshold is an extrapolation
        classes = {str(name): paths for name, paths in category.references.items()}
        detector = Detector().fit(classes, progress=False)
    results = list(detector.predict_batch([sample.path for sample in category.test], progress=False))
    labels = np.array([sample.label for sample in category.test])
    scores = np.array([result.score for result in results])
    verdicts = np.array([result.is_anomalous for result in results])
    print(f"classes {', '.join(detector.classes_)}; {len(labels)} test images, threshold {detector.threshold:.3f}")
    print(f"image AUROC {auroc(labels, scores):.3f}, accuracy {np.mean(verdicts == labels):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="?", help="folder of the data set (default: made of examples/images)")
    given = parser.parse_args().data
    with tempfile.TemporaryDirectory() as temporary:
        evaluate(given or copy_example(Path(temporary)))
