"""Heatmaps, scores and regions of seven detectors, as they were before the package was reorganised, to 1e-4.

`python tests/test_golden.py FOLDER` writes what the current code gives, to compare two versions closely.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchclip import Detector, Result

GOLDEN = Path(__file__).parent / "golden"
LOCAL = f"local-dir:{GOLDEN / 'clip'}"

#: name -> model, options, and whether it is fitted: not, with one group of images, or with two classes
DETECTORS: dict[str, tuple[str, dict[str, Any], str]] = {
    "tiny_zero_shot": ("tiny", {}, "no"),
    "tiny": ("tiny", {}, "one group"),
    "local": (LOCAL, {}, "one group"),
    "winclip": (LOCAL, {"recipe": "winclip"}, "one group"),
    "tiles": (LOCAL, {"tile": 50}, "one group"),
    "classes": ("tiny", {"defects": ("hole", "crack")}, "classes"),
    "coreset": (LOCAL, {"coreset": 0.3, "cues": ("text", "tokens", "texture"), "rotations": 2}, "one group"),
}


def load_images() -> dict[str, np.ndarray]:
    """Name -> (H, W, 3) uint8."""
    with np.load(GOLDEN / "images.npz") as file:
        return dict(file)


def make_detector(name: str) -> Detector:
    model, options, fitted = DETECTORS[name]
    images = load_images()
    detector = Detector(model, precision="fp32", device="cpu", **options)
    first = [images["normal_0"], images["normal_1"], images["normal_2"]]
    second = [images["other_normal_0"], images["other_normal_1"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few images: the threshold is extrapolated
        if fitted == "one group":
            detector.fit(first, progress=False)
        elif fitted == "classes":
            detector.fit({"first": first, "second": second}, progress=False)
    return detector


def predict(detector: Detector) -> dict[str, Result]:
    """The results of the images in one batch; with a low threshold, so that there are regions in each."""
    images = load_images()
    names = ["defective", "normal_3", "other_defective"]
    detector.threshold = 0.5 * detector.threshold
    results = detector.predict_batch([images[name] for name in names], progress=False)
    return dict(zip(names, results, strict=True))


def heatmaps_and_verdicts(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    detector = make_detector(name)
    threshold = detector.threshold
    results = predict(detector)
    heatmaps = {image: result.heatmap for image, result in results.items()}
    verdicts = {image: result.to_dict() for image, result in results.items()}
    return heatmaps, {"threshold": threshold, "results": verdicts}


@pytest.mark.parametrize("name", DETECTORS)
def test_detector_gives_what_it_gave(name: str) -> None:
    heatmaps, verdicts = heatmaps_and_verdicts(name)
    expected = json.loads((GOLDEN / f"{name}.json").read_text())
    assert verdicts["threshold"] == pytest.approx(expected["threshold"], abs=1e-4)
    with np.load(GOLDEN / f"{name}.npz") as golden:
        for image, heatmap in heatmaps.items():
            assert heatmap.shape == golden[image].shape
            np.testing.assert_allclose(heatmap, golden[image], atol=1e-4, rtol=0)
    for image, verdict in verdicts["results"].items():
        wanted = expected["results"][image]
        assert verdict["score"] == pytest.approx(wanted["score"], abs=1e-4)
        assert verdict["class_name"] == wanted["class_name"]
        assert bool(verdict["regions"]) == bool(wanted["regions"])
        for region, wanted_region in zip(verdict["regions"][:1], wanted["regions"][:1], strict=True):  # the strongest
            assert region["defect"] == wanted_region["defect"]
            np.testing.assert_allclose(region["box_xyxy"], wanted_region["box_xyxy"], atol=2)


@pytest.mark.parametrize("name", ["local", "tiny"])
def test_file_of_format_1_loads(name: str) -> None:
    """Written by the first release of the format, from a detector with a coreset."""
    pretrained = GOLDEN / "clip" if name == "local" else None
    detector = Detector.load(GOLDEN / f"format_1_{name}.safetensors", device="cpu", pretrained=pretrained)
    assert detector.threshold_source == "fit"
    results = predict(detector)
    with np.load(GOLDEN / f"format_1_{name}.npz") as golden:
        for image, result in results.items():
            np.testing.assert_allclose(result.heatmap, golden[image], atol=1e-4, rtol=0)


def write(folder: Path) -> None:
    for name in DETECTORS:
        heatmaps, verdicts = heatmaps_and_verdicts(name)
        np.savez_compressed(folder / f"{name}.npz", **heatmaps)
        (folder / f"{name}.json").write_text(json.dumps(verdicts, indent=1) + "\n")
        if (GOLDEN / f"{name}.npz").exists():
            with np.load(GOLDEN / f"{name}.npz") as golden:
                difference = max(float(np.abs(golden[image] - heatmaps[image]).max()) for image in heatmaps)
            print(f"{name}: largest difference from the committed heatmaps {difference:.1e}")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
