"""The face: construction, the two doors, thresholds that are set, precision, and what is held."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FEW, fit_quietly
from PIL import Image, ImageSequence

from patchclip import Detector, ImageError, Result
from patchclip.encoders.timm import load_network
from patchclip.images.plan import Prepared


@pytest.mark.parametrize("device", ["gpu", None, np.array(["cpu", "cuda"])])
def test_a_device_that_is_not_there(device: Any, local_model: str) -> None:
    with pytest.raises(ValueError, match="cannot be used here"):
        Detector(local_model, device=device)


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="colour"):
        Detector(colour="red")


def test_repr_says_what_it_is(detector: Detector, local_model: str, normals: list[np.ndarray]) -> None:
    start = f"Detector({local_model!r}, recipe='dense'"
    assert repr(detector) == f"{start}, zero-shot, threshold=0.5000 (uncalibrated))"
    fit_quietly(detector, normals[:2])
    detector.threshold = 0.25
    assert detector.memory_ is not None
    assert repr(detector) == f"{start}, fitted, {len(detector.memory_)} vectors, threshold=0.2500 (user))"


def test_fitted_attributes_are_empty_before_fit(local: Detector) -> None:
    assert (local.memory_, local.weights_, local.levels_, local.classes_) == (None, {}, (), ())


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


def test_the_threshold_may_be_set(detector: Detector, local: Detector, normals: list[np.ndarray]) -> None:
    detector.threshold = 0.25
    assert (detector.threshold, detector.threshold_source, detector.threshold_guaranteed) == (0.25, "user", False)
    assert detector.predict(normals[0]).threshold == 0.25
    for wrong in (2, -0.1, float("nan"), "0.5", None):
        with pytest.raises(ValueError, match="between 0 and 1"):
            detector.threshold = wrong
    assert detector.threshold == 0.25
    for name, value in (("threshold_source", "fit"), ("memory_", None), ("weights_", {}), ("classes_", ())):
        with pytest.raises(AttributeError):
            setattr(detector, name, value)
    assert local.threshold == 0.5


def test_bytes_and_open_pictures(tiny: Detector, normals: list[np.ndarray], tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(normals[0]).save(buffer, "PNG")
    (tmp_path / "normal.png").write_bytes(buffer.getvalue())
    score = tiny.predict(normals[0]).score
    for image in (buffer.getvalue(), tmp_path / "normal.png", Image.open(buffer)):
        assert tiny.predict(image).score == score


def test_one_image_is_no_list_of_images(detector: Detector, normals: list[np.ndarray], tmp_path: Path) -> None:
    several: list[Callable[..., Any]] = [detector.fit, detector.calibrate, detector.predict_batch]
    for single in (normals[0], torch.zeros(3, 40, 40), "a.jpg", tmp_path, b"bytes", Image.fromarray(normals[0])):
        for call in several:
            with pytest.raises(ValueError, match="put it into a list"):
                call(single)
        with pytest.raises(ValueError, match="for class 'a', got one"):
            detector.fit({"a": single})
    for call in (detector.calibrate, detector.predict_batch):
        with pytest.raises(ValueError, match="got <dict>"):
            call({"a": normals})
    for name in (None, "two\nlines", " "):
        with pytest.raises(ValueError, match="names of classes"):
            detector.fit({name: normals})
    with pytest.raises(ValueError, match="false-positive rate"):
        detector.calibrate(iter(()), max_false_positive_rate=5)
    assert len(list(detector.predict_batch(np.stack(normals[:2])))) == 2


# --- two doors: prepare and predict_prepared --------------------------------------------------------------------------


def assert_same(result: Result, expected: Result) -> None:
    assert result.to_dict() == expected.to_dict()
    np.testing.assert_array_equal(result.heatmap, expected.heatmap)
    np.testing.assert_array_equal(result.image, expected.image)


def assert_equal_arrays(prepared: Prepared, expected: Prepared) -> None:
    assert prepared.plan == expected.plan
    np.testing.assert_array_equal(prepared.image, expected.image)
    np.testing.assert_array_equal(prepared.pixels, expected.pixels)


@pytest.mark.parametrize("name", ["local", "fitted", "fitted_tiny"])
def test_predict_is_prepare_and_predict_prepared(
    name: str, request: pytest.FixtureRequest, normals: list[np.ndarray], defective: tuple[np.ndarray, np.ndarray]
) -> None:
    detector: Detector = request.getfixturevalue(name)
    for image in (normals[4], defective[0], normals[5][:50]):
        prepared = detector.prepare(image)
        assert (prepared.image.dtype, prepared.pixels.dtype) == (np.uint8, np.uint8)
        assert prepared.image_hw == image.shape[:2]
        [result] = detector.predict_prepared([prepared])
        assert_same(result, detector.predict(image))
    assert detector.predict_prepared([]) == []


@pytest.mark.parametrize("options", [{"recipe": "winclip"}, {"tile": 60}])
def test_the_doors_of_other_ways(options: dict[str, Any], local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model, precision="fp32", **options)
    [result] = detector.predict_prepared([detector.prepare(normals[0])])
    assert_same(result, detector.predict(normals[0]))


def test_prepared_images_keep_their_order(fitted: Detector, normals: list[np.ndarray]) -> None:
    images = [normals[3], normals[4][:50], normals[5], normals[3][:, :40]]  # of several sizes
    expected = [fitted.predict(image).score for image in images]
    for count in (1, 20):  # more than go through the network at once
        results = fitted.predict_prepared([fitted.prepare(image) for image in images * count])
        assert [result.score for result in results] == pytest.approx(expected * count, abs=1e-5)
        for image, result in zip(images * count, results, strict=True):
            np.testing.assert_array_equal(result.image, image)


def test_a_prepared_image_survives_pickle(fitted: Detector, normals: list[np.ndarray]) -> None:
    prepared = fitted.prepare(normals[3])
    again = pickle.loads(pickle.dumps(prepared))  # noqa: S301 - written the line before
    assert_equal_arrays(again, prepared)
    assert_same(fitted.predict_prepared([again])[0], fitted.predict(normals[3]))


def test_eight_threads_prepare_the_same(tiny: Detector, normals: list[np.ndarray]) -> None:
    images = [image[: 96 - 8 * k] for k in range(4) for image in normals]
    expected = [tiny.prepare(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for prepared, single in zip(pool.map(tiny.prepare, images), expected, strict=True):
                assert_equal_arrays(prepared, single)


def test_eight_threads_predict_the_same(local_model: str, local: Detector, normals: list[np.ndarray]) -> None:
    expected = [local.predict(image) for image in normals]
    fresh = Detector(local_model, precision="fp32")  # its texts are not encoded yet
    with ThreadPoolExecutor(8) as pool:
        for result, single in zip(pool.map(fresh.predict, normals * 4), expected * 4, strict=True):
            np.testing.assert_allclose(result.heatmap, single.heatmap, atol=1e-6)


def test_what_was_prepared_for_another_detector_is_refused(
    local: Detector, local_model: str, normals: list[np.ndarray]
) -> None:
    prepared = local.prepare(normals[0])
    for options in ({"image_size": 96}, {"tile": 60}, {"recipe": "winclip"}):
        other = Detector(local_model, precision="fp32", **options)
        with pytest.raises(ValueError, match="prepare it with this detector"):
            other.predict_prepared([other.prepare(normals[0]), prepared])
    for image in (normals[0], "a.jpg"):
        with pytest.raises(ValueError, match=r"expected images by Detector\.prepare, got .*: prepare each of them"):
            local.predict_prepared([prepared, image])
    same = Detector(local_model, precision="fp32", object_name="tile")
    assert_same(same.predict_prepared([prepared])[0], same.predict(normals[0]))


def test_a_prepared_image_is_a_copy(fitted: Detector, normals: list[np.ndarray]) -> None:
    frame = normals[3].copy()
    prepared = fitted.prepare(frame)
    frame[:] = 0
    assert_same(fitted.predict_prepared([prepared])[0], fitted.predict(normals[3]))


def test_the_frame_that_a_picture_is_at(local: Detector, normals: list[np.ndarray], tmp_path: Path) -> None:
    first, *others = [Image.fromarray(normal) for normal in normals[:3]]
    first.save(tmp_path / "stack.tif", save_all=True, append_images=others)
    expected = [local.predict(normal).score for normal in normals[:3]]
    with Image.open(tmp_path / "stack.tif") as stack:
        scores = [result.score for result in local.predict_batch(ImageSequence.Iterator(stack))]
        assert scores == pytest.approx(expected, abs=1e-5)
        stack.seek(1)
        assert local.predict(stack).score == pytest.approx(expected[1], abs=1e-5)
        assert stack.tell() == 1
    content = (tmp_path / "stack.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[:2000])
    with Image.open(tmp_path / "cut.tif") as cut, pytest.raises(ImageError, match=r"cut\.tif cannot be decoded"):
        local.predict(cut)


# --- precision --------------------------------------------------------------------------------------------------------


def test_bf16_is_close_to_fp32(normals: list[np.ndarray], tiny: Detector) -> None:
    half = Detector(precision="bf16")
    for image in normals:
        assert half.predict(image).score == pytest.approx(tiny.predict(image).score, abs=0.01)


@FEW
def test_the_callers_precision_changes_nothing(
    tiny: Detector, fitted_tiny: Detector, normals: list[np.ndarray]
) -> None:
    """Neither autocast nor the default dtype reaches the arithmetic."""
    threshold = fitted_tiny.threshold
    scores = tiny.predict(normals[3]).score, fitted_tiny.predict(normals[3]).score
    with torch.autocast("cpu", torch.bfloat16):
        assert (tiny.predict(normals[3]).score, fitted_tiny.predict(normals[3]).score) == scores
        assert [result.score for result in fitted_tiny.predict_batch([normals[3]])] == [scores[1]]
        assert Detector(precision="fp32").fit(normals[:3]).threshold == threshold
    load_network.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        assert Detector(precision="fp32").fit(normals[:3]).threshold == pytest.approx(threshold, abs=1e-5)
    finally:
        torch.set_default_dtype(torch.float32)
    assert Detector(precision="fp32").fit(normals[:3]).threshold == threshold


# --- text -------------------------------------------------------------------------------------------------------------


def test_prompts_that_are_too_long_are_warned_of(local_model: str, normals: list[np.ndarray]) -> None:
    name = "X-ray image of a welded stainless steel pipe segment with flange"
    with pytest.warns(UserWarning, match=r"are truncated, since 'tiny-7' reads no more than 32 tokens.*X-ray image"):
        Detector(object_name=name).predict(normals[0])
    Detector(local_model, object_name=name).predict(normals[0])  # which reads 77


@FEW
@pytest.mark.parametrize("cues", [("tokens",), ("texture",)])
def test_a_detector_of_banks_alone_holds_no_text_tower(
    cues: tuple[str, ...], local: Detector, local_model: str, normals: list[np.ndarray], tmp_path: Path
) -> None:
    banks_alone = Detector(local_model, cues=cues, defects=(), precision="fp32")
    assert not banks_alone.backbone.model.has_text_tower()
    zero_shot = banks_alone.predict(normals[0])
    np.testing.assert_array_equal(zero_shot.heatmap, local.predict(normals[0]).heatmap)
    assert not banks_alone.backbone.model.has_text_tower()  # the model was loaded again for a moment
    assert banks_alone.backbone.model.weights_sha256 == local.backbone.model.weights_sha256
    banks_alone.fit(normals[:3])
    with_text_tower = Detector(local_model, cues=cues, precision="fp32").fit(normals[:3])
    assert with_text_tower.backbone.model.has_text_tower()
    expected = with_text_tower.predict(normals[4])
    assert np.array_equal(banks_alone.predict(normals[4]).heatmap, expected.heatmap)
    banks_alone.save(tmp_path / "banks.safetensors")
    loaded = Detector.load(tmp_path / "banks.safetensors")
    assert not loaded.backbone.model.has_text_tower()
    assert np.array_equal(loaded.predict(normals[4]).heatmap, expected.heatmap)


@pytest.mark.parametrize("options", [{"defects": ()}, {"cues": ("tokens",)}])
def test_a_detector_that_compares_with_sentences_keeps_its_text_tower(
    options: dict[str, Any], local_model: str
) -> None:
    assert Detector(local_model, **options).backbone.model.has_text_tower()
