"""Files of detectors that are damaged, hostile, replaced while in use, or under odd names: never another result."""

from __future__ import annotations

import copy
import json
import os
import random
import socket
import stat
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FEW

from patchclip import Detector, FileFormatError, PatchclipError, WeightsUnavailableError
from patchclip.files import atomic_write
from patchclip.persistence import SavedDetector, read_file, write_file

pytestmark = FEW


@pytest.fixture(scope="module")
def saved_file(fitted: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "detector.safetensors"
    fitted.save(path)
    return path


@pytest.fixture(scope="module")
def saved(saved_file: Path) -> SavedDetector:
    return read_file(saved_file)


# --- the checksum -----------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_noticed(saved_file: Path, tmp_path: Path) -> None:
    data, rng = saved_file.read_bytes(), random.Random(0)
    for _ in range(60):
        flipped = bytearray(data)
        flipped[rng.randrange(8, len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / "flipped").write_bytes(flipped)
        with pytest.raises(FileFormatError):
            Detector.load(tmp_path / "flipped")


def test_a_changed_digit_is_noticed(saved_file: Path, fitted: Detector, tmp_path: Path) -> None:
    data = saved_file.read_bytes()
    digits = f"{fitted.threshold}".encode()
    assert data.count(digits) == 1
    changed = digits[:-1] + (b"1" if digits[-1:] != b"1" else b"2")
    (tmp_path / "changed").write_bytes(data.replace(digits, changed))
    with pytest.raises(FileFormatError, match="checksum"):
        Detector.load(tmp_path / "changed")


def test_a_changed_shape_is_noticed(tmp_path: Path) -> None:
    write_file(tmp_path / "whole", {"bank.0.tokens": torch.rand(2, 3)}, {})
    data = (tmp_path / "whole").read_bytes()
    assert data.count(b"[2,3]") == 1
    (tmp_path / "changed").write_bytes(data.replace(b"[2,3]", b"[3,2]"))
    with pytest.raises(FileFormatError, match="checksum"):
        read_file(tmp_path / "changed")


def test_format_1_has_no_checksum_and_still_loads(saved_file: Path, tmp_path: Path, normals: list[np.ndarray]) -> None:
    data = saved_file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    whole = json.loads(header["__metadata__"]["patchclip"])
    assert whole["format_version"] == 2
    del whole["sha256"]
    whole["format_version"] = 1
    header["__metadata__"]["patchclip"] = json.dumps(whole)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (tmp_path / "format_1").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    results = [Detector.load(path).predict(normals[4]) for path in (saved_file, tmp_path / "format_1")]
    assert np.array_equal(results[0].heatmap, results[1].heatmap)


# --- contents that a stranger wrote, with a checksum that fits --------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("threshold", [0.5, 7, False]),
        ("threshold", [0.5, "guess", False]),
        ("threshold", [0.5, "fit", "x"]),
        ("threshold", [True, "fit", False]),
        ("threshold", [float("nan"), "fit", False]),
        ("threshold", [-0.5, "fit", False]),
        ("threshold", [0.5]),
        ("normal_scores", [["image 0", None, 1.5, "image", True]]),
        ("normal_scores", [["image 0", None, -0.5, "image", True]]),
        ("normal_scores", [["image 0", None, 0.5, "guess", True]]),
        ("normal_scores", [["image 0", 5, 0.5, "image", True]]),
        ("normal_scores", [["image 0", None, 0.5, "image", 1]]),
        ("image_hw", [float("inf"), 5]),
        ("image_hw", [-5, -5]),
        ("classes", [["a"]]),
        ("classes", ["a", "a"]),
        ("classes", []),
        ("fingerprints", [5, None]),
        ("fingerprints", 5),
        ("cue_weights", {"text": 1e400, "tokens": 0.5}),
        ("cue_weights", {"text": -0.5, "tokens": 0.5}),
    ],
)
def test_foreign_values_are_refused(entry: str, value: Any, saved: SavedDetector, tmp_path: Path) -> None:
    write_file(tmp_path / "bad", saved.tensors, dict(saved.content) | {entry: value})
    with pytest.raises(FileFormatError, match="damaged or foreign"):
        Detector.load(tmp_path / "bad")


@pytest.mark.parametrize(
    "options",
    [
        {"templates": ["{:>99999999999999}"]},
        {"templates": ["{!r:>9}"]},
        {"temperature": 10**400},
        {"smoothing": float("nan")},
        {"image_size": 10**9},
        {"layers": [99]},
        {"unknown": 1},
    ],
)
def test_foreign_options_are_refused(options: dict[str, Any], saved: SavedDetector, tmp_path: Path) -> None:
    content = dict(saved.content) | {"options": dict(saved.content["options"]) | options}
    write_file(tmp_path / "bad", saved.tensors, content)
    with pytest.raises(FileFormatError, match="damaged or foreign"):
        Detector.load(tmp_path / "bad")


def test_banks_that_no_image_can_be_compared_with_are_refused(saved: SavedDetector, tmp_path: Path) -> None:
    tokens = saved.tensors["bank.0.tokens"]
    narrow, large = tokens[:, :-1].contiguous(), torch.full_like(tokens, 1e30)
    for changed in (tokens[:0], narrow, 1000 * tokens, 1.1 * tokens, large, 0 * tokens):
        write_file(tmp_path / "bad", saved.tensors | {"bank.0.tokens": changed}, saved.content)
        with pytest.raises(FileFormatError, match="bank tokens"):
            Detector.load(tmp_path / "bad")
    write_file(tmp_path / "bad", {"bank.0.other": tokens}, saved.content)
    with pytest.raises(FileFormatError, match=r"banks \['other'\] where \['tokens'\] belong"):
        Detector.load(tmp_path / "bad")
    featureless = tokens.clone()
    featureless[0] = 0  # a patch without any feature, which is no damage
    write_file(tmp_path / "good", saved.tensors | {"bank.0.tokens": featureless}, saved.content)
    assert Detector.load(tmp_path / "good").memory_ is not None


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' + "9" * 5000 + "}", "{", "null", '"\\ud800"'])
def test_json_that_is_none_of_ours(text: str, tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"patchclip": text}}).encode()
    (tmp_path / "bad").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(FileFormatError):
        Detector.load(tmp_path / "bad")


def test_a_header_longer_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(FileFormatError, match="truncated"):
        Detector.load(tmp_path / "bad")


@pytest.mark.parametrize(
    "options",
    [{"model": "hf-hub:stranger/model"}, {"model": "ViT-B-32", "pretrained": "openai"}, {"model": "ViT-B-16"}],
)
def test_a_file_opens_no_connection_unasked(
    options: dict[str, Any], saved: SavedDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*args: object, **keywords: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket.socket, "connect", connect)
    content = dict(saved.content) | {"options": dict(saved.content["options"]) | options}
    write_file(tmp_path / "stranger", saved.tensors, content)
    with pytest.raises(WeightsUnavailableError, match="allow_download=True"):
        Detector.load(tmp_path / "stranger")


# --- a file that changes after it was loaded --------------------------------------------------------------------------


def test_a_loaded_detector_needs_its_file_no_more(saved_file: Path, tmp_path: Path, normals: list[np.ndarray]) -> None:
    path = tmp_path / "detector.safetensors"
    path.write_bytes(saved_file.read_bytes())
    detector = Detector.load(path)
    before = detector.predict(normals[4])
    with open(path, "r+b") as file:  # in place, as cp and rsync --inplace write
        file.seek(1000)
        file.write(bytes(path.stat().st_size - 1000))
    assert np.array_equal(detector.predict(normals[4]).heatmap, before.heatmap)
    os.truncate(path, 100)
    assert np.array_equal(detector.predict(normals[4]).heatmap, before.heatmap)
    path.unlink()
    assert np.array_equal(detector.predict(normals[4]).heatmap, before.heatmap)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_saving_over_a_file_keeps_its_mode(local: Detector, tmp_path: Path) -> None:
    path = tmp_path / "detector"
    local.save(path)
    path.chmod(0o604)
    local.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_what_a_killed_save_left_is_removed(local: Detector, tmp_path: Path) -> None:
    path = tmp_path / "detector"
    stale, others, fresh = (tmp_path / name for name in (".detector.0a.part", ".other.0b.part", ".detector.0c.part"))
    for entry in (stale, others, fresh):
        entry.write_bytes(b"half")
    an_hour_ago = time.time() - 3600
    for entry in (stale, others):
        os.utime(entry, (an_hour_ago, an_hour_ago))
    local.save(path)
    assert sorted(tmp_path.iterdir()) == sorted([path, others, fresh])  # `fresh` may be another process's


def test_a_save_in_progress_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as temporary:
        os.utime(temporary, (0, 0))
        with atomic_write(path) as other:
            other.write_bytes(b"second")
        temporary.write_bytes(b"first")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_no_utf8(local: Detector, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xff"))
    local.save(path)
    assert Detector.load(path).threshold == local.threshold


def test_what_cannot_be_read_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder"):
        Detector.load(tmp_path)

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PermissionError, match="permission denied"):
        Detector.load(tmp_path / "detector")


# --- numbers that are none --------------------------------------------------------------------------------------------


def test_weights_that_are_no_numbers_are_refused(local: Detector, normals: list[np.ndarray]) -> None:
    broken = copy.deepcopy(local)
    with torch.no_grad():
        broken.backbone.visual.proj[0, 0] = torch.nan
    with pytest.raises(PatchclipError, match="NaN or infinite"):
        broken.predict(normals[0])
    with pytest.raises(PatchclipError, match="NaN or infinite"):
        broken.fit(normals[:3], progress=False)
    assert broken.memory_ is None


def test_hardly_any_smoothing_is_none(local_model: str, normals: list[np.ndarray]) -> None:
    heatmaps = []
    for smoothing in (1e-300, 1e-3):
        heatmaps.append(Detector(local_model, precision="fp32", smoothing=smoothing).predict(normals[0]).heatmap)
    assert np.isfinite(heatmaps[0]).all()
    assert np.array_equal(heatmaps[0], heatmaps[1])
