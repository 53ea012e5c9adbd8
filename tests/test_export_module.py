"""What is traced for an ONNX file, run by torch: the same as the detector, for any options, sizes and precisions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FEW, random_clip, write_local_dir
from exported import as_input, assert_agree, prepared_pixels

from patchclip import Detector, export
from patchclip.export import ExportedDetector


class Stopped(Exception):
    """In place of the trace."""


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `export` hands to torch's exporter, which is not run."""
    given: dict[str, Any] = {}

    def stop(module: ExportedDetector, inputs: tuple[torch.Tensor], **options: Any) -> None:
        given.update(module=module, size_hw=tuple(inputs[0].shape[2:]), names=options["output_names"])
        raise Stopped

    monkeypatch.setattr(torch.onnx, "export", stop)
    return given


def run_module(module: ExportedDetector, images: list[np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        return [output.numpy() for output in module(torch.from_numpy(as_input(images)))]


@FEW
@pytest.mark.parametrize(
    ("options", "fits"),
    [
        ({}, False),
        ({"smoothing": 0.0}, False),
        ({"scales": (0,), "smoothing": 1.0, "temperature": 0.2}, False),
        ({}, True),
        ({"cues": ("tokens",), "layers": (1, 3), "coreset": 0.5, "rotations": 2}, True),
        ({"cues": ("texture", "imagenet")}, True),
        ({"neighbours": "faiss", "image_size": 80}, True),
    ],
)
def test_the_module_is_the_detector(
    options: Mapping[str, Any], fits: bool, local_model: str, normals: list[np.ndarray], traced: dict[str, Any]
) -> None:
    detector = Detector(local_model, precision="fp32", **options)
    if fits:
        detector.fit(normals[:3])
    with pytest.raises(Stopped):
        detector.export("detector.onnx", image_hw=(96, 128))
    small = prepared_pixels(detector, normals[3:])
    assert traced["size_hw"] == small[0].shape[:2]
    assert traced["names"] == ["heatmap", "score", "fine_map", "dense"]
    assert_agree(detector, run_module(traced["module"], small), normals[3:])


@FEW
def test_the_module_of_several_classes(local_model: str, normals: list[np.ndarray], traced: dict[str, Any]) -> None:
    dark = [(0.5 * image).astype(np.uint8) for image in normals]
    detector = Detector(local_model, precision="fp32", cues=("text", "tokens", "texture", "imagenet"))
    detector.fit({"light": normals[:2], "dark": dark[:3], "red": [dark[0] // 2 + np.array([90, 0, 0], np.uint8)]})
    with pytest.raises(Stopped):
        detector.export("detector.onnx")
    assert traced["names"] == ["heatmap", "score", "class_index", "fine_map", "dense"]
    images = [normals[4], dark[4], normals[5], dark[5], dark[5] // 2 + np.array([90, 0, 0], np.uint8)]
    outputs = run_module(traced["module"], prepared_pixels(detector, images))
    assert_agree(detector, outputs, images)
    assert len(set(outputs[2].tolist())) > 1


@FEW
def test_the_module_of_a_tower_without_cls(tmp_path: Path, normals: list[np.ndarray], traced: dict[str, Any]) -> None:
    write_local_dir(random_clip(3, pool_type="avg", final_ln_after_pool=True), tmp_path)
    file = tmp_path / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["model_cfg"]["vision_cfg"] |= {"pool_type": "avg", "final_ln_after_pool": True}
    file.write_text(json.dumps(config))
    detector = Detector(f"local-dir:{tmp_path}", precision="fp32").fit(normals[:3])
    with pytest.raises(Stopped):
        detector.export(tmp_path / "detector.onnx")
    assert_agree(detector, run_module(traced["module"], prepared_pixels(detector, normals[3:])), normals[3:])


@FEW
def test_sizes(local_model: str, normals: list[np.ndarray], traced: dict[str, Any], tmp_path: Path) -> None:
    detector = Detector(local_model, precision="fp32")

    def sizes(**options: Any) -> tuple[tuple[int, int], tuple[int, int]]:
        with pytest.raises(Stopped):
            detector.export(tmp_path / "detector.onnx", **options)
        return traced["size_hw"], traced["module"].heatmap_hw

    assert sizes() == ((64, 64), (64, 64))  # the model's square
    assert sizes(image_hw=(96, 128)) == ((48, 80), (96, 128))  # three by five patches for four by four
    detector.fit(normals[:3])
    assert sizes() == ((48, 80), (96, 128))  # of the images
    detector.fit([normals[0], normals[1][:50]])
    with pytest.warns(UserWarning, match=r"64 x 64.*several sizes.*pass image_hw"):
        assert sizes() == ((64, 64), (64, 64))
    assert list(tmp_path.iterdir()) == []


@FEW
def test_a_detector_in_half_precision_is_exported_in_float32(
    local_model: str, normals: list[np.ndarray], traced: dict[str, Any], tmp_path: Path
) -> None:
    detector = Detector(local_model, precision="bf16", cues=("text", "tokens", "imagenet")).fit(normals[:3])
    with pytest.raises(Stopped):
        detector.export(tmp_path / "detector.onnx")
    module = traced["module"]
    assert {tensor.dtype for tensor in (*module.parameters(), *module.buffers())} == {torch.float32}
    outputs = run_module(module, prepared_pixels(detector, normals[3:]))
    expected = np.stack([detector.predict(image).heatmap for image in normals[3:]])
    np.testing.assert_allclose(outputs[0], expected, atol=0.03, rtol=0)


@FEW
def test_too_large_for_one_file(
    local_model: str, normals: list[np.ndarray], tmp_path: Path, traced: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The banks count, beside the network."""
    detector = Detector(local_model, cues=("tokens",), precision="fp32")
    network = sum(4 * tensor.numel() for tensor in detector.backbone.parameters())
    path = tmp_path / "detector.onnx"
    monkeypatch.setattr(export, "MAX_FILE_BYTES", network - 1)
    with pytest.raises(ValueError, match="coreset"):
        detector.export(path)
    monkeypatch.setattr(export, "MAX_FILE_BYTES", network + 1000)
    with pytest.raises(Stopped):  # it is small enough
        detector.export(path)
    detector.fit(normals)
    assert sum(4 * tensor.numel() for tensor in detector.memory_.tensors().values()) > 1000
    with pytest.raises(ValueError, match=r"0\.0 GiB and one ONNX file holds 2: fit with a smaller coreset"):
        detector.export(path)


@FEW
def test_banks_of_too_many_vectors(
    local_model: str, normals: list[np.ndarray], tmp_path: Path, traced: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph holds the distances of all cells of an image to a whole bank at once."""
    detector = Detector(local_model, cues=("tokens", "imagenet"), precision="fp32").fit(normals[:4])
    vectors = detector.memory_.banks[0]
    needed = max(4 * 15 * len(vectors["tokens"]), 4 * 4 * 8 * len(vectors["imagenet"]))  # 3 x 5 and about 4 x 8 cells
    monkeypatch.setattr(export, "MAX_DISTANCE_BYTES", 2 * needed)
    with pytest.raises(Stopped):
        detector.export(tmp_path / "detector.onnx")
    monkeypatch.setattr(export, "MAX_DISTANCE_BYTES", needed // 2)
    with pytest.raises(ValueError, match=r"the bank \w+ has \d+ vectors.*with coreset=0\.\d+ or less"):
        detector.export(tmp_path / "detector.onnx")
    assert list(tmp_path.iterdir()) == []
