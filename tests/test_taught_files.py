"""Kinds that were taught, in a detector's file and in an exported one."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import fit_quietly

from patchclip import Detector, FileFormatError
from patchclip.detector_file import EXAMPLES
from patchclip.persistence import SavedDetector, read_file, write_file
from patchclip.runtime import OnnxDetector, load
from patchclip.synthetic import Surface, sample_defective


@pytest.fixture(scope="module")
def defects(surface: Surface) -> dict[str, list[np.ndarray]]:
    """Kind -> five images (96, 128, 3) uint8."""
    rng = np.random.default_rng(1)
    drawn: dict[str, list[np.ndarray]] = {}
    for kind in ("hole", "scratch"):
        drawn[kind] = []
        for index in range(5):
            drawn[kind].append(sample_defective(surface, 20 + index, rng, kind=kind, size_hw=(96, 128))[0])
    return drawn


@pytest.fixture(scope="module")
def taught(fitted_tiny: Detector, defects: dict[str, list[np.ndarray]]) -> Detector:
    """The embedded model, that knows three examples of two kinds; tests do not change it."""
    detector = copy.copy(fitted_tiny)
    detector.threshold = 0.02
    return detector.teach({kind: images[:3] for kind, images in defects.items()}, progress=False)


@pytest.fixture(scope="module")
def saved(taught: Detector, tmp_path_factory: pytest.TempPathFactory) -> SavedDetector:
    path = tmp_path_factory.mktemp("taught") / "detector.safetensors"
    taught.save(path)
    return read_file(path)


@pytest.fixture(scope="module")
def exported_path(taught: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "detector.onnx"
    taught.export(path)
    return path


@pytest.fixture(scope="module")
def exported(exported_path: Path) -> OnnxDetector:
    return load(exported_path, threads=1)


def format_version(path: Path) -> int:
    """Of a detector's file."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(header["__metadata__"]["patchclip"])["format_version"]


def test_kinds_come_back_exactly(
    taught: Detector, fitted_tiny: Detector, saved: SavedDetector, defects: dict[str, list[np.ndarray]], tmp_path: Path
) -> None:
    loaded = Detector.load(saved.path)
    assert loaded.kinds_ == {"hole": 3, "scratch": 3}
    for images in defects.values():
        assert loaded.predict(images[4]).regions == taught.predict(images[4]).regions
    more = {"hole": [defects["hole"][3]]}
    expected = copy.copy(taught).teach(more, add=True).predict(defects["hole"][4]).regions
    assert loaded.teach(more, add=True).predict(defects["hole"][4]).regions == expected
    assert format_version(Path(saved.path)) == 3
    fitted_tiny.save(tmp_path / "plain")  # earlier versions read it
    assert format_version(tmp_path / "plain") == 2
    assert Detector.load(tmp_path / "plain").kinds_ == {}


def test_the_layout_is_as_documented(saved: SavedDetector) -> None:
    assert saved.content["example_kinds"] == ["hole"] * 3 + ["scratch"] * 3
    vectors = saved.tensors[EXAMPLES]
    assert (vectors.dtype, vectors.shape) == (torch.float32, (6, 4, 2 * (192 + 384 + 112)))
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(6, 4))


@pytest.mark.parametrize(
    ("entries", "examples"),
    [
        ({}, None),
        ({"example_kinds": None}, "as it was"),
        ({"example_kinds": ["hole"] * 5}, "as it was"),
        ({"example_kinds": ["hole"] * 5 + [7]}, "as it was"),
        ({"example_kinds": "abcdef"}, "as it was"),
        ({"classes": None, "cue_weights": {}}, "as it was"),
        ({}, torch.full((6, 4, 1376), torch.nan)),
        ({}, torch.ones(6, 4, 1376)),
        ({}, torch.eye(1376)[:6]),
        ({}, torch.eye(1400)[:24].reshape(6, 4, 1400)),
        ({}, torch.eye(1376)[:24].reshape(4, 6, 1376)),
        ({}, torch.eye(1376, dtype=torch.float64)[:24].reshape(6, 4, 1376)),
    ],
)
def test_malformed_kinds(entries: dict[str, Any], examples: Any, saved: SavedDetector, tmp_path: Path) -> None:
    tensors = dict(saved.tensors)
    if examples is None:
        del tensors[EXAMPLES]
    elif not isinstance(examples, str):
        tensors[EXAMPLES] = examples
    write_file(tmp_path / "bad", tensors, dict(saved.content) | entries)
    with pytest.raises(FileFormatError, match="damaged or foreign"):
        Detector.load(tmp_path / "bad")


# --- exported ---------------------------------------------------------------------------------------------------------


def test_an_exported_detector_gives_the_same_names(
    taught: Detector, exported: OnnxDetector, defects: dict[str, list[np.ndarray]]
) -> None:
    assert exported.kinds_ == taught.kinds_
    images = [image for group in defects.values() for image in group]
    named = set()
    for image, found in zip(images, exported.predict_batch(images), strict=True):
        expected = taught.predict(image)
        assert found.defect == expected.defect
        assert found.defect_source == expected.defect_source
        assert found.confidence == pytest.approx(expected.confidence, abs=0.01)
        named.add(found.defect)
    assert {"hole", "scratch"} <= named


def test_with_classes(
    taught: Detector, normals: list[np.ndarray], defects: dict[str, list[np.ndarray]], tmp_path: Path
) -> None:
    detector = copy.copy(taught)
    darker = [(image * 0.6).astype(np.uint8) for image in normals[3:6]]
    fit_quietly(detector, {"light": normals[:3], "dark": darker})
    detector.threshold = 0.02
    detector.export(tmp_path / "detector.onnx")
    found = load(tmp_path / "detector.onnx", threads=1).predict(defects["hole"][4])
    expected = detector.predict(defects["hole"][4])
    assert (found.class_name, found.defect) == (expected.class_name, expected.defect)


def test_the_entry_of_an_exported_file(exported: OnnxDetector) -> None:
    entries = exported.contents.to_dict()
    assert entries["format_version"] == 3
    kinds = entries["kinds"]
    assert (kinds["names"], kinds["counts"]) == (["hole", "scratch"], [3, 3])
    assert kinds["banks"] == ["tokens", "imagenet"]


#: Two vectors of 1376 values.
LARGE = base64.b64encode(np.full(2 * 1376, 1e38, "<f4").tobytes()).decode()


@pytest.mark.parametrize(
    "changes",
    [
        {"names": ["hole"]},
        {"names": "ab"},
        {"names": ["hole", "hole"]},
        {"names": ["hole", "two\nlines"]},
        {"names": [["hole"], ["scratch"]]},
        {"counts": [3]},
        {"counts": [3, 0]},
        {"counts": [3, "3"]},
        {"banks": ["tokens"]},
        {"banks": ["absent"]},
        {"similarity_weight": 0},
        {"score_weight": None},
        {"bound": float("nan")},
        {"bound": "5"},
        {"bound": 10**400},
        {"directions": LARGE},
        {"prototypes": LARGE},
        {"prototypes": "AAAA"},
        {"offsets": "AAAAAAAAAAAAAAAAAAAAAA=="},
    ],
)
def test_malformed_entries(changes: dict[str, Any], exported_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    [entry] = [prop for prop in onnx.load(exported_path).metadata_props if prop.key == "patchclip"]
    entries = json.loads(entry.value)
    entries["kinds"] |= changes
    tail = onnx.ModelProto()
    tail.metadata_props.add(key="patchclip", value=json.dumps(entries))
    path.write_bytes(exported_path.read_bytes()[: entries["sha256_bytes"]] + tail.SerializeToString())
    with pytest.raises(FileFormatError, match="damaged metadata"):
        load(path, threads=1)
