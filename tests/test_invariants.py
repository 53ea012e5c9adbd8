"""What always holds: the invariants that the design names."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FEW, fit_quietly, make_extractor

from patchclip import Detector, fitting, inference
from patchclip.encoders.timm import load_network


@pytest.mark.parametrize("name", ["local", "tiny"])
def test_bank_maps_of_fitted_images_vanish(name: str, local_model: str, normals: list[np.ndarray]) -> None:
    cues = ("tokens", "texture", "imagenet")
    detector = Detector(local_model if name == "local" else "tiny", cues=cues, precision="fp32")
    extractor = make_extractor(detector)
    with pytest.warns(UserWarning, match="extrapolation"):
        memory, _ = fitting.fit(extractor, normals[:3], progress=False)
    prepared = [extractor.prepare(image) for image in normals[:3]]
    [(_, features)] = extractor.extract(prepared, with_text=False, with_banks=True)
    maps, _ = inference.cue_maps(extractor, features, memory)
    assert tuple(maps) == cues
    assert all(len(cue_map) == 3 and float(cue_map.max()) < 1e-5 for cue_map in maps.values())


@pytest.mark.parametrize("recipe", ["dense", "winclip"])
def test_batch_equals_single(recipe: str, local_model: str, normals: list[np.ndarray]) -> None:
    detector = fit_quietly(Detector(local_model, recipe=recipe, precision="fp32"), normals[:2])
    images = [*normals[2:5], normals[5][:50], normals[3]]  # one of another size in between
    batch = list(detector.predict_batch(images, batch_size=4))
    for image, result in zip(images, batch, strict=True):
        single = detector.predict(image)
        np.testing.assert_allclose(result.heatmap, single.heatmap, atol=1e-5, rtol=0)
        assert result.score == pytest.approx(single.score, abs=1e-5)


@FEW
@pytest.mark.parametrize("recipe", ["dense", "winclip"])
def test_refit_forgets(recipe: str, local_model: str, normals: list[np.ndarray]) -> None:
    once = Detector(local_model, recipe=recipe, precision="fp32").fit(normals[2:4])
    twice = copy.copy(once).fit({"a": normals[:2], "b": normals[4:]})
    twice.threshold = 0.1
    twice.fit(normals[2:4])
    assert (twice.threshold, twice.threshold_source) == (once.threshold, "fit")
    assert (twice.weights_, twice.levels_, twice.classes_) == (once.weights_, (), ())
    assert np.array_equal(twice.predict(normals[0]).heatmap, once.predict(normals[0]).heatmap)
    assert twice.predict(normals[0]).to_dict() == once.predict(normals[0]).to_dict()


@pytest.mark.parametrize("options", [{}, {"recipe": "winclip"}, {"coreset": 0.3}, {"tile": 60}])
def test_save_and_load_reproduce_every_heatmap(
    options: dict[str, Any], local_model: str, normals: list[np.ndarray], tmp_path: Path
) -> None:
    detector = fit_quietly(Detector(local_model, precision="fp32", **options), normals[:3])
    detector.save(tmp_path / "detector.safetensors")
    loaded = Detector.load(tmp_path / "detector.safetensors")
    assert (loaded.threshold, loaded.threshold_source) == (detector.threshold, "fit")
    assert (loaded.options, loaded.weights_) == (detector.options, detector.weights_)
    for image in normals:
        before, after = detector.predict(image), loaded.predict(image)
        assert np.array_equal(before.heatmap, after.heatmap)
        assert before.to_dict() == after.to_dict()


@pytest.mark.parametrize("recipe", ["dense", "winclip"])
def test_copies_and_pickles_predict_alike(recipe: str, local_model: str, normals: list[np.ndarray]) -> None:
    detector = fit_quietly(Detector(local_model, precision="fp32", recipe=recipe), normals[:2])
    expected = detector.predict(normals[4])
    for other in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):  # noqa: S301
        found = other.predict(normals[4])
        assert np.array_equal(found.heatmap, expected.heatmap)
        assert found.to_dict() == expected.to_dict()


def test_two_detectors_share_nothing(local_model: str, normals: list[np.ndarray]) -> None:
    first = fit_quietly(Detector(local_model, precision="fp32"), normals[:2])
    second = Detector(local_model, precision="fp32")
    before = second.predict(normals[3])
    fit_quietly(first, normals[2:])
    first.threshold = 0.9
    first.options["defects"].clear()
    after = second.predict(normals[3])
    assert before.to_dict() == after.to_dict()
    assert np.array_equal(before.heatmap, after.heatmap)
    assert second.options["defects"]


def test_predicting_leaves_no_hook_behind(fitted: Detector, normals: list[np.ndarray]) -> None:
    fitted.predict(normals[3])
    hooks = []
    for module in fitted.backbone.model.clip.modules():
        hooks += [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]  # torch has no public way
    assert hooks == []


@pytest.mark.parametrize("size_hw", [(37, 211), (64, 64), (300, 90), (5, 4)])
def test_heatmap_has_the_images_size(size_hw: tuple[int, int], local: Detector) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    result = local.predict(image)
    assert result.heatmap.shape == size_hw
    assert result.heatmap.dtype == np.float32
    assert 0 <= result.heatmap.min() <= result.heatmap.max() == pytest.approx(result.score)
    assert result.score <= 1


def test_global_state_is_left_alone(local_model: str, normals: list[np.ndarray]) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads(), torch.is_grad_enabled()
    load_network.cache_clear()
    cues = ("text", "tokens", "imagenet")
    detector = Detector(local_model, coreset=0.5, cues=cues, precision="fp32")
    fit_quietly(detector, normals[:2]).predict(normals[2])
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert before[2:] == (torch.get_num_threads(), torch.is_grad_enabled())
