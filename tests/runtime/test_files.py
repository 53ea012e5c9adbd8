"""What a file says of itself, and files that are none, damaged, or of another version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from patchclip import FileFormatError, MissingDependencyError
from patchclip.runtime import load
from patchclip.runtime.session import resolve_providers

from .conftest import Exported

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def read_metadata(path: Path) -> dict[str, Any]:
    [entry] = onnx.load(str(path)).metadata_props
    assert entry.key == "patchclip"
    return json.loads(entry.value)


def with_metadata(source: Path, target: Path, entries: Any) -> Path:
    """The same graph, byte for byte, with another entry after it."""
    graph = source.read_bytes()[: read_metadata(source)["sha256_bytes"]]
    tail = onnx.ModelProto()
    tail.metadata_props.add(key="patchclip", value=entries if isinstance(entries, str) else json.dumps(entries))
    target.write_bytes(graph + tail.SerializeToString())
    return target


def test_the_entries(classes_file: Exported) -> None:
    detector, path = classes_file
    entries = read_metadata(path)
    assert list(entries) == [
        *("format", "format_version", "patchclip", "versions", "input", "heatmap_hw"),
        *("threshold", "threshold_source", "threshold_guaranteed", "normal_scores", "max_false_positive_rate"),
        *("classes", "class_levels", "cue_weights", "object_name", "recipe", "int8", "model", "weights_sha256"),
        *("max_pixels", "defects", "kinds", "sha256", "sha256_bytes"),
    ]
    assert entries["input"] == {
        "name": "image",
        "layout": "(B, 3, h, w) float32 RGB in [0, 1]",
        "size_hw": [48, 80],
        "interpolation": "bicubic",
        "side": 64,
        "patch": 16,
    }
    assert entries["defects"]["names"] == ["hole", "dot"]
    exported = load(path)
    assert exported.classes_ == detector.classes_ == ("light", "dark")
    assert exported.levels_ == pytest.approx(detector.levels_)
    assert exported.weights_ == pytest.approx(detector.weights_)
    assert exported.normal_scores_ == detector.normal_scores_
    assert (exported.threshold, exported.threshold_source, exported.threshold_guaranteed) == (0.45, "user", False)
    for name in ("model", "object_name", "image_size", "max_false_positive_rate", "max_pixels"):
        assert exported.options[name] == detector.options[name]
    assert exported.options["precision"] == "fp32"
    assert exported.contents.weights_sha256 == detector.backbone.model.weights_sha256
    assert exported.contents.defects.embeddings.shape == (2, 24)
    assert "for (96, 128)" in repr(exported)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no exported file at"):
        load(tmp_path / "absent.onnx")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load(tmp_path)


def test_other_files(classes_file: Exported, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_text("a text")
    with pytest.raises(FileFormatError, match="cannot be read as ONNX"):
        load(path)
    content = classes_file.path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(FileFormatError, match="export the detector again"):
        load(path)
    graph_bytes = read_metadata(classes_file.path)["sha256_bytes"]
    path.write_bytes(content[:graph_bytes])
    with pytest.raises(FileFormatError, match=r"was not exported by patchclip: expected a file by Detector\.export"):
        load(path)


def test_a_weight_that_was_changed(classes_file: Exported, tmp_path: Path) -> None:
    model = onnx.load(str(classes_file.path))
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    start = classes_file.path.read_bytes().index(largest.raw_data)
    content = bytearray(classes_file.path.read_bytes())
    content[start + 1000] ^= 1
    path = tmp_path / "changed.onnx"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="is damaged, or was changed after the export"):
        load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 1}, "exported by an earlier patchclip"),
        ({"format_version": 4}, "format version 4, this patchclip reads 2 and 3: update patchclip"),
        ({"format_version": True}, "format version True"),
        ({"threshold": 2.0}, "a threshold of"),
        ({"threshold_source": "guess"}, "a threshold of"),
        ({"input": {}}, "damaged metadata"),
        ({"heatmap_hw": [128, 96]}, "damaged metadata"),
        ({"classes": None}, "damaged metadata"),
        ({"defects": {"names": ["hole"], "temperature": 0.1, "embeddings": "?"}}, "damaged metadata"),
        ({"sha256": ""}, "checksum"),
    ],
)
def test_other_metadata(changes: dict[str, Any], message: str, classes_file: Exported, tmp_path: Path) -> None:
    entries = read_metadata(classes_file.path) | changes
    path = with_metadata(classes_file.path, tmp_path / "other.onnx", entries)
    with pytest.raises(FileFormatError, match=message):
        load(path)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "{}"])
def test_metadata_that_is_none(text: str, classes_file: Exported, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="damaged metadata"):
        load(with_metadata(classes_file.path, tmp_path / "other.onnx", text))


def test_unchanged_metadata_is_read(classes_file: Exported, tmp_path: Path) -> None:
    path = with_metadata(classes_file.path, tmp_path / "same.onnx", read_metadata(classes_file.path))
    assert load(path).threshold == 0.45


# --- where it runs ----------------------------------------------------------------------------------------------------


def test_providers_by_name() -> None:
    assert resolve_providers(None, [CPU]) == [CPU]
    assert resolve_providers(["cuda"], [CUDA, CPU]) == [CUDA, CPU]
    assert resolve_providers(["CPU", CUDA], [CUDA, CPU]) == [CPU, CUDA]
    with pytest.raises(ValueError, match=r"'openvino' is not installed, there are .*onnxruntime-openvino in place"):
        resolve_providers(["openvino"], [CPU])
    with pytest.raises(ValueError, match="'tpu' is not installed"):
        resolve_providers(["tpu"], [CPU])
    with pytest.raises(ValueError, match="put it into a list"):
        resolve_providers("cuda", [CPU])


def test_threads_and_providers(classes_file: Exported, normals: list[np.ndarray]) -> None:
    exported = load(classes_file.path, providers=["cpu"], threads=2)
    assert exported.providers == (CPU,)
    expected = classes_file.detector.predict(normals[4])
    assert exported.predict(normals[4]).score == pytest.approx(expected.score, abs=5e-3)
    for threads in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="threads"):
            load(classes_file.path, threads=threads)
    with pytest.raises(ValueError, match="'cuda' is not installed"):
        load(classes_file.path, providers=["cuda"])


def test_without_onnxruntime(classes_file: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match="pip install onnxruntime"):
        load(classes_file.path)
