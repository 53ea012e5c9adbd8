"""A fitted detector as one ONNX file, run without torch, and compared with the detector.

python examples/export_onnx.py

    tile_crack.jpg  exported 0.348  detector 0.348  anomalous
    0.jpg           exported 0.031  detector 0.032  normal
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from patchclip import Detector
from patchclip.datasets import images_in
from patchclip.images.load import load_image

IMAGES = Path(__file__).parent / "images"


def predict_exported(file: Path, image: Path) -> tuple[float, float]:
    """Score and threshold, by onnxruntime, numpy and Pillow alone."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    details = json.loads(session.get_modelmeta().custom_metadata_map["patchclip"])
    height, width = details["input"]["size_hw"]
    method = Image.Resampling[details["input"]["interpolation"].upper()]
    small = Image.fromarray(load_image(image)).resize((width, height), method)
    pixels = np.asarray(small, np.float32).transpose(2, 0, 1)[None] / 255  # (1, 3, height, width)
    _, score = session.run(["heatmap", "score"], {"image": pixels})
    return float(score[0]), details["threshold"]


def main(out: Path) -> None:
    detector = Detector(object_name="tile")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few images, and notes of the exporter
        detector.fit(images_in(IMAGES / "tile_normal"), progress=False)
        detector.export(out / "tile.onnx")
    for image in (IMAGES / "tile_crack.jpg", IMAGES / "tile_normal/0.jpg"):
        score, threshold = predict_exported(out / "tile.onnx", image)
        expected = detector.predict(image).score
        verdict = "anomalous" if score > threshold else "normal"
        print(f"{image.name:14s}  exported {score:.3f}  detector {expected:.3f}  {verdict}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="where the file stays (default: nowhere)")
    given = parser.parse_args().out
    with tempfile.TemporaryDirectory() as temporary:
        main(given or Path(temporary))
