"""The face: options, fit, thresholds, classes, regions and names, batches, saving."""

from __future__ import annotations

import io
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_clip, write_local_dir
from PIL import Image, ImageSequence
from safetensors.torch import save_file

from patchclip import (
    Detector,
    FileFormatError,
    ImageError,
    MissingDependencyError,
    Result,
    WeightsUnavailableError,
    store,
)
from patchclip.descriptors import filters, imagenet_network, texture_constants
from patchclip.fitting import gather
from patchclip.image import load_image
from patchclip.pipeline import hidden
from patchclip.synthetic import sample_surface

FEW = pytest.mark.filterwarnings("ignore:.*extrapolation")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"recipe": "fast"}, "recipe"),
        ({"precision": "fp8"}, "precision"),
        ({"cues": ("text", "depth")}, "cues"),
        ({"cues": "text"}, "cues"),
        ({"coreset": 0.0}, "coreset"),
        ({"temperature": -1.0}, "temperature"),
        ({"rotations": 3}, "rotations"),
        ({"layers": (0,)}, "layers between 1 and 3"),
        ({"layers": ()}, "layers"),
        ({"layers": (1.5,)}, "layers"),
        ({"scales": (1.5,)}, "scales"),
        ({"scales": ()}, "scales"),
        ({"dense_attention": "qv"}, "dense_attention"),
        ({"scales": 2}, "scales"),
        ({"smoothing": None}, "smoothing"),
        ({"coreset": "all"}, "coreset"),
        ({"templates": "a photo of a {}."}, "templates"),
        ({"templates": ["{} {}"]}, "one {} for the object"),
        ({"states": (["flawless {1}"], ["damaged {}"])}, "one {} for the object"),
        ({"prompts": (["a"], [])}, "prompts"),
        ({"states": ("{}", "bad {}")}, "states"),
        ({"recipe": "winclip", "tile": 100}, "tiles"),
        ({"recipe": "winclip", "layers": (1,)}, "layers"),
        ({"smoothing": float("inf")}, "smoothing"),
        ({"image_size": 100_000}, "image_size"),
        ({"object_name": None}, "object_name"),
        ({"templates": ["a photo"]}, "one {} for the object"),
        ({"templates": (part for part in ["a {}"])}, "templates"),
        ({"states": ([3], ["bad {}"])}, "states"),
        ({"device": "gpu"}, "device 'gpu' cannot be used here"),
        ({"recipe": "winclip", "cues": ("texture",)}, "winclip"),
        ({"max_false_positive_rate": 1.0}, "max_false_positive_rate"),
        ({"scales": np.array([2, 3])}, "scales to be a list"),
        ({"cues": (cue for cue in ["tokens"])}, "cues to be a list"),
        ({"defects": None}, "defects to be a list"),
        ({"defects": [3]}, "names of defects"),
        ({"defects": {"dot": [3]}}, "wordings of defect 'dot'"),
        ({"image_size": 224.5}, "image_size to be a whole number"),
        ({"flips": "no"}, "flips to be True or False"),
        ({"device": None}, "device None cannot be used here"),
        ({"prompts": (["a"], ["b"]), "templates": ["a {}"]}, "leave out states and templates"),
        ({"templates": ["a {.size}"]}, "one {} for the object"),
        ({"defects": {"dot": 3}}, "wordings of defect 'dot'"),
        ({"tile": 16}, "tile to be at least 32 pixels, got 16"),
        ({"recipe": np.array(["dense", "winclip"])}, "recipe to be one of"),
        ({"device": np.array(["cpu", "cuda"])}, "cannot be used here"),
    ],
)
def test_options_outside_their_range(options: dict, reason: str, local_model: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Detector(local_model, **options)


def test_a_model_is_a_name() -> None:
    with pytest.raises(ValueError, match="model to be a string, got None"):
        Detector(None)


def test_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="colour"):
        Detector(colour="red")


def test_heatmaps_stay_on_the_device_until_asked_for(local_model: str, normals: list[np.ndarray]) -> None:
    result = Detector(local_model).predict(normals[0])
    assert "heatmap" not in vars(result)
    assert result.to_dict()["size_hw"] == list(normals[0].shape[:2])
    assert "heatmap" not in vars(result)
    assert result.heatmap is result.heatmap
    assert result.heatmap.shape == normals[0].shape[:2]
    assert float(result.heatmap.max()) == result.score


def test_predict_before_fit_is_zero_shot(local_model: str, normals: list[np.ndarray]) -> None:
    text_only = Detector(local_model, cues=("text",)).predict(normals[0])
    for cues in (("text", "tokens"), ("tokens",), ("tokens", "texture"), ("imagenet",)):
        detector = Detector(local_model, cues=cues)
        assert np.array_equal(detector.predict(normals[0]).heatmap, text_only.heatmap)
    assert (detector.threshold, detector.threshold_source, detector.threshold_guaranteed) == (
        0.5,
        "uncalibrated",
        False,
    )


def test_prompts_states_and_templates_change_the_text(local_model: str, normals: list[np.ndarray]) -> None:
    composed = Detector(local_model, states=(["good {}"], ["bad {}"]), templates=["a {}."], object_name="tile")
    written = Detector(local_model, prompts=(["a good tile."], ["a bad tile."]))
    default = Detector(local_model)
    scores = [detector.predict(normals[0]).score for detector in (composed, written, default)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert scores[0] != pytest.approx(scores[2], abs=1e-6)


@FEW
def test_each_cue_finds_the_hole(tiny: Detector, normals: list, defective: tuple[np.ndarray, np.ndarray]) -> None:
    image, mask = defective
    for cues in (("tokens",), ("texture",), ("imagenet",), ("text", "tokens", "texture", "imagenet")):
        detector = Detector(cues=cues, precision="fp32").fit(normals)
        result = detector.predict(image)
        row, column = np.unravel_index(result.heatmap.argmax(), result.heatmap.shape)
        rows, columns = np.nonzero(mask)
        assert min(np.hypot(rows - row, columns - column)) < 16, cues
        assert result.score > max(detector.predict(normal).score for normal in normals)


@FEW
def test_weights_follow_the_spreads(normals: list[np.ndarray]) -> None:
    detector = Detector(precision="fp32").fit(normals)
    assert set(detector.weights_) == {"text", "tokens", "texture", "imagenet"}
    assert sum(detector.weights_.values()) == pytest.approx(1)
    assert Detector(cues=("tokens",)).fit(normals).weights_ == {"tokens": 1}
    _, left_out, _ = gather(detector._extractor, {None: normals}, progress=False)
    spreads = {}
    for cue in ("tokens", "imagenet"):
        maps = [detector._cue_maps(normal.features, own=(0, normal.rows))[0][cue] for normal in left_out]
        spreads[cue] = float(torch.stack(maps).std())
    expected = 2 / spreads["tokens"] / (4 / spreads["imagenet"])
    assert detector.weights_["tokens"] / detector.weights_["imagenet"] == pytest.approx(expected, rel=1e-4)


@FEW
def test_classes_are_told_apart(normals: list[np.ndarray]) -> None:
    other = sample_surface(np.random.default_rng(8), ["dots"])
    dots = [other.photograph(other.render(seed, (96, 128)), seed) for seed in range(4)]
    detector = Detector().fit({"fabric": normals[:3], "dots": dots[:3]})
    assert detector.classes_ == ("fabric", "dots")
    assert detector.predict(normals[4]).class_name == "fabric"
    assert detector.predict(dots[3]).class_name == "dots"
    assert Detector().fit(normals[:2]).predict(normals[3]).class_name is None


@FEW
def test_classes_share_one_scale(normals: list[np.ndarray], tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    noises = [rng.normal(0, 20 * (k % 4 + 1), image.shape) for k, image in enumerate(normals)]
    noisy = [np.clip(image + n, 0, 255).astype(np.uint8) for image, n in zip(normals, noises, strict=True)]
    several = Detector().fit({"clean": normals[:4], "noisy": noisy[:4]})
    assert len(several.levels_) == 2
    assert several.levels_[1] != pytest.approx(several.levels_[0], rel=0.01)
    assert 0.2 < several.threshold < 0.8  # one half is the level of normal images
    several.save(tmp_path / "two.safetensors")
    again = Detector.load(tmp_path / "two.safetensors")
    np.testing.assert_array_equal(again.predict(noisy[4]).heatmap, several.predict(noisy[4]).heatmap)
    assert Detector().fit({"clean": normals[:4]}).levels_ == ()
    assert several.fit(normals[:4]).levels_ == ()


def test_what_cannot_be_fitted(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model)
    for wrong in ([], {}, {"a": normals[:1], "b": []}, "folder", normals[0]):
        with pytest.raises(ValueError, match=r"normal image|expected a list"):
            detector.fit(wrong)
    with pytest.raises(ValueError, match="nothing to fit"):
        Detector(local_model, cues=("text",)).fit(normals)
    with pytest.raises(ImageError):
        detector.fit([normals[0], b"junk"])
    assert detector.memory_ is None  # nothing half-done


@FEW
def test_one_shot_has_a_threshold_from_its_variations(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model).fit(normals[:1])
    assert detector.threshold_source == "fit"
    assert not detector.threshold_guaranteed
    assert not detector.predict(normals[0]).is_anomalous


def test_fewer_images_than_the_rate_needs_are_warned_of(local_model: str, normals: list[np.ndarray]) -> None:
    with pytest.warns(UserWarning, match="6 normal images cannot fix a false-positive rate of 0.05, which takes 19"):
        Detector(local_model).fit(normals)


def test_threshold_by_hand_and_by_calibration(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model)
    before = detector.predict(normals[0]).heatmap
    many = [np.roll(normals[k % 6], 5 * k, axis=1) for k in range(24)]
    detector.calibrate(many)  # at the detector's own rate of 0.05
    assert (detector.threshold_source, detector.threshold_guaranteed) == ("calibrate", True)
    highest = max(detector.predict(normal).score for normal in many)
    assert detector.threshold == pytest.approx(highest, abs=1e-5)  # a batch rounds otherwise than one image
    assert np.array_equal(detector.predict(normals[0]).heatmap, before)  # only the threshold moves
    detector.threshold = 0.25
    assert (detector.threshold, detector.threshold_source, detector.threshold_guaranteed) == (0.25, "user", False)
    assert detector.predict(normals[0]).threshold == 0.25
    for wrong in (2, "0.5"):
        with pytest.raises(ValueError, match="between 0 and 1"):
            detector.threshold = wrong
    with pytest.raises(ValueError, match="at least 2"):
        detector.calibrate(normals[:1])


@FEW
def test_leave_one_out_scores_leave_one_out(local_model: str) -> None:
    """The threshold of 9 images at 10 % is the largest score that an image has against the 8 others."""
    surface = sample_surface(np.random.default_rng(1), ["leather"])
    images = [surface.photograph(surface.render(seed, (64, 64)), seed) for seed in range(9)]
    options = {"cues": ("tokens",), "precision": "fp32", "max_false_positive_rate": 0.1}
    scores = []
    for index, image in enumerate(images):
        others = Detector(local_model, **options).fit(images[:index] + images[index + 1 :])
        scores.append(others.predict(image).score)
    assert Detector(local_model, **options).fit(images).threshold == pytest.approx(max(scores), abs=1e-6)


@FEW
def test_normal_images_of_several_sizes(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model).fit([normals[0], normals[1][:48], normals[2][:, :40]])
    for image in (normals[3], normals[3][:48], normals[3][:, :40]):
        assert detector.predict(image).heatmap.shape == image.shape[:2]


def test_regions_are_consistent_with_the_heatmap(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model, defects=("dot", "ink blot"), precision="fp32")
    heatmap = detector.predict(normals[0]).heatmap
    detector.threshold = float(np.quantile(heatmap, 0.9))
    result = detector.predict(normals[0])
    assert result.is_anomalous
    assert sum(region.area_px for region in result.regions) == int((heatmap > detector.threshold).sum())
    assert [region.score for region in result.regions] == sorted((r.score for r in result.regions), reverse=True)
    assert result.regions[0].score == result.score
    for region in result.regions:
        left, top, right, bottom = region.box_xyxy
        assert 0 <= left < right <= 128
        assert 0 <= top < bottom <= 96
        highest = heatmap[top:bottom, left:right].max()  # another region may reach into the box
        assert highest >= region.score
        assert highest == pytest.approx(region.score) or len(result.regions) > 1
        assert region.defect in (None, "dot", "ink blot")
        assert (region.defect is None) == (region.confidence is None)
    detector.threshold = 1.0
    quiet = detector.predict(normals[0])
    assert (quiet.is_anomalous, quiet.regions, quiet.defect) == (False, (), None)


def test_a_single_defect_word_is_always_the_name(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model, defects=["crack"])
    detector.threshold = 0.0
    assert detector.predict(normals[0]).defect == "crack"
    nameless = Detector(local_model, defects=())
    nameless.threshold = 0.0
    assert nameless.predict(normals[0]).regions[0].defect is None


def test_to_dict_and_overlay(local_model: str, normals: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchclip.heatmap._STANDS_OUT", -1e9)  # the threshold alone
    detector = Detector(local_model)
    detector.threshold = 0.0
    result = detector.predict(normals[0])
    told = json.loads(json.dumps(result.to_dict()))
    assert told["size_hw"] == [96, 128]
    assert told["threshold_source"] == "user"
    assert told["regions"][0]["box_xyxy"] == [0, 0, 128, 96]
    picture = result.overlay()
    assert picture.size == (256, 192)  # enlarged for the labels
    assert result.overlay(max_side=100).size == (100, 75)
    assert result.overlay(max_side=200).size == (200, 150)
    detector.threshold = 1.0
    plain = np.asarray(detector.predict(np.repeat(np.repeat(normals[0], 3, 0), 3, 1)).overlay()).astype(int)
    assert np.abs(plain - np.repeat(np.repeat(normals[0], 3, 0), 3, 1)).max() <= 2  # a normal image stays as it is


@FEW
def test_tiles_cover_the_image_and_find_small_things(normals: list[np.ndarray]) -> None:
    surface = sample_surface(np.random.default_rng(3), ["smooth"])
    images = [surface.photograph(surface.render(seed, (600, 900)), seed) for seed in range(3)]
    spoiled = images[2].copy()
    spoiled[470:482, 700:712] = 255 - spoiled[470:482, 700:712]
    detector = Detector(tile=300, precision="fp32").fit(images[:2])
    assert detector._extractor.plan((600, 900)) == ((448, 672), (2, 3))
    assert detector._extractor.plan((200, 300))[1] == (1, 1)
    result = detector.predict(spoiled)
    row, column = np.unravel_index(result.heatmap.argmax(), result.heatmap.shape)
    assert abs(row - 476) < 30
    assert abs(column - 706) < 30


def test_tiles_are_placed_where_they_were_cut(local_model: str) -> None:
    """The token grid of a tiled image is that of each tile on its own, side by side."""
    image = np.random.default_rng(0).integers(0, 256, (128, 192, 3), np.uint8)
    tiled = Detector(local_model, tile=64, precision="fp32")
    whole = tiled._extractor.features([image], for_bank=True)[0]
    assert whole.text.shape == (1, 8, 12)
    for i in range(2):
        for j in range(3):
            part = Detector(local_model, precision="fp32")._extractor.features(
                [image[64 * i : 64 * i + 64, 64 * j : 64 * j + 64]], for_bank=True
            )[0]
            cells = (0, slice(4 * i, 4 * i + 4), slice(4 * j, 4 * j + 4))
            assert torch.allclose(whole.vectors["tokens"][cells], part.vectors["tokens"][0], atol=1e-5)
            assert torch.allclose(whole.dense[cells], part.dense[0], atol=1e-4)


@FEW
@pytest.mark.parametrize("options", [{"rotations": 4}, {"flips": True}])
def test_turned_normals_are_normal(options: dict, local_model: str, normals: list[np.ndarray]) -> None:
    turned = np.ascontiguousarray(np.rot90(normals[0], 2) if "rotations" in options else normals[0][:, ::-1])
    scores = []
    for given in ({}, options):
        detector = Detector(local_model, cues=("tokens",), precision="fp32", **given).fit(normals[:1])
        scores.append(detector.predict(turned).score)
    assert scores[1] < 1e-5 < scores[0]


@FEW
def test_a_row_of_paths_may_be_an_array(local_model: str, normals: list[np.ndarray], tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, normal in zip(paths, normals, strict=False):
        Image.fromarray(normal).save(path)
    listed = Detector(local_model).fit(paths)
    assert Detector(local_model).fit(np.array([str(path) for path in paths])).threshold == listed.threshold


def test_batches_keep_order_and_report_faults(local_model: str, normals: list[np.ndarray], tmp_path: Path) -> None:
    detector = Detector(local_model)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not a picture")
    mixed = [normals[0], bad, normals[1], normals[2]]
    found = list(detector.predict_batch(mixed, batch_size=2, errors="return"))
    assert [type(item) for item in found] == [Result, ImageError, Result, Result]
    assert "bad.jpg" in str(found[1])
    seen = []
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        seen.extend(detector.predict_batch(iter(mixed), batch_size=3))
    assert list(detector.predict_batch([])) == []
    for wrong in ({"batch_size": 0}, {"errors": "ignore"}):
        with pytest.raises(ValueError, match="expected"):
            detector.predict_batch(mixed, **wrong)  # at once, not at the first result


def test_a_batch_is_read_as_it_is_needed(local_model: str, normals: list[np.ndarray]) -> None:
    taken = []

    def endless() -> object:
        while True:
            taken.append(1)
            yield normals[0]

    stream = Detector(local_model).predict_batch(endless(), batch_size=2)
    next(stream)
    stream.close()
    assert len(taken) <= 8


def test_progress_is_silent_in_a_pipe(
    local_model: str, normals: list[np.ndarray], capfd: pytest.CaptureFixture
) -> None:
    list(Detector(local_model).predict_batch(normals))
    assert capfd.readouterr() == ("", "")


def test_progress_on_a_terminal(local_model: str) -> None:
    """In a pseudo-terminal there is a bar, and none with progress=False."""
    import fcntl
    import pty
    import struct
    import termios

    code = (
        "import numpy as np; from patchclip import Detector; d = Detector({model!r});"
        "list(d.predict_batch([np.zeros((64, 64, 3), np.uint8)] * 3, progress={progress}))"
    )
    for progress in (True, False):
        reader, writer = pty.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        subprocess.run(
            [sys.executable, "-c", code.format(model=local_model, progress=progress)], stderr=writer, check=True
        )
        waiting, _, _ = select.select([reader], [], [], 0.5)
        shown = os.read(reader, 4096) if waiting else b""
        os.close(writer)
        os.close(reader)
        assert (b"predict" in shown) == progress


@FEW
def test_files_that_are_no_detector(local_model: str, normals: list[np.ndarray], tmp_path: Path) -> None:
    detector = Detector(local_model).fit(normals[:2])
    good = tmp_path / "good.safetensors"
    detector.save(good)
    content = good.read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    (tmp_path / "junk").write_bytes(b"\x00" * 100)
    (tmp_path / "newer").write_bytes(content.replace(b'format_version\\": 1', b'format_version\\": 9'))
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    reasons = {"cut": "truncated", "junk": "no detector file", "newer": "update patchclip", "foreign": "no detector"}
    for name, reason in reasons.items():
        with pytest.raises(FileFormatError, match=reason):
            Detector.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="absent"):
        Detector.load(tmp_path / "absent")


def test_other_weights_are_noticed(tmp_path: Path, normals: list[np.ndarray]) -> None:
    folder = write_local_dir(random_clip(1), tmp_path / "clip")
    detector = Detector(f"local-dir:{folder}")
    detector.save(tmp_path / "d.safetensors")
    write_local_dir(random_clip(2), folder)
    with pytest.raises(WeightsUnavailableError, match="other weights"):
        Detector.load(tmp_path / "d.safetensors")


def test_a_checkpoint_that_has_moved(tmp_path: Path, normals: list[np.ndarray]) -> None:
    folder = write_local_dir(random_clip(1), tmp_path / "clip")
    Detector(f"local-dir:{folder}").save(tmp_path / "d.safetensors")
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(WeightsUnavailableError, match=r"no open_clip_config\.json"):
        Detector.load(tmp_path / "d.safetensors")
    assert Detector.load(tmp_path / "d.safetensors", pretrained=moved).options["model"] == f"local-dir:{moved}"


@FEW
def test_banks_of_other_descriptors_are_refused(
    normals: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cues, comparable in ((("tokens",), True), (("texture",), True), (("imagenet",), False)):
        with monkeypatch.context() as patched:
            patched.setattr("patchclip.descriptors._ENLARGED", 1.0)  # as an earlier version had it
            Detector(cues=cues).fit(normals[:2]).save(tmp_path / "earlier.safetensors")
        if comparable:
            Detector.load(tmp_path / "earlier.safetensors")
        else:
            with pytest.raises(WeightsUnavailableError, match="another version of patchclip"):
                Detector.load(tmp_path / "earlier.safetensors")


@FEW
def test_foreign_tensors_are_damage(local_model: str, normals: list[np.ndarray], tmp_path: Path) -> None:
    detector = Detector(local_model).fit(normals[:2])
    detector.save(tmp_path / "good")
    tensors, about = store.load(tmp_path / "good")
    for name in ("vectors", "bank.7.tokens", "bank.first.tokens"):
        store.save(tmp_path / "bad", tensors | {name: torch.zeros(2, 2)}, about)
        with pytest.raises(FileFormatError, match="damaged or foreign"):
            Detector.load(tmp_path / "bad")
    damaged = tensors["bank.0.tokens"].clone()
    damaged[0, 0] = torch.nan
    for contents in ({}, {"bank.0.tokens": damaged}, {"bank.0.tokens": damaged.double()}):
        store.save(tmp_path / "bad", contents, about)
        with pytest.raises(FileFormatError, match="damaged or foreign"):
            Detector.load(tmp_path / "bad")
    unlike = [{"text": None, "tokens": 1.0}, {"text": -1.0, "tokens": 2.0}, {"text": "a", "tokens": 1.0}, {}]
    for wrong in (
        {"class_levels": [0.1]},
        {"threshold": [7.0, "fit", False]},
        {"classes": 5},
        *({"cue_weights": weights} for weights in unlike),
        {"classes": ["a", "b"], "class_levels": [0.0, 0.1]},
        {"options": about["options"] | {"model": 5}},
    ):
        store.save(tmp_path / "bad", tensors, about | wrong)
        with pytest.raises(FileFormatError, match="damaged or foreign"):
            Detector.load(tmp_path / "bad")
    with pytest.raises(ValueError, match="device 'gpu' cannot be used here"):  # the file is all right
        Detector.load(tmp_path / "good", device="gpu")
    save_file({"a": torch.zeros(1)}, tmp_path / "list", {"patchclip": "[]"})
    with pytest.raises(FileFormatError, match="no detector"):
        Detector.load(tmp_path / "list")


def test_a_kill_leaves_the_old_file_or_the_new_one(local_model: str, tmp_path: Path) -> None:
    """A process that saves over and over is killed at a random moment, twice."""
    path = tmp_path / "d.safetensors"
    code = (
        "from patchclip import Detector; d = Detector({model!r}); d.save({path!r}); print('ready', flush=True)\n"
        "while True: d.save({path!r})"
    )
    rng = np.random.default_rng(0)
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", code.format(model=local_model, path=str(path))], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.uniform(0, 0.3))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert Detector.load(path).threshold == 0.5


def test_a_failed_save_leaves_nothing(local_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector(local_model)
    path = tmp_path / "d.safetensors"
    detector.save(path)
    before = path.read_bytes()

    def full_disk(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        detector.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_saved_files_repeat_to_the_byte(local_model: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        Detector(local_model).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b"pickle" not in (tmp_path / "a").read_bytes()


def test_bf16_is_close_to_fp32(normals: list[np.ndarray], tiny: Detector) -> None:
    half = Detector(precision="bf16")
    for image in normals:
        assert half.predict(image).score == pytest.approx(tiny.predict(image).score, abs=0.01)


def test_the_embedded_models_threshold_is_its_own(tiny: Detector) -> None:
    assert tiny.threshold_source == "model"
    assert 0 < tiny.threshold < 1
    assert Detector(cues=("text",)).threshold == tiny.threshold
    for other in ({"smoothing": 1.0}, {"image_size": 112}, {"scales": (2,)}):
        assert Detector(**other).threshold_source == "uncalibrated"
    assert Detector(recipe="winclip").threshold_source == "uncalibrated"
    own = tiny.backbone.model.about["temperature"]
    assert Detector(image_size=224, temperature=own, dense_attention="qk").threshold_source == "model"


def test_bytes_and_open_pictures(tiny: Detector, normals: list[np.ndarray]) -> None:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(normals[0]).save(buffer, "PNG")
    assert tiny.predict(buffer.getvalue()).score == tiny.predict(normals[0]).score


@FEW
def test_copies_and_blank_images_are_warned_of(local_model: str, normals: list[np.ndarray]) -> None:
    blank = np.full((64, 64, 3), 40, np.uint8)
    for images in ([normals[0]] * 2, [blank], {"a": [blank], "b": normals[:2]}):
        with pytest.warns(UserWarning, match="looks just like another"):
            detector = Detector(local_model).fit(images)
        assert 0 < detector.threshold < 1
        assert np.isfinite(detector.predict(normals[1]).score)
    for images in ([normals[0], *[normals[1]] * 5], {"a": normals[:2], "b": normals[:2]}):
        with pytest.warns(UserWarning, match="looks just like another"):  # though no vector of both is kept
            Detector(local_model, coreset=0.3).fit(images, progress=False)


@FEW
def test_what_surrounds_it_changes_no_precision(tiny: Detector, normals: list[np.ndarray]) -> None:
    fitted = Detector(precision="fp32").fit(normals[:2])
    scores = tiny.predict(normals[2]).score, fitted.predict(normals[2]).score
    with torch.autocast("cpu", torch.bfloat16):
        assert (tiny.predict(normals[2]).score, fitted.predict(normals[2]).score) == scores
        assert [result.score for result in fitted.predict_batch([normals[2]])] == [scores[1]]
        assert Detector(precision="fp32").fit(normals[:2]).threshold == fitted.threshold
    for cached in (filters, texture_constants, imagenet_network):
        cached.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        assert Detector(precision="fp32").fit(normals[:2]).threshold == pytest.approx(fitted.threshold, abs=1e-5)
    finally:
        torch.set_default_dtype(torch.float32)
    assert Detector(precision="fp32").fit(normals[:2]).threshold == fitted.threshold


def test_prompts_that_are_too_long_are_warned_of(local_model: str, normals: list[np.ndarray]) -> None:
    name = "X-ray image of a welded stainless steel pipe segment with flange"
    with pytest.warns(
        UserWarning, match=r"prompts lose their ends, for 'tiny' reads no more than 32 tokens.*X-ray image"
    ):
        Detector(object_name=name).predict(normals[0])
    Detector(local_model, object_name=name).predict(normals[0])  # which reads 77


@FEW
def test_as_many_are_left_out_as_the_rate_takes(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model, image_size=32, max_false_positive_rate=0.01)
    _, left_out, _ = gather(detector._extractor, {None: [normals[k % 6] for k in range(110)]}, progress=False)
    assert len(left_out) == 99
    _, left_out, _ = gather(detector._extractor, dict.fromkeys(range(7), (normals * 4)[:20]), progress=False)
    assert len(left_out) == 7 * 15  # 14 of each would be one short


def test_weights_that_take_other_pixels_are_refused(local_model: str, tmp_path: Path) -> None:
    detector = Detector(local_model)
    detector.backbone.model = replace(detector.backbone.model, mean=(0.5, 0.5, 0.5))  # as by another tag
    detector.save(tmp_path / "detector.safetensors")
    with pytest.raises(WeightsUnavailableError, match=r"\[0.5, 0.5, 0.5\].*'GELU'"):
        Detector.load(tmp_path / "detector.safetensors")


@FEW
def test_classes_may_be_numbers(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model).fit({np.int64(3): normals[:2], 4: normals[2:4]})
    assert detector.classes_ == ("3", "4")
    with pytest.raises(ValueError, match="classes of different names"):
        detector.fit({4: normals[:2], "4": normals[2:4]})
    assert json.loads(json.dumps(detector.predict(normals[4]).to_dict()))["class_name"] in detector.classes_


@FEW
def test_faiss_gives_the_same_heatmaps(normals: list[np.ndarray], tmp_path: Path) -> None:
    exact, fast = (Detector(neighbours=kind, precision="fp32").fit(normals[:4]) for kind in ("exact", "faiss"))
    fast.save(tmp_path / "fast.safetensors")
    for detector in (fast, Detector.load(tmp_path / "fast.safetensors")):
        assert detector.options["neighbours"] == "faiss"
        apart = np.abs(detector.predict(normals[5]).heatmap - exact.predict(normals[5]).heatmap)
        assert apart.mean() < 1e-3


def test_one_image_is_no_list_of_images(local_model: str, normals: list[np.ndarray], tmp_path: Path) -> None:
    detector = Detector(local_model)
    for single in (normals[0], torch.zeros(3, 40, 40), "a.jpg", tmp_path, b"bytes", Image.fromarray(normals[0])):
        for call in (detector.fit, detector.calibrate, detector.predict_batch):
            with pytest.raises(ValueError, match="put it into a list"):
                call(single)
        with pytest.raises(ValueError, match="for class 'a', got one"):
            detector.fit({"a": single})
    for call in (detector.calibrate, detector.predict_batch):
        with pytest.raises(ValueError, match="got <dict>"):
            call({"a": normals})
    with pytest.raises(ValueError, match="names of classes"):
        detector.fit({None: normals})
    with pytest.raises(ValueError, match="false-positive rate"):
        detector.calibrate(iter(()), max_false_positive_rate=5)
    assert len(list(detector.predict_batch(np.stack(normals[:2])))) == 2


@FEW
def test_a_failed_fit_leaves_the_detector_as_it_was(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model, coreset=0.001).fit(normals[:1])
    before = detector.memory_, detector.weights_, detector.levels_, detector.threshold
    with pytest.raises(ValueError, match=r"coreset=0.001 keeps 1 of the vectors of 3 images"):
        detector.fit(normals[:3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="extrapolation"):
            detector.fit(normals[3:4])
    assert (detector.memory_, detector.weights_, detector.levels_, detector.threshold) == before


@FEW
def test_leave_one_out_is_spread_over_all(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model, image_size=32)
    many = [normals[k % 6] for k in range(65)]
    _, left_out, _ = gather(detector._extractor, {None: many}, progress=False)
    assert len(left_out) == 64
    _, left_out, _ = gather(detector._extractor, dict.fromkeys(range(40), normals[:2]), progress=False)
    assert {normal.number for normal in left_out} == set(range(40))
    _, views, _ = gather(Detector(local_model, flips=True)._extractor, {None: normals[:1]}, progress=False)
    assert len(views) == 5  # the mirrored one is in the bank


@FEW
def test_results_of_a_batch_own_their_heatmaps_and_images(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model, precision="fp32").fit(normals[:2])
    expected = [detector.predict(image).score for image in normals]

    def refilled() -> Iterator[np.ndarray]:
        frame = np.empty_like(normals[0])
        for image in normals:
            frame[:] = image
            yield frame

    results = list(detector.predict_batch(refilled(), batch_size=len(normals)))
    assert [result.score for result in results] == pytest.approx(expected, abs=1e-5)
    assert len(pickle.dumps(results[0])) < 2 * len(pickle.dumps(detector.predict(normals[0])))
    own = normals[0].copy()
    result = detector.predict(own)
    before = result.overlay().tobytes()
    own[:] = 0
    assert result.overlay().tobytes() == before


def test_numpy_scalars_are_saved(local_model: str, tmp_path: Path) -> None:
    detector = Detector(local_model, image_size=np.int64(64), temperature=np.float32(0.1))
    detector.save(tmp_path / "numpy.safetensors")
    assert Detector.load(tmp_path / "numpy.safetensors").options["image_size"] == 64
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        detector.save(tmp_path / "absent" / "detector.safetensors")


@pytest.mark.parametrize("shape", [(1, 5000, 3), (5000, 1, 3), (1, 1, 3)])
def test_strips_have_overlays(local_model: str, shape: tuple[int, int, int]) -> None:
    assert max(Detector(local_model).predict(np.zeros(shape, np.uint8)).overlay().size) <= 1024


@FEW
def test_variations_of_single_images_fix_no_rate(local_model: str, normals: list[np.ndarray]) -> None:
    """20 classes of one image each have 120 variations, which vary less than 19 images would."""
    detector = Detector(local_model, image_size=32)
    several = {str(number): [np.roll(normals[number % 6], 5 * number, axis=1)] for number in range(20)}
    with pytest.warns(UserWarning, match="20 normal images cannot fix .* but images alone in their class do not count"):
        detector.fit(several)
    several["0"] = [np.roll(normals[0], 7 * shift, axis=1) for shift in range(19)]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*extrapolation")
        detector.fit(several)  # the 19 fix it


def test_frames_of_one_picture(local_model: str, normals: list[np.ndarray], tmp_path: Path) -> None:
    first, *others = [Image.fromarray(normal) for normal in normals[:3]]
    first.save(tmp_path / "stack.tif", save_all=True, append_images=others)
    detector = Detector(local_model)
    expected = [detector.predict(normal).score for normal in normals[:3]]
    with Image.open(tmp_path / "stack.tif") as stack:
        scores = [result.score for result in detector.predict_batch(ImageSequence.Iterator(stack))]
        assert scores == pytest.approx(expected, abs=1e-5)
        stack.seek(1)
        assert detector.predict(stack).score == pytest.approx(expected[1], abs=1e-5)
        assert stack.tell() == 1

    def closed_behind() -> Iterator[Image.Image]:
        with Image.open(tmp_path / "stack.tif") as opened:
            yield opened

    assert next(detector.predict_batch(closed_behind())).score == pytest.approx(expected[0], abs=1e-5)
    content = (tmp_path / "stack.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[:2000])
    with Image.open(tmp_path / "cut.tif") as cut, pytest.raises(ImageError, match=r"cut\.tif cannot be decoded"):
        list(detector.predict_batch([cut]))


def test_nothing_before_a_failing_source_is_lost(local_model: str, normals: list[np.ndarray]) -> None:
    def camera() -> Iterator[np.ndarray]:
        yield from normals[:5]
        raise ConnectionError("cable pulled")

    found = []
    with pytest.raises(ConnectionError, match="cable pulled"):
        found.extend(Detector(local_model).predict_batch(camera(), errors="return"))
    assert len(found) == 5

    def folder() -> Iterator[np.ndarray]:
        yield from normals[:3]
        yield load_image(b"torn")

    found.clear()
    with pytest.raises(ImageError, match="no image in a format"):  # it comes from the source, which is at its end
        found.extend(Detector(local_model).predict_batch(folder(), errors="return"))
    assert len(found) == 3


@FEW
def test_normal_images_from_one_buffer(local_model: str, normals: list[np.ndarray]) -> None:
    buffer = Image.new("RGB", normals[0].shape[1::-1])

    def refilled() -> Iterator[Image.Image]:
        for normal in normals[:3]:
            buffer.paste(Image.fromarray(normal))
            yield buffer

    expected = Detector(local_model).fit(normals[:3])
    assert Detector(local_model).fit(refilled()).threshold == expected.threshold
    scores = [result.score for result in expected.predict_batch(refilled())]
    assert scores == pytest.approx([expected.predict(normal).score for normal in normals[:3]], abs=1e-5)


@FEW
def test_images_that_fit_has_seen_calibrate_nothing(
    local_model: str, normals: list[np.ndarray], tmp_path: Path
) -> None:
    detector = Detector(local_model).fit(normals[:3])
    detector.save(tmp_path / "d.safetensors")
    for fitted in (detector, Detector.load(tmp_path / "d.safetensors")):
        with pytest.warns(UserWarning, match="2 of 4 images are copies"):
            fitted.calibrate([normals[0], normals[1], normals[4], normals[5]], max_false_positive_rate=0.3)
        assert not fitted.threshold_guaranteed
    with pytest.warns(UserWarning, match="1 of 3 images are copies"):
        Detector(local_model).calibrate([normals[4], normals[5], normals[4].copy()])


def test_saving_follows_links_and_spares_what_is_no_file(
    local_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Detector(local_model)
    (tmp_path / "current").symlink_to(tmp_path / "real")
    detector.save(tmp_path / "current")
    assert (tmp_path / "current").is_symlink()
    assert Detector.load(tmp_path / "real").threshold == detector.threshold
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="no ordinary file"):
        detector.save(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no ordinary file"):
        detector.save(tmp_path / "pipe")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=f"the folder {tmp_path} is read-only"):
        detector.save(tmp_path / "new")


@FEW
@pytest.mark.filterwarnings("ignore:.*looks just like another")
@pytest.mark.parametrize("options", [{}, {"flips": True}, {"rotations": 4}])
def test_images_a_pixel_wide_can_be_fitted(options: dict, local_model: str) -> None:
    for shape in ((1, 1, 3), (50, 1, 3), (1, 50, 3)):
        detector = Detector(local_model, **options).fit([np.zeros(shape, np.uint8)])
        assert np.isfinite(detector.predict(np.zeros(shape, np.uint8)).score)


def test_progress_shows_on_a_terminal_and_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert (hidden(progress=True), hidden(progress=False)) == (None, True)  # None: where there is no terminal
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    assert (hidden(progress=True), hidden(progress=False)) == (False, True)


def test_what_is_left_out_holds_no_copies(local_model: str, normals: list[np.ndarray]) -> None:
    extractor = Detector(local_model, rotations=4, flips=True)._extractor
    _, left_out, _ = gather(extractor, {None: normals[:3]}, progress=False)
    for normal in left_out:
        for tensor in (normal.features.dense, *normal.features.vectors.values()):
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_faiss_is_missed_at_once(local_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r"patchclip\[faiss\]"):
        Detector(local_model, neighbours="faiss")
