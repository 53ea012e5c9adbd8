"""The exported file in every runtime that it is for, against `Detector.predict`."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from onnx import version_converter

import patchclip
from patchclip import Detector, Result

#: Reads a file in OpenCV's dnn module, and saves its outputs; in a process of its own, since a fault there ends it.
OPENCV = """
import sys
import cv2, numpy as np
path, inputs, outputs, *names = sys.argv[1:]
net = cv2.dnn.readNetFromONNX(path)
net.setInput(np.load(inputs), "image")
np.savez(outputs, **dict(zip(names, net.forward(names))))
"""


class Exported(NamedTuple):
    """A detector with its file, three images, the inputs (3, 3, h, w) that they make, and results from before."""

    detector: Detector
    path: Path
    images: list[np.ndarray]
    inputs: np.ndarray
    results: list[Result]

    @property
    def output_names(self) -> list[str]:
        classes = ["class_index"] if self.detector.classes_ else []
        return ["heatmap", "score", *classes, "fine_map", "dense"]


def as_input(detector: Detector, images: list[np.ndarray]) -> np.ndarray:
    """Images (H, W, 3) uint8 -> (B, 3, h, w) float32 in [0, 1]."""
    pixels = np.stack([detector.prepare(image).pixels for image in images])
    return pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255


def export(detector: Detector, path: Path, images: list[np.ndarray]) -> Exported:
    results = [detector.predict(image) for image in images]
    detector.export(path, image_hw=images[0].shape[:2])
    return Exported(detector, path, images, as_input(detector, images), results)


def fit(detector: Detector, images: Any) -> Detector:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few images: the threshold is extrapolated
        return detector.fit(images, progress=False)


def assert_agrees(exported: Exported, outputs: Mapping[str, np.ndarray], indices: slice) -> None:
    results = exported.results[indices]
    heatmaps = np.stack([result.heatmap for result in results])
    assert outputs["heatmap"].shape == heatmaps.shape
    assert outputs["heatmap"].dtype == outputs["score"].dtype == np.float32
    np.testing.assert_allclose(outputs["heatmap"], heatmaps, atol=1e-3, rtol=0)
    np.testing.assert_allclose(outputs["score"], [result.score for result in results], atol=1e-3, rtol=0)
    if exported.detector.classes_:
        names = [exported.detector.classes_[index] for index in outputs["class_index"]]
        assert names == [result.class_name for result in results]


@pytest.fixture(scope="module", params=["zero-shot", "fitted", "classes and a coreset", "text and tokens"])
def exported(
    request: pytest.FixtureRequest,
    local_model: str,
    normals: list[np.ndarray],
    defective: tuple[np.ndarray, np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> Exported:
    others = [255 - image for image in normals]
    images = [normals[5], defective[0], others[5]]
    if request.param == "zero-shot":
        detector = Detector(precision="fp32")
    elif request.param == "fitted":
        detector = fit(Detector(precision="fp32"), normals[:3])
    elif request.param == "classes and a coreset":
        detector = fit(Detector(precision="fp32", coreset=0.5), {"light": normals[:3], "dark": others[:3]})
    else:
        detector = fit(Detector(local_model, precision="fp32", cues=("text", "tokens"), scales=(0, 1, 2)), normals[:3])
    return export(detector, tmp_path_factory.mktemp("exported") / "detector.onnx", images)


#: Of the inputs: one, all, and others than the first.
BATCHES = [slice(0, 1), slice(0, 3), slice(1, 3)]


def test_onnx_checker(exported: Exported) -> None:
    onnx.checker.check_model(str(exported.path), full_check=True)
    model = onnx.load(str(exported.path))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version == 8  # what came with that opset: older runtimes refuse a later one
    initializers = {tensor.name for tensor in model.graph.initializer}
    assert initializers <= {name for node in model.graph.node for name in node.input}


def test_no_path_of_this_machine_is_in_the_file(exported: Exported) -> None:
    content = exported.path.read_bytes()
    for folder in (Path(patchclip.__file__).parent, Path(torch.__file__).parent, Path.cwd()):
        assert str(folder).encode() not in content
    assert b".py" not in content


def test_the_detector_is_as_it_was(exported: Exported) -> None:
    for image, result in zip(exported.images, exported.results, strict=True):
        np.testing.assert_array_equal(exported.detector.predict(image).heatmap, result.heatmap)


def test_onnxruntime(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == exported.output_names
    for batch in BATCHES:
        outputs = session.run(None, {"image": exported.inputs[batch]})
        assert_agrees(exported, dict(zip(exported.output_names, outputs, strict=True)), batch)


@pytest.mark.parametrize("opset", [18, 21, 23])
def test_later_opsets_by_the_converter_of_onnx(exported: Exported, opset: int) -> None:
    converted = version_converter.convert_version(onnx.load(str(exported.path)), opset)
    onnx.checker.check_model(converted, full_check=True)
    session = onnxruntime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"image": exported.inputs})
    assert_agrees(exported, dict(zip(exported.output_names, outputs, strict=True)), slice(0, 3))


def test_openvino(exported: Exported) -> None:
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(exported.path, "CPU", hint)
    for batch in BATCHES:
        outputs = model({"image": exported.inputs[batch]})
        assert_agrees(exported, {name: outputs[name] for name in exported.output_names}, batch)


@pytest.mark.parametrize("batch", BATCHES[:2], ids=["one", "three"])
def test_opencv(exported: Exported, batch: slice, tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", exported.inputs[batch])
    paths = [exported.path, tmp_path / "inputs.npy", tmp_path / "outputs.npz"]
    command = [sys.executable, "-c", OPENCV, *map(str, paths), *exported.output_names]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "outputs.npz") as outputs:
        assert_agrees(exported, outputs, batch)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_export_under_another_default_dtype_and_autocast(
    dtype: torch.dtype, local_model: str, normals: list[np.ndarray], tmp_path: Path
) -> None:
    """Whatever the process has set, the file is the same, and the settings stay."""
    classes = {"light": normals[:2], "dark": [255 - image for image in normals[:2]]}

    def make() -> Detector:
        return fit(Detector(local_model, precision="fp32", cues=("text", "tokens", "texture")), classes)

    images = normals[3:]
    expected = [make().predict(image).heatmap for image in images]
    torch.set_default_dtype(dtype)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            exported = export(make(), tmp_path / "detector.onnx", images)
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    for result, heatmap in zip(exported.results, expected, strict=True):
        np.testing.assert_allclose(result.heatmap, heatmap, atol=1e-6, rtol=0)
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"image": exported.inputs})
    assert_agrees(exported, dict(zip(exported.output_names, outputs, strict=True)), slice(0, 3))
