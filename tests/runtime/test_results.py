"""Results of exported files against those of their detectors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from patchclip import Detector, ImageError, Region, Result
from patchclip.images.load import load_image
from patchclip.runtime import load

from .conftest import Exported

#: What a machine on the line need not have.
NOT_NEEDED = [
    "click",
    "huggingface_hub",
    "imagecodecs",
    "onnx",
    "open_clip",
    "rich",
    "safetensors",
    "scipy",
    "tifffile",
    "timm",
    "torch",
    "torchvision",
    "tqdm",
]


def overlap(first: Region, second: Region) -> float:
    """Intersection over union of their boxes."""
    left, top = np.maximum(first.box_xyxy[:2], second.box_xyxy[:2])
    right, bottom = np.minimum(first.box_xyxy[2:], second.box_xyxy[2:])
    shared = max(0, right - left) * max(0, bottom - top)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first.box_xyxy, second.box_xyxy))
    return shared / (areas - shared)


def assert_same(found: Result, expected: Result, *, tolerance: float = 1e-3) -> None:
    assert found.heatmap.shape == expected.heatmap.shape
    assert found.heatmap.dtype == np.float32
    np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=tolerance, rtol=0)
    assert found.score == pytest.approx(expected.score, abs=tolerance)
    assert found.score == found.heatmap.max()
    assert (found.threshold, found.threshold_source) == (expected.threshold, expected.threshold_source)
    assert (found.class_name, found.is_anomalous) == (expected.class_name, expected.is_anomalous)
    np.testing.assert_array_equal(found.image, expected.image)
    assert found.to_dict().keys() == expected.to_dict().keys()


def assert_same_regions(found: Result, expected: Result) -> None:
    assert found.defect == expected.defect
    assert [region.defect for region in found.regions] == [region.defect for region in expected.regions]
    for region, other in zip(found.regions, expected.regions, strict=True):
        assert overlap(region, other) > 0.95
        assert region.confidence == pytest.approx(other.confidence, abs=0.01)
    assert (found.mask != expected.mask).mean() < 0.001
    assert found.overlay().size == expected.overlay().size


@pytest.mark.parametrize("size_hw", [(96, 128), (480, 640), (750, 1000), (36, 48)])
def test_images_of_any_size(size_hw: tuple[int, int], tiny_file: Exported, images: list[np.ndarray]) -> None:
    exported = load(tiny_file.path, threads=1)
    sized = [cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA) for image in images]
    results = [exported.predict(image) for image in sized]
    for image, result in zip(sized, results, strict=True):
        expected = tiny_file.detector.predict(image)
        assert_same(result, expected)
        assert_same_regions(result, expected)
    assert results[2].is_anomalous
    assert results[2].regions


def test_classes(classes_file: Exported, images: list[np.ndarray]) -> None:
    exported = load(classes_file.path)
    light = [images[2], *images[4:]]  # new ones: of those in the banks, distances are rounding
    new = [*light, *[255 - image for image in light]]
    results = list(exported.predict_batch(new, batch_size=5))
    for image, result in zip(new, results, strict=True):
        # the levels of this random network are 0.001 and 0.002, and enlarge rounding by as much
        assert_same(result, classes_file.detector.predict(image), tolerance=5e-3)
    assert {result.class_name for result in results} == {"light", "dark"}
    assert any(result.regions for result in results)


def test_files_of_every_kind(tiny_file: Exported, defective: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    Image.fromarray(defective[0]).save(tmp_path / "photo.jpg", quality=95)
    Image.fromarray(np.rot90(defective[0])).save(tmp_path / "turned.png")
    exported = load(tiny_file.path)
    path = tmp_path / "photo.jpg"
    with path.open("rb") as file:
        for image in (path, str(path), path.read_bytes(), file, Image.fromarray(load_image(path))):
            assert_same(exported.predict(image), tiny_file.detector.predict(path))
    with pytest.raises(ImageError, match=r"turned\.png has 128 x 96 .* proportions of 96 x 128.*image_hw=\(128, 96\)"):
        exported.predict(tmp_path / "turned.png")


def test_batches_are_single_images(tiny_file: Exported, images: list[np.ndarray]) -> None:
    exported = load(tiny_file.path)
    stream = [images[0], images[0][:40], *images[1:]]
    outcomes = list(exported.predict_batch(iter(stream), batch_size=3, errors="return"))
    assert isinstance(outcomes.pop(1), ImageError)
    for image, result in zip(images, outcomes, strict=True):
        np.testing.assert_allclose(result.heatmap, exported.predict(image).heatmap, atol=1e-5, rtol=0)
    with pytest.raises(ImageError, match="40 x 128"):
        list(exported.predict_batch(stream))
    with pytest.raises(ValueError, match="expected a list of images, got one"):
        exported.predict_batch("photo.jpg")


def test_the_threshold_may_be_set(tiny_file: Exported, images: list[np.ndarray]) -> None:
    exported = load(tiny_file.path)
    assert exported.threshold == tiny_file.detector.threshold
    assert exported.normal_scores_ == tiny_file.detector.normal_scores_
    score = exported.predict(images[2]).score
    exported.threshold = score + 0.01
    result = exported.predict(images[2])
    assert (result.is_anomalous, result.regions, result.threshold_source) == (False, (), "user")
    exported.threshold = score - 0.01
    assert exported.predict(images[2]).regions
    with pytest.raises(ValueError, match="between 0 and 1"):
        exported.threshold = 2
    assert load(tiny_file.path).threshold == tiny_file.detector.threshold


def test_what_was_prepared_for_another_detector(tiny_file: Exported, local: Detector, images: list[np.ndarray]) -> None:
    exported = load(tiny_file.path)
    [result] = exported.predict_prepared([tiny_file.detector.prepare(images[0])])
    assert_same(result, tiny_file.detector.predict(images[0]))
    assert exported.predict_prepared([]) == []
    with pytest.raises(ValueError, match=r"by OnnxDetector\.prepare"):
        exported.predict_prepared([local.prepare(images[0])])
    with pytest.raises(ValueError, match=r"by OnnxDetector\.prepare"):
        exported.predict_prepared([images[0]])


def test_it_needs_four_packages(tiny_file: Exported, defective: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    Image.fromarray(defective[0]).save(tmp_path / "photo.png")
    missing = "".join(f"sys.modules[{name!r}] = None\n" for name in NOT_NEEDED)
    code = f"""
import sys
{missing}
from patchclip.images.load import load_image
from patchclip.runtime import load
detector = load({str(tiny_file.path)!r})
[result] = detector.predict_batch([{str(tmp_path / "photo.png")!r}])
result.overlay()
print(result.score, result.defect)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    score, defect = done.stdout.split(maxsplit=1)
    expected = tiny_file.detector.predict(defective[0])
    assert float(score) == pytest.approx(expected.score, abs=1e-3)
    assert defect.strip() == str(expected.defect)
