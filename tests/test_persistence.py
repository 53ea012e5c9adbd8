"""Saved detectors: what comes back, and what is refused."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FEW, fit_quietly, random_clip, write_local_dir
from safetensors.torch import save_file

from patchclip import Detector, FileFormatError, WeightsUnavailableError
from patchclip.config import Config
from patchclip.encoders import texture, timm
from patchclip.persistence import SavedDetector, read_file, write_file


@pytest.fixture(scope="module")
def saved_file(fitted: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the detector `fitted`."""
    path = tmp_path_factory.mktemp("saved") / "detector.safetensors"
    fitted.save(path)
    return path


@pytest.fixture(scope="module")
def saved(saved_file: Path) -> SavedDetector:
    """The contents of `saved_file`."""
    return read_file(saved_file)


def test_every_threshold_and_option_comes_back(local_model: str, normals: list[np.ndarray], tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "object_name": "tile",
        "defects": {"dot": ["a dot", "a speck"]},
        "prompts": (["a good tile."], ["a bad tile."]),
        "cues": ("tokens",),
        "scales": (0, 1),
        "layers": (2,),
        "temperature": 0.1,
        "image_size": 48,
        "tile": 50,
        "coreset": 0.5,
        "rotations": 2,
        "flips": True,
        "smoothing": 0.5,
        "max_false_positive_rate": 0.1,
        "precision": "fp32",
    }
    detector = Detector(local_model, **options)
    detector.threshold = 0.125
    detector.save(tmp_path / "d")
    loaded = Detector.load(tmp_path / "d")
    assert loaded.options == detector.options
    assert (loaded.threshold, loaded.threshold_source, loaded.threshold_guaranteed) == (0.125, "user", False)
    detector.calibrate([np.roll(normals[k % 6], 5 * k, axis=1) for k in range(9)], progress=False)
    detector.save(tmp_path / "d")
    loaded = Detector.load(tmp_path / "d")
    assert (loaded.threshold, loaded.threshold_source) == (detector.threshold, "calibrate")
    assert loaded.threshold_guaranteed


def test_what_is_known_of_the_images_comes_back(saved: SavedDetector, fitted: Detector) -> None:
    found = saved.fitted(Config(**fitted.options), torch.device("cpu"))
    assert found is not None
    assert found.image_hw == (96, 128)
    assert len(set(found.fingerprints)) == 3


def test_levels_of_classes_come_back(detector: Detector, normals: list[np.ndarray], tmp_path: Path) -> None:
    fit_quietly(detector, {"a": normals[:2], "b": normals[2:5]})
    detector.save(tmp_path / "d")
    loaded = Detector.load(tmp_path / "d")
    assert (loaded.classes_, loaded.levels_) == (("a", "b"), detector.levels_)
    assert np.array_equal(loaded.predict(normals[5]).heatmap, detector.predict(normals[5]).heatmap)
    saved = read_file(tmp_path / "d")
    for levels in ([0.0, 0.1], [-0.1, 0.1], [float("inf"), 0.1]):
        write_file(tmp_path / "bad", saved.tensors, dict(saved.content) | {"class_levels": levels})
        assert_damaged(tmp_path / "bad")


def test_files_that_are_no_detector(saved_file: Path, tmp_path: Path) -> None:
    content = saved_file.read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    (tmp_path / "junk").write_bytes(b"\x00" * 100)
    for name, version in (("newer", b"9"), ("older", b"0"), ("true", b"true")):
        changed = content.replace(b'format_version\\": 2', b'format_version\\": ' + version)
        length = len(changed) - len(content) + int.from_bytes(content[:8], "little")  # of the header
        (tmp_path / name).write_bytes(length.to_bytes(8, "little") + changed[8:])
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    save_file({"a": torch.zeros(1)}, tmp_path / "list", {"patchclip": "[]"})
    reasons = {
        "cut": "truncated",
        "older": "format version 0",
        "true": "format version True",
        "junk": "no detector file",
        "newer": "update patchclip",
        "foreign": "no detector",
        "list": "no detector",
    }
    for name, reason in reasons.items():
        with pytest.raises(FileFormatError, match=reason):
            Detector.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="absent"):
        Detector.load(tmp_path / "absent")


def assert_damaged(path: Path) -> None:
    with pytest.raises(FileFormatError, match="damaged or foreign"):
        Detector.load(path)


def test_foreign_tensors_are_damage(saved: SavedDetector, tmp_path: Path) -> None:
    for name in ("vectors", "bank.7.tokens", "bank.first.tokens"):
        write_file(tmp_path / "bad", saved.tensors | {name: torch.zeros(2, 2)}, saved.content)
        assert_damaged(tmp_path / "bad")
    damaged = saved.tensors["bank.0.tokens"].clone()
    damaged[0, 0] = torch.nan
    for tensors in ({}, {"bank.0.tokens": damaged}, {"bank.0.tokens": damaged.nan_to_num().double()}):
        write_file(tmp_path / "bad", tensors, saved.content)
        assert_damaged(tmp_path / "bad")


@pytest.mark.parametrize(
    "entries",
    [
        {"class_levels": [0.1]},
        {"threshold": [7.0, "fit", False]},
        {"classes": 5},
        {"cue_weights": {"text": None, "tokens": 1.0}},
        {"cue_weights": {"text": -1.0, "tokens": 2.0}},
        {"cue_weights": {"text": "a", "tokens": 1.0}},
        {"cue_weights": {}},
        {"classes": ["a", "b"], "class_levels": [0.0, 0.1]},
        {"image_hw": [3]},
        {"options": {"model": 5}},
    ],
)
def test_foreign_entries_are_damage(entries: dict[str, Any], saved: SavedDetector, tmp_path: Path) -> None:
    content = dict(saved.content) | entries
    content["options"] = dict(saved.content["options"]) | entries.get("options", {})
    write_file(tmp_path / "bad", saved.tensors, content)
    assert_damaged(tmp_path / "bad")


def test_a_wrong_device_is_no_damage(saved_file: Path) -> None:
    with pytest.raises(ValueError, match="device 'gpu' cannot be used here") as raised:
        Detector.load(saved_file, device="gpu")
    assert not isinstance(raised.value, FileFormatError)


# --- networks that a detector depends on ------------------------------------------------------------------------------


def test_other_weights_are_noticed(tmp_path: Path) -> None:
    folder = write_local_dir(random_clip(1), tmp_path / "clip")
    Detector(f"local-dir:{folder}").save(tmp_path / "d.safetensors")
    write_local_dir(random_clip(2), folder)
    with pytest.raises(WeightsUnavailableError, match="other weights"):
        Detector.load(tmp_path / "d.safetensors")


def test_a_checkpoint_that_has_moved(tmp_path: Path) -> None:
    folder = write_local_dir(random_clip(1), tmp_path / "clip")
    Detector(f"local-dir:{folder}").save(tmp_path / "d.safetensors")
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(WeightsUnavailableError, match=r"no open_clip_config\.json"):
        Detector.load(tmp_path / "d.safetensors")
    assert Detector.load(tmp_path / "d.safetensors", pretrained=moved).options["model"] == f"local-dir:{moved}"


def test_pretrained_replaces_a_folder_and_adds_a_checkpoint() -> None:
    """A folder is part of the name of the model, a checkpoint is an option beside it."""
    for model, expected in (
        ("local-dir:/old", {"model": "local-dir:/new"}),
        ("ViT-B-32", {"model": "ViT-B-32", "pretrained": "/new"}),
    ):
        saved = SavedDetector("d.safetensors", {"options": {"model": model}}, {})
        assert saved.options("/new") == expected
        assert saved.options(None) == {"model": model}


def test_weights_that_take_other_pixels_are_refused(local_model: str, tmp_path: Path) -> None:
    detector = Detector(local_model)
    detector.backbone.model = replace(detector.backbone.model, mean=(0.5, 0.5, 0.5))  # as by another tag
    detector.save(tmp_path / "detector.safetensors")
    with pytest.raises(WeightsUnavailableError, match=r"\[0.5, 0.5, 0.5\].*'GELU'"):
        Detector.load(tmp_path / "detector.safetensors")


@FEW
def test_banks_of_other_descriptors_are_refused(local_model: str, normals: list[np.ndarray], tmp_path: Path) -> None:
    """Banks of features say what they depend on; the scale of the image is a part of it."""
    rgb = torch.zeros(1, 3, 64, 64)
    network = timm.load_network(torch.device("cpu"))
    rows = timm.ImagenetFeatures(network)(rgb)[0].shape[1]
    weights_hash, stride, scale = timm.fingerprint()
    assert (len(str(weights_hash)), rows) == (64, 64 * float(scale) / float(stride))
    for cues, earlier in (
        (("tokens",), {}),
        (("texture",), {"texture": texture.fingerprint()}),
        (("imagenet",), {"imagenet": [weights_hash, stride, 1.0]}),  # as an earlier version had it
        (("texture", "imagenet"), {"texture": ["0" * 64], "imagenet": timm.fingerprint()}),
    ):
        Detector(local_model, cues=cues).fit(normals[:2]).save(tmp_path / "now")
        saved = read_file(tmp_path / "now")
        assert set(saved.content["descriptors"]) == set(cues) - {"tokens"}
        write_file(tmp_path / "earlier", saved.tensors, dict(saved.content) | {"descriptors": earlier})
        if "imagenet" not in cues:
            Detector.load(tmp_path / "earlier")
            continue
        with pytest.raises(WeightsUnavailableError, match="another version of patchclip"):
            Detector.load(tmp_path / "earlier")


def test_a_detector_without_banks_depends_on_no_descriptor(local_model: str, tmp_path: Path) -> None:
    Detector(local_model, cues=("text", "texture")).save(tmp_path / "now")
    saved = read_file(tmp_path / "now")
    write_file(tmp_path / "earlier", saved.tensors, dict(saved.content) | {"descriptors": {"texture": ["0" * 64]}})
    assert Detector.load(tmp_path / "earlier").memory_ is None


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_failed_save_leaves_nothing(local: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.safetensors"
    local.save(path)
    before = path.read_bytes()

    def full_disk(*args: object) -> None:
        raise OSError("no space left")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, step, full_disk)
            with pytest.raises(OSError, match="no space"):
                local.save(path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


def test_saved_files_repeat_to_the_byte(local_model: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        Detector(local_model).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b"pickle" not in (tmp_path / "a").read_bytes()


def test_numpy_scalars_are_saved(local_model: str, tmp_path: Path) -> None:
    detector = Detector(local_model, image_size=np.int64(64), temperature=np.float32(0.1))
    detector.save(tmp_path / "numpy.safetensors")
    assert Detector.load(tmp_path / "numpy.safetensors").options["image_size"] == 64


def test_saving_follows_links_and_spares_what_is_no_file(local: Detector, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(tmp_path / "real")
    local.save(tmp_path / "current")
    assert (tmp_path / "current").is_symlink()
    assert Detector.load(tmp_path / "real").threshold == local.threshold
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="no ordinary file"):
        local.save(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        local.save(tmp_path / "absent" / "detector.safetensors")


@FEW
def test_a_loaded_detector_can_be_fitted_again(saved_file: Path, fitted: Detector, normals: list[np.ndarray]) -> None:
    loaded = Detector.load(saved_file).fit(normals[3:])
    again = copy.copy(fitted).fit(normals[3:])
    assert loaded.threshold == again.threshold
    assert np.array_equal(loaded.predict(normals[0]).heatmap, again.predict(normals[0]).heatmap)
