"""Features in the place of images: `fit` and `rank` give what they give of the images, but for float16."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import FEW, fit_quietly, make_extractor
from PIL import Image

from patchclip import Detector, ImageError
from patchclip.images.load import fingerprint
from patchclip.stored import StoredFeatures, features_to_arrays, networks_of


def store(detector: Detector, images: Mapping[str, np.ndarray]) -> list[StoredFeatures]:
    """As `patchclip.batch` does, in memory."""
    extractor = make_extractor(detector)
    stored = []
    for name, image in images.items():
        [(_, features)] = extractor.extract([extractor.prepare(image)], with_text=True, with_banks=True)
        arrays = features_to_arrays(features)
        assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
        image_hw = (image.shape[0], image.shape[1])
        entry = StoredFeatures(
            name, image_hw, fingerprint(image), networks_of(extractor), features.grid_hw, lambda arrays=arrays: arrays
        )
        stored.append(entry)
    return stored


def named(images: Sequence[np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """Path -> image, written there."""
    by_path = {}
    for index, image in enumerate(images):
        path = folder / f"{index}.png"
        Image.fromarray(image).save(path)
        by_path[str(path)] = image
    return by_path


def test_a_fit_on_features_is_one_on_images(local: Detector, normals: list[np.ndarray], tmp_path: Path) -> None:
    by_path = named(normals[:4], tmp_path)
    expected = fit_quietly(copy.copy(local), list(by_path))
    found = fit_quietly(copy.copy(local), store(local, by_path))
    assert found.threshold == pytest.approx(expected.threshold, abs=2e-3)
    assert [normal.name for normal in found.normal_scores_] == list(by_path)
    for image in normals[4:]:
        assert found.predict(image).score == pytest.approx(expected.predict(image).score, abs=2e-3)
    classes = {"a": store(local, by_path)[:2], "b": store(local, by_path)[2:]}
    assert fit_quietly(copy.copy(local), classes).classes_ == ("a", "b")


@FEW
def test_a_ranking_of_features_is_one_of_images(local: Detector, images: list[np.ndarray], tmp_path: Path) -> None:
    by_path = named(images, tmp_path)
    expected = local.rank(list(by_path), progress=False)
    found = local.rank(store(local, by_path), progress=False)
    np.testing.assert_allclose(found.scores, expected.scores, atol=2e-3)
    assert [item.path for item in found.items] == list(by_path)
    assert found.items[0].overlay().size == expected.items[0].overlay().size  # read by its path
    with pytest.raises(ValueError, match="images or stored features, got both"):
        local.rank([*store(local, by_path), images[0]], progress=False)
    unlabelled = copy.copy(local).fit_unlabelled(store(local, by_path), progress=False)
    assert unlabelled.threshold_source == "fit_unlabelled"


def test_what_features_are_not_good_for(
    local: Detector, local_model: str, normals: list[np.ndarray], tmp_path: Path
) -> None:
    stored = store(local, named(normals[:2], tmp_path))
    with pytest.raises(ValueError, match="with another model, other weights or other options"):
        Detector(local_model, precision="fp32", image_size=96).fit(stored, progress=False)
    with pytest.raises(ValueError, match="no turned copies: use rotations=1"):
        Detector(local_model, precision="fp32", rotations=4).fit(stored, progress=False)
    with pytest.raises(ValueError, match="give the image, or the features of several"):
        Detector(local_model, precision="fp32").fit(stored[:1], progress=False)
    with pytest.raises(ImageError, match="got StoredFeatures"):
        local.predict(stored[0])


def test_networks_are_told_apart_by_what_features_depend_on(local_model: str, local: Detector) -> None:
    reference = networks_of(make_extractor(local))
    for same in ({"coreset": 0.5}, {"max_false_positive_rate": 0.01}, {"defects": ("hole",)}, {"smoothing": 1.0}):
        assert networks_of(make_extractor(Detector(local_model, precision="fp32", **same))) == reference
    for other in ({"image_size": 96}, {"layers": (1,)}, {"cues": ("tokens",)}, {"object_name": "bottle"}):
        assert networks_of(make_extractor(Detector(local_model, precision="fp32", **other))) != reference
