"""`fit`: what can be fitted, banks, weights of the cues, classes, copies, leave-one-out."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FEW, fit_quietly, make_extractor
from PIL import Image

from patchclip import Detector, ImageError, fitting, inference
from patchclip.features import FeatureExtractor
from patchclip.recipes.features import Features
from patchclip.scoring.memory import Fitted, LeftOut
from patchclip.synthetic import sample_surface

Images = Sequence[np.ndarray] | Mapping[Any, Sequence[np.ndarray]]
LeaveOneOut = Callable[[FeatureExtractor, Images], list[tuple[Features, LeftOut]]]


@pytest.fixture
def left_out_of(monkeypatch: pytest.MonkeyPatch) -> LeaveOneOut:
    """A function: the features of all normal images that a fit compares with others, and what is left out for each."""
    seen: list[tuple[Features, LeftOut]] = []

    def watched(
        extractor: FeatureExtractor, features: Features, fitted: Fitted, *, left_out: LeftOut
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        seen.append((features, left_out))
        return inference.cue_maps(extractor, features, fitted, left_out=left_out)

    def fit(extractor: FeatureExtractor, images: Images) -> list[tuple[Features, LeftOut]]:
        seen.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            fitting.fit(extractor, images, progress=False)
        return list(seen)

    monkeypatch.setattr(fitting, "cue_maps", watched)
    return fit


# --- what can be fitted -----------------------------------------------------------------------------------------------


def test_what_cannot_be_fitted(detector: Detector, local_model: str, normals: list[np.ndarray]) -> None:
    for wrong in ([], {}, {"a": normals[:1], "b": []}, "folder", normals[0]):
        with pytest.raises(ValueError, match=r"normal image|expected a list"):
            detector.fit(wrong)
    with pytest.raises(ValueError, match="nothing to fit"):
        Detector(local_model, cues=("text",)).fit(normals)
    with pytest.raises(ImageError):
        detector.fit([normals[0], b"junk"])
    assert detector.memory_ is None  # nothing half-done


@FEW
def test_normal_images_of_several_sizes(detector: Detector, normals: list[np.ndarray]) -> None:
    detector.fit([normals[0], normals[1][:48], normals[2][:, :40]])
    for image in (normals[3], normals[3][:48], normals[3][:, :40]):
        assert detector.predict(image).heatmap.shape == image.shape[:2]


@FEW
def test_paths_in_an_array_and_images_from_one_buffer(
    detector: Detector, fitted: Detector, normals: list[np.ndarray], tmp_path: Path
) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, normal in zip(paths, normals, strict=False):
        Image.fromarray(normal).save(path)
    assert detector.fit(paths).threshold == fitted.threshold
    assert detector.fit(np.array([str(path) for path in paths])).threshold == fitted.threshold
    buffer = Image.new("RGB", normals[0].shape[1::-1])

    def refilled() -> Iterator[Image.Image]:
        for normal in normals[:3]:
            buffer.paste(Image.fromarray(normal))
            yield buffer

    assert detector.fit(refilled()).threshold == fitted.threshold
    scores = [result.score for result in fitted.predict_batch(refilled())]
    assert scores == pytest.approx([fitted.predict(normal).score for normal in normals[:3]], abs=1e-5)


@FEW
@pytest.mark.filterwarnings("ignore:.*looks just like another")
@pytest.mark.parametrize("options", [{}, {"flips": True}, {"rotations": 4}])
def test_images_a_pixel_wide(options: dict[str, Any], local_model: str) -> None:
    detector = Detector(local_model, **options)
    for shape in ((1, 1, 3), (50, 1, 3), (1, 50, 3)):
        detector.fit([np.zeros(shape, np.uint8)])
        assert np.isfinite(detector.predict(np.zeros(shape, np.uint8)).score)


@FEW
@pytest.mark.parametrize("options", [{"rotations": 4}, {"flips": True}])
def test_turned_normals_are_normal(options: dict[str, Any], local_model: str, normals: list[np.ndarray]) -> None:
    turned = np.ascontiguousarray(np.rot90(normals[0], 2) if "rotations" in options else normals[0][:, ::-1])
    scores = []
    for given in ({}, options):
        detector = Detector(local_model, cues=("tokens",), precision="fp32", **given).fit(normals[:1])
        scores.append(detector.predict(turned).score)
    assert scores[1] < 1e-5 < scores[0]


@FEW
def test_copies_and_blank_images_are_warned_of(detector: Detector, local_model: str, normals: list[np.ndarray]) -> None:
    blank = np.full((64, 64, 3), 40, np.uint8)
    for images in ([normals[0]] * 2, [blank], {"a": [blank], "b": normals[:2]}):
        with pytest.warns(UserWarning, match="looks just like another"):
            detector.fit(images)
        assert 0 < detector.threshold < 1
        assert np.isfinite(detector.predict(normals[1]).score)
    thinned = Detector(local_model, coreset=0.3)
    for images in ([normals[0], *[normals[1]] * 5], {"a": normals[:2], "b": normals[:2]}):
        with pytest.warns(UserWarning, match="looks just like another"):  # though no vector of both is kept
            thinned.fit(images, progress=False)


@FEW
def test_a_failed_fit_changes_nothing(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model, coreset=0.001).fit(normals[:1])
    before = detector.memory_, detector.weights_, detector.levels_, detector.threshold, detector.threshold_source
    score = detector.predict(normals[2]).score
    with pytest.raises(ValueError, match=r"coreset=0.001 keeps 1 of the vectors of 3 images"):
        detector.fit(normals[:3])
    with pytest.raises(ImageError):
        detector.fit({"a": normals[1:2], "b": [normals[3], b"junk"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="extrapolation"):
            detector.fit(normals[3:4])
    after = detector.memory_, detector.weights_, detector.levels_, detector.threshold, detector.threshold_source
    assert after == before
    assert detector.predict(normals[2]).score == score


# --- cues -------------------------------------------------------------------------------------------------------------


@FEW
def test_each_cue_finds_the_hole(normals: list[np.ndarray], defective: tuple[np.ndarray, np.ndarray]) -> None:
    image, mask = defective
    for cues in (("tokens",), ("texture",), ("imagenet",), ("imagenet_fine",), None):
        detector = Detector(cues=cues, precision="fp32").fit(normals[:4])
        result = detector.predict(image)
        row, column = np.unravel_index(result.heatmap.argmax(), result.heatmap.shape)
        rows, columns = np.nonzero(mask)
        assert min(np.hypot(rows - row, columns - column)) < 16, cues
        assert result.score > max(detector.predict(normal).score for normal in normals[4:])


@FEW
def test_weights_follow_the_spreads(local_model: str, normals: list[np.ndarray]) -> None:
    """Against maps of each image from banks of the others: inverse spreads, times their gains."""
    cues = ("text", "tokens", "texture", "imagenet", "imagenet_fine")
    detector = Detector(local_model, cues=cues, precision="fp32").fit(normals)
    assert tuple(detector.weights_) == cues
    assert sum(detector.weights_.values()) == pytest.approx(1)
    assert Detector(local_model, cues=("tokens",)).fit(normals[:2]).weights_ == {"tokens": 1}
    extractor = make_extractor(detector)
    maps: dict[str, list[torch.Tensor]] = {cue: [] for cue in detector.weights_}
    for index, image in enumerate(normals):
        others, _ = fitting.fit(extractor, normals[:index] + normals[index + 1 :], progress=False)
        [(_, features)] = extractor.extract([extractor.prepare(image)], with_text=True, with_banks=True)
        for cue, cue_map in inference.cue_maps(extractor, features, others)[0].items():
            maps[cue].append(cue_map)
    spreads = {cue: float(torch.stack(cue_maps).std()) for cue, cue_maps in maps.items()}
    gains = {"text": 1, "tokens": 2, "texture": 1, "imagenet": 4, "imagenet_fine": 3}
    raw = {cue: gain / spreads[cue] for cue, gain in gains.items()}
    raw["text"] = 1 / max(spreads["text"], 0.04)
    expected = {cue: weight / sum(raw.values()) for cue, weight in raw.items()}
    assert detector.weights_ == pytest.approx(expected, rel=1e-4)


def test_the_fine_bank_keeps_a_tenth_of_each_image(local_model: str, normals: list[np.ndarray]) -> None:
    detector = fit_quietly(Detector(local_model, cues=("imagenet", "imagenet_fine")), [normals[0], *normals[:3]])
    [banks] = detector.memory_.banks
    per_image = len(banks["imagenet"]) // 4
    assert len(banks["imagenet_fine"]) == 4 * round(0.1 * 4 * per_image)  # its grid is twice as fine
    assert [normal.kind for normal in detector.normal_scores_] == ["copy", "copy", "image", "image"]


# --- classes ----------------------------------------------------------------------------------------------------------


def test_an_image_gets_the_class_that_is_nearest(
    tiny: Detector, fitted_tiny: Detector, normals: list[np.ndarray]
) -> None:
    other = sample_surface(np.random.default_rng(8), ["dots"])
    dots = [other.photograph(other.render(seed, (96, 128)), seed) for seed in range(4)]
    detector = fit_quietly(Detector(), {"fabric": normals[:3], "dots": dots[:3]})
    assert detector.classes_ == ("fabric", "dots")
    assert detector.predict(normals[4]).class_name == "fabric"
    assert detector.predict(dots[3]).class_name == "dots"
    assert fitted_tiny.predict(normals[3]).class_name is None
    assert tiny.predict(normals[3]).class_name is None


def test_classes_share_one_scale(normals: list[np.ndarray], tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    noisy = []
    for k, image in enumerate(normals[:5]):
        noise = rng.normal(0, 20 * (k % 4 + 1), image.shape)
        noisy.append(np.clip(image + noise, 0, 255).astype(np.uint8))
    several = fit_quietly(Detector(), {"clean": normals[:4], "noisy": noisy[:4]})
    assert len(several.levels_) == 2
    assert several.levels_[1] != pytest.approx(several.levels_[0], rel=0.01)
    assert 0.2 < several.threshold < 0.8  # one half is the level of normal images
    several.save(tmp_path / "two.safetensors")
    again = Detector.load(tmp_path / "two.safetensors")
    np.testing.assert_array_equal(again.predict(noisy[4]).heatmap, several.predict(noisy[4]).heatmap)
    assert fit_quietly(again, {"clean": normals[:4]}).levels_ == ()
    assert fit_quietly(several, normals[:4]).levels_ == ()


@FEW
def test_classes_may_be_numbers(detector: Detector, normals: list[np.ndarray]) -> None:
    detector.fit({np.int64(3): normals[:2], 4: normals[2:4]})
    assert detector.classes_ == ("3", "4")
    with pytest.raises(ValueError, match="classes of different names"):
        detector.fit({4: normals[:2], "4": normals[2:4]})
    assert json.loads(json.dumps(detector.predict(normals[4]).to_dict()))["class_name"] in detector.classes_


# --- leave-one-out ----------------------------------------------------------------------------------------------------


def test_as_many_are_left_out_as_the_rate_takes(
    left_out_of: LeaveOneOut, local_model: str, normals: list[np.ndarray]
) -> None:
    detector = Detector(local_model, image_size=32, max_false_positive_rate=0.01)
    extractor = make_extractor(detector)
    assert len(left_out_of(extractor, [normals[k % 6] for k in range(110)])) == 99
    seven_classes = dict.fromkeys(range(7), (normals * 4)[:20])
    assert len(left_out_of(extractor, seven_classes)) == 7 * 15  # 14 of each would be one short


def test_leave_one_out_is_spread_over_all(
    left_out_of: LeaveOneOut, local_model: str, normals: list[np.ndarray]
) -> None:
    extractor = make_extractor(Detector(local_model, image_size=32))
    assert len(left_out_of(extractor, [normals[k % 6] for k in range(65)])) == 64
    found = left_out_of(extractor, dict.fromkeys(range(40), normals[:2]))
    assert {left_out.class_index for _, left_out in found} == set(range(40))


def test_left_out_are_an_images_own_rows(left_out_of: LeaveOneOut, local: Detector, normals: list[np.ndarray]) -> None:
    found = left_out_of(make_extractor(local), normals[:3])
    assert [left_out.class_index for _, left_out in found] == [0, 0, 0]
    rows = [left_out.rows["tokens"] for _, left_out in found]
    assert rows == [slice(0, 15), slice(15, 30), slice(30, 45)]  # of 3 x 5 patches


def test_variations_that_the_bank_holds_are_left_away(
    left_out_of: LeaveOneOut, local: Detector, local_model: str, normals: list[np.ndarray]
) -> None:
    assert len(left_out_of(make_extractor(local), normals[:1])) == 6
    with_flips = make_extractor(Detector(local_model, flips=True))
    found = left_out_of(with_flips, normals[:1])
    assert len(found) == 5  # the mirrored one is in the bank
    assert all(left_out.rows == {} for _, left_out in found)


def test_what_is_left_out_holds_no_copies(
    left_out_of: LeaveOneOut, local_model: str, normals: list[np.ndarray]
) -> None:
    found = left_out_of(make_extractor(Detector(local_model, rotations=4, flips=True)), normals[:3])
    for features, _ in found:
        for tensor in (features.dense, *features.vectors.values()):
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_examples_of_defects_among_the_normal_images_are_named(
    tiny: Detector, normals: list[np.ndarray], defective: tuple[np.ndarray, np.ndarray]
) -> None:
    image, mask = defective
    detector = fit_quietly(copy.copy(tiny), [*normals[:3], image])
    message = r"1 of 2 examples are among the images of fit.* image 0 \(hole\); fit without"
    with pytest.warns(UserWarning, match=message):
        detector.teach({"hole": [(image, mask), (image[::-1], mask[::-1])]})
