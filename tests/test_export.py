"""The ONNX file against the detector it came from, in onnxruntime."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from exported import assert_agree, prepared_pixels, run

from patchclip import Detector, ImageError, MissingDependencyError
from patchclip.synthetic import Surface, sample_surface

ROOT = Path(__file__).parents[1]


class Fitted(NamedTuple):
    """A detector on the embedded model, twenty new images of which the seventh has a black square, and its files."""

    detector: Detector
    images: list[np.ndarray]
    whole: Path
    int8: Path


@pytest.fixture(scope="module")
def fitted_tiny(surface: Surface, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """Both files are of one trace, which takes longest by far."""
    images = [surface.photograph(surface.render(seed, (224, 224)), seed) for seed in range(24)]
    images[10][50:90, 60:100] = 0
    detector = Detector(precision="fp32")
    with pytest.warns(UserWarning, match="extrapolation"):
        detector.fit(images[:4])
    folder = tmp_path_factory.mktemp("fitted")
    trace, programs = torch.onnx.export, []

    def trace_once(*arguments: Any, **options: Any) -> Any:
        if not programs:
            programs.append(trace(*arguments, **options))
        return programs[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", trace_once)
        detector.export(folder / "float.onnx")
        detector.export(folder / "int8.onnx", int8_images=images[:4])
    assert sorted(path.name for path in folder.iterdir()) == ["float.onnx", "int8.onnx"]
    return Fitted(detector, images[4:], folder / "float.onnx", folder / "int8.onnx")


@pytest.fixture(scope="module")
def two_classes(normals: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    other = sample_surface(np.random.default_rng(8), ["dots"])
    dots = [other.photograph(other.render(seed, (96, 128)), seed) for seed in range(3)]
    return {"fabric": normals[:3], "dots": dots}


@pytest.fixture(scope="module")
def local_file(
    local_model: str, two_classes: dict[str, list[np.ndarray]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Detector, Path]:
    """A detector on the small random CLIP, fitted with two classes, saved and loaded, and its exported file."""
    cues = ("imagenet", "texture", "tokens")
    detector = Detector(local_model, cues=cues, dense_attention="vv", precision="fp32")
    with pytest.warns(UserWarning, match="extrapolation"):
        detector.fit({name: images[:2] for name, images in two_classes.items()})
    detector.threshold = 0.25
    folder = tmp_path_factory.mktemp("local")
    detector.save(folder / "detector.safetensors")
    loaded = Detector.load(folder / "detector.safetensors")  # its banks are in the order of the file
    loaded.export(folder / "detector.onnx")  # for the size of the images it was fitted with
    assert sorted(path.name for path in folder.iterdir()) == ["detector.onnx", "detector.safetensors"]
    return loaded, folder / "detector.onnx"


def test_the_embedded_model_on_twenty_images(fitted_tiny: Fitted) -> None:
    outputs = run(fitted_tiny.whole, fitted_tiny.images)
    assert_agree(fitted_tiny.detector, outputs, fitted_tiny.images)
    assert outputs[1].argmax() == 6


def test_int8_keeps_the_order(fitted_tiny: Fitted) -> None:
    images = [image.copy() for image in fitted_tiny.images[7:15]]
    for image in images[4:]:
        image[50:90, 60:100] = 0
    assert fitted_tiny.int8.stat().st_size < 0.6 * fitted_tiny.whole.stat().st_size
    whole, small = (run(path, images)[1] for path in (fitted_tiny.whole, fitted_tiny.int8))
    assert 0 < np.abs(whole - small).max() < 0.1
    assert small[4:].min() > small[:4].max()


@pytest.mark.parametrize("count", [1, 2, 6])
def test_any_batch_of_several_classes(
    count: int, local_file: tuple[Detector, Path], two_classes: dict[str, list[np.ndarray]]
) -> None:
    detector, path = local_file
    images = [image for group in two_classes.values() for image in group][-count:]
    outputs = run(path, prepared_pixels(detector, images))
    assert outputs[0].shape == (count, 96, 128)
    assert outputs[2].dtype == np.int64
    assert_agree(detector, outputs, images)
    if count == 6:
        assert set(outputs[2].tolist()) == {0, 1}


def test_it_runs_without_torch_and_says_what_it_is(local_file: tuple[Detector, Path]) -> None:
    detector, path = local_file
    code = f"""
import sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession({str(path)!r}, providers=["CPUExecutionProvider"])
pixels = numpy.zeros((1, 3, 48, 80), numpy.float32)
heatmap, score, class_index = session.run(["heatmap", "score", "class_index"], {{"image": pixels}})
assert heatmap.shape == (1, 96, 128) and score[0] == heatmap.max() and class_index.shape == (1,)
assert "torch" not in sys.modules
print(session.get_modelmeta().custom_metadata_map["patchclip"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    entries = json.loads(done.stdout)
    assert (entries["format"], entries["format_version"]) == ("onnx", 2)
    assert (entries["threshold"], entries["threshold_source"]) == (0.25, "user")
    assert entries["threshold_guaranteed"] is False
    assert (entries["input"]["size_hw"], entries["heatmap_hw"]) == ([48, 80], [96, 128])
    assert (entries["input"]["name"], entries["input"]["interpolation"]) == ("image", "bicubic")
    assert entries["model"] == detector.options["model"]
    assert entries["object_name"] == "surface"
    assert entries["weights_sha256"] == detector.backbone.model.weights_sha256
    assert entries["classes"] == ["fabric", "dots"]
    assert entries["class_levels"] == pytest.approx(list(detector.levels_))
    assert entries["cue_weights"] == pytest.approx(detector.weights_)


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
    options: dict[str, Any], image_hw: Any, message: str, local_model: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        Detector(local_model, **options).export(tmp_path / "detector.onnx", image_hw=image_hw)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_without_onnx(missing: str, local_file: tuple[Detector, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingDependencyError, match=r"patchclip\[onnx\]"):
        local_file[0].export("detector.onnx")


def test_images_for_int8(local_file: tuple[Detector, Path], normals: list[np.ndarray], tmp_path: Path) -> None:
    detector, path = local_file[0], tmp_path / "detector.onnx"
    with pytest.raises(ValueError, match="at least one image"):
        detector.export(path, int8_images=[])
    with pytest.raises(ValueError, match="put it into a list"):
        detector.export(path, int8_images=normals[0])
    with pytest.raises(ImageError, match="absent"):
        detector.export(path, int8_images=["absent.png"])
    with pytest.raises(FileNotFoundError, match="no-folder does not exist"):
        detector.export(tmp_path / "no-folder" / "detector.onnx")
    assert list(tmp_path.iterdir()) == []
