"""The ONNX file against the detector it came from, in onnxruntime."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from patchclip import Detector, MissingDependencyError
from patchclip.export import _DenseModule
from patchclip.synthetic import Surface, sample_surface

ROOT = Path(__file__).parents[1]
FEW = pytest.mark.filterwarnings("ignore:fit.*extrapolation:UserWarning")


def as_input(images: list[np.ndarray]) -> np.ndarray:
    """(H, W, 3) uint8 each -> (B, 3, H, W) float32 in [0, 1]."""
    return np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255


def run(path: Path, images: list[np.ndarray]) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": as_input(images)})


def assert_agree(detector: Detector, path: Path, images: list[np.ndarray]) -> None:
    heatmaps, scores = run(path, images)[:2]
    results = list(detector.predict_batch(images, progress=False))
    assert heatmaps.shape == (len(images), *results[0].heatmap.shape)
    assert heatmaps.dtype == np.float32
    np.testing.assert_allclose(heatmaps, np.stack([result.heatmap for result in results]), atol=1e-3, rtol=0)
    np.testing.assert_allclose(scores, [result.score for result in results], atol=1e-3, rtol=0)


@FEW
def test_the_embedded_model_on_twenty_images(surface: Surface, tmp_path: Path) -> None:
    images = [surface.photograph(surface.render(seed, (224, 224)), seed) for seed in range(24)]
    images[10][50:90, 60:100] = 0
    detector = Detector(precision="fp32").fit(images[:4])
    detector.export(tmp_path / "detector.onnx")
    assert_agree(detector, tmp_path / "detector.onnx", images[4:])
    _, scores = run(tmp_path / "detector.onnx", images[4:])
    assert scores.argmax() == 6  # the one with a black square
    photo = tmp_path / "photo.png"
    Image.fromarray(images[10]).resize((300, 300)).save(photo)
    code = re.search(
        r"```python\n(import numpy as np\nimport onnxruntime\n.*?)```", (ROOT / "README.md").read_text(), re.S
    )[1]
    found: dict[str, np.ndarray] = {}
    exec(code.replace("bottle.onnx", str(tmp_path / "detector.onnx")).replace("photo.jpg", str(photo)), found)
    assert found["score"] == pytest.approx([detector.predict(photo).score], abs=0.01)


def test_zero_shot_and_any_batch(local_model: str, tmp_path: Path) -> None:
    detector = Detector(local_model, precision="fp32", smoothing=0.0)
    detector.export(tmp_path / "detector.onnx")
    images = list(np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8))
    for count in (1, 2, 5):
        assert_agree(detector, tmp_path / "detector.onnx", images[:count])


@FEW
def test_classes(normals: list[np.ndarray], tmp_path: Path) -> None:
    other = sample_surface(np.random.default_rng(8), ["dots"])
    dots = [other.photograph(other.render(seed, (64, 64)), seed) for seed in range(3)]
    fabric = [np.ascontiguousarray(image[:64, :64]) for image in normals[:3]]
    detector = Detector(image_size=64, precision="fp32", cues=("tokens", "texture", "imagenet"), dense_attention="vv")
    detector.fit({"fabric": fabric[:2], "dots": dots[:2]})
    path = tmp_path / "detector.onnx"
    detector.save(tmp_path / "detector.safetensors")
    loaded = Detector.load(tmp_path / "detector.safetensors")  # its banks are in the order of the file
    assert _DenseModule(loaded, (64, 64), (64, 64)).names == ("tokens", "texture", "imagenet")
    loaded.export(path)
    images = [*fabric, *dots]
    assert_agree(detector, path, images)
    names = [result.class_name for result in detector.predict_batch(images, progress=False)]
    found = run(path, images)[2]
    assert [detector.classes_[index] for index in found] == names
    assert set(names) == {"fabric", "dots"}


@FEW
def test_the_size_of_the_fitted_images_is_exported(local_model: str, normals: list[np.ndarray], tmp_path: Path) -> None:
    detector = Detector(local_model, precision="fp32").fit(normals[:3])
    detector.save(tmp_path / "detector.safetensors")
    Detector.load(tmp_path / "detector.safetensors").export(tmp_path / "detector.onnx")
    small = [detector._extractor.resized(image) for image in normals[3:5]]
    expected = np.stack([detector.predict(image).heatmap for image in normals[3:5]])
    np.testing.assert_allclose(run(tmp_path / "detector.onnx", small)[0], expected, atol=1e-3, rtol=0)
    detector.fit([normals[0], normals[1][:50]])
    with pytest.warns(UserWarning, match=r"64 x 64.*several sizes.*pass image_hw"):
        detector.export(tmp_path / "detector.onnx")


def test_images_of_a_size_of_their_own(local_model: str, normals: list[np.ndarray], tmp_path: Path) -> None:
    detector = Detector(local_model, precision="fp32")
    path = tmp_path / "detector.onnx"
    detector.export(path, image_hw=(96, 128))
    small = [detector._extractor.resized(image) for image in normals[:2]]
    assert small[0].shape == (48, 80, 3)  # three by five patches for four by four
    heatmaps, _ = run(path, small)
    expected = np.stack([detector.predict(image).heatmap for image in normals[:2]])
    assert heatmaps.shape == expected.shape == (2, 96, 128)
    np.testing.assert_allclose(heatmaps, expected, atol=1e-3, rtol=0)


def test_runs_without_torch_and_says_what_it_is(local_model: str, tmp_path: Path) -> None:
    detector = Detector(local_model, precision="fp32")
    detector.threshold = 0.25
    path = tmp_path / "detector.onnx"
    detector.export(path)
    code = f"""
import json, sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession({str(path)!r}, providers=["CPUExecutionProvider"])
heatmap, score = session.run(None, {{"image": numpy.zeros((1, 3, 64, 64), numpy.float32)}})
assert heatmap.shape == (1, 64, 64) and score[0] == heatmap.max()
assert "torch" not in sys.modules
print(session.get_modelmeta().custom_metadata_map["patchclip"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    about = json.loads(done.stdout)
    assert about["threshold"] == 0.25
    assert about["threshold_source"] == "user"
    assert about["input"]["size_hw"] == about["heatmap_hw"] == [64, 64]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "image_hw", "message"),
    [
        ({"recipe": "winclip"}, None, "winclip"),
        ({"tile": 60}, None, "tile"),
        ({}, (0, 10), r"\(height, width\)"),
        ({}, (64,), r"\(height, width\)"),
        ({}, 480, r"\(height, width\)"),
        ({}, "ab", r"\(height, width\)"),
    ],
)
def test_what_cannot_be_exported(
    options: dict, image_hw: tuple[int, int] | None, message: str, local_model: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        Detector(local_model, **options).export(tmp_path / "detector.onnx", image_hw=image_hw)
    assert list(tmp_path.iterdir()) == []


def test_without_onnxscript(local_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependencyError, match=r"patchclip\[onnx\]"):
        Detector(local_model).export(tmp_path / "detector.onnx")


def test_too_large_for_one_file(local_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchclip.export._LARGEST_FILE_BYTES", 1000)
    with pytest.raises(ValueError, match="coreset"):
        Detector(local_model).export(tmp_path / "detector.onnx")


@FEW
def test_int8_keeps_the_order(surface: Surface, tmp_path: Path) -> None:
    images = [surface.photograph(surface.render(seed, (224, 224)), seed) for seed in range(12)]
    for image in images[8:]:
        image[50:90, 60:100] = 0
    detector = Detector(precision="fp32").fit(images[:4])
    detector.export(tmp_path / "float.onnx")
    detector.export(tmp_path / "int8.onnx", int8_images=images[:4])
    assert (tmp_path / "int8.onnx").stat().st_size < 0.6 * (tmp_path / "float.onnx").stat().st_size
    whole, small = (run(tmp_path / f"{kind}.onnx", images)[1] for kind in ("float", "int8"))
    assert np.abs(whole - small).max() < 0.1
    assert small[8:].min() > small[4:8].max()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["float.onnx", "int8.onnx"]
    with pytest.raises(ValueError, match="at least one image"):
        detector.export(tmp_path / "int8.onnx", int8_images=[])
    with pytest.raises(ValueError, match="put it into a list"):
        detector.export(tmp_path / "int8.onnx", int8_images=images[0])
