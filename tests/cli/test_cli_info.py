"""`patchclip info`: what it shows, and that it refuses what cannot be loaded, with the same error."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from patchclip import Detector, FileFormatError
from patchclip.detector_file import EXAMPLES
from patchclip.encoders.loading import DEFAULT_MODEL
from patchclip.persistence import read_file, write_file
from patchclip.runtime import load

from .command_line import Command

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def taught(
    fitted_tiny: Detector, defective: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A detector's file that knows two kinds, and beside it the one exported from it."""
    image, mask = defective
    detector = copy.copy(fitted_tiny).teach(
        {"hole": [(image, mask)], "spot": [(image, (0, 0, 40, 30))]}, progress=False
    )
    path = tmp_path_factory.mktemp("taught") / "detector.safetensors"
    detector.save(path)
    detector.export(path.with_suffix(".onnx"))
    return path


def test_info_of_a_detector(command: Command, detector_file: Path) -> None:
    facts = json.loads(command("info", detector_file, "--json").stdout)
    assert facts["kind"] == "detector"
    assert facts["model"] == DEFAULT_MODEL
    assert facts["images"] == facts["normal_images"] == 3
    assert facts["image_hw"] == [96, 128]
    assert facts["vectors"]["tokens"] > 0
    assert facts["threshold_source"] == "fit"
    table = command("info", detector_file).stdout
    for name in ("model", "threshold source", "cue weights"):
        assert re.search(rf"^{name} +\S", table, re.M)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.safetensors", "FILE: absent.safetensors does not exist: make it by `patchclip fit`"),
        ("absent.onnx", "FILE: absent.onnx does not exist: make it by `patchclip export`"),
        ("text.safetensors", "text.safetensors is no detector file or is truncated"),
        ("text.onnx", "text.onnx cannot be read as ONNX"),
    ],
)
def test_info_of_something_else(command: Command, tmp_path: Path, name: str, message: str) -> None:
    if name.startswith("text"):
        (tmp_path / name).write_text("a text")
    done = command("info", name)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_taught_kinds(command: Command, taught: Path) -> None:
    for path in (taught, taught.with_suffix(".onnx")):
        facts = json.loads(command("info", path, "--json").stdout)
        assert facts["taught_kinds"] == {"hole": 1, "spot": 1}
        assert facts["normal_images"] == 3


def test_files_without_networks_or_of_earlier_versions(command: Command, local_model: str) -> None:
    Detector(local_model, recipe="winclip").save("zero.safetensors")
    assert json.loads(command("info", "zero.safetensors", "--json").stdout)["kind"] == "detector, zero-shot"
    for golden in ("format_1_tiny", "format_1_local"):
        assert command("info", GOLDEN / f"{golden}.safetensors").exit_code == 0


# --- damaged files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "examples"),
    [
        ({}, None),
        ({"example_kinds": "ab"}, "as it was"),
        ({"example_kinds": {"a": 1, "b": 2}}, "as it was"),
        ({"example_kinds": [1, 2]}, "as it was"),
        ({"example_kinds": ["hole"]}, "as it was"),
        ({"classes": None, "cue_weights": {}}, "as it was"),
        ({"class_levels": [0.1]}, "as it was"),
        ({}, torch.full((2, 4, 1376), torch.nan)),
        ({}, torch.ones(2, 4, 1376)),
        ({}, torch.eye(900)[:8].reshape(2, 4, 900)),
    ],
)
def test_a_damaged_detector(command: Command, taught: Path, entries: dict[str, Any], examples: Any) -> None:
    saved = read_file(taught)
    tensors = dict(saved.tensors)
    if examples is None:
        del tensors[EXAMPLES]
    elif not isinstance(examples, str):
        tensors[EXAMPLES] = examples
    write_file("bad.safetensors", tensors, dict(saved.content) | entries)
    done = command("info", "bad.safetensors")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: bad.safetensors has damaged or foreign contents (")
    with pytest.raises(FileFormatError, match=r"^bad\.safetensors has damaged or foreign contents \("):
        Detector.load("bad.safetensors")


def write_exported(path: str, like: Path, text: str) -> None:
    """The same graph with another entry."""
    [entry] = onnx.load(like).metadata_props
    graph = like.read_bytes()[: json.loads(entry.value)["sha256_bytes"]]
    tail = onnx.ModelProto()
    tail.metadata_props.add(key="patchclip", value=text)
    Path(path).write_bytes(graph + tail.SerializeToString())


@pytest.mark.parametrize("kinds", [[1], "x", {"names": [["a"], ["b"]]}, {"names": [1, 2]}, {"counts": [1]}])
def test_damaged_kinds_of_an_exported_file(command: Command, taught: Path, kinds: Any) -> None:
    like = taught.with_suffix(".onnx")
    entries = json.loads(onnx.load(like).metadata_props[0].value)
    entries["kinds"] = entries["kinds"] | kinds if isinstance(kinds, dict) else kinds
    write_exported("bad.onnx", like, json.dumps(entries))
    check_refused_as_by_load(command)


@pytest.mark.parametrize(
    "text", ["[1]", "{", '"text"', "[" * 100_000, "{}"], ids=["list", "torn", "text", "deep", "{}"]
)
def test_an_entry_that_is_none(command: Command, taught: Path, text: str) -> None:
    write_exported("bad.onnx", taught.with_suffix(".onnx"), text)
    check_refused_as_by_load(command)


def test_another_graph(command: Command, taught: Path) -> None:
    content = bytearray(taught.with_suffix(".onnx").read_bytes())
    content[len(content) // 2] ^= 1
    Path("bad.onnx").write_bytes(content)
    check_refused_as_by_load(command)


def check_refused_as_by_load(command: Command) -> None:
    """The file bad.onnx."""
    done = command("info", "bad.onnx")
    assert done.exit_code == 2
    with pytest.raises(FileFormatError, match=r"^bad\.onnx ") as refused:
        load("bad.onnx")
    assert done.stderr == f"error: {' '.join(str(refused.value).split())}\n"
