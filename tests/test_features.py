"""Features of prepared images: tiles, batches of one size, and what is left out where nothing wants it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import fit_quietly, make_extractor

from patchclip import Detector, features
from patchclip.features import FeatureExtractor
from patchclip.recipes.features import Features
from patchclip.synthetic import sample_surface


def extract(extractor: FeatureExtractor, images: list[np.ndarray]) -> list[tuple[list[int], Features]]:
    prepared = [extractor.prepare(image) for image in images]
    return extractor.extract(prepared, with_text=True, with_banks=True)


@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (5, 7)])  # more than go through the network at once
def test_tiles_are_joined_where_they_were_cut(rows: int, columns: int, local_model: str, local: Detector) -> None:
    """The token grid of a tiled image is that of each tile on its own, side by side."""
    image = np.random.default_rng(0).integers(0, 256, (64 * rows, 64 * columns, 3), np.uint8)
    tiled = make_extractor(Detector(local_model, tile=64, precision="fp32"))
    [(_, whole)] = extract(tiled, [image])
    assert whole.text is not None
    assert whole.text.shape == (1, 4 * rows, 4 * columns)
    single = make_extractor(local)
    for row in range(rows):
        for column in range(columns):
            tile = image[64 * row : 64 * row + 64, 64 * column : 64 * column + 64]
            [(_, part)] = extract(single, [tile])
            cells = (slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
            assert torch.allclose(whole.vectors["tokens"][0][cells], part.vectors["tokens"][0], atol=1e-5)
            assert torch.allclose(whole.dense[0][cells], part.dense[0], atol=1e-4)


def test_tiles_cover_the_image_and_find_small_things() -> None:
    surface = sample_surface(np.random.default_rng(3), ["smooth"])
    images = [surface.photograph(surface.render(seed, (600, 900)), seed) for seed in range(3)]
    spoiled = images[2].copy()
    spoiled[470:482, 700:712] = 255 - spoiled[470:482, 700:712]
    detector = fit_quietly(Detector(tile=300, precision="fp32"), images[:2])
    assert detector.prepare(images[0]).plan == ((448, 672), (2, 3))
    assert detector.prepare(images[0][:200, :300]).tiles_hw == (1, 1)
    result = detector.predict(spoiled)
    row, column = np.unravel_index(result.heatmap.argmax(), result.heatmap.shape)
    assert abs(row - 476) < 30
    assert abs(column - 706) < 30


def test_images_of_one_size_share_a_batch(local: Detector, normals: list[np.ndarray]) -> None:
    tall = normals[0].transpose(1, 0, 2)
    batches = extract(make_extractor(local), [normals[0], tall, normals[1], tall])
    assert [indices for indices, _ in batches] == [[0, 2], [1, 3]]
    assert [tuple(part.dense.shape[:3]) for _, part in batches] == [(2, 3, 5), (2, 5, 3)]


def test_what_nothing_wants_is_not_computed(local_model: str, local: Detector, normals: list[np.ndarray]) -> None:
    extractor = make_extractor(Detector(local_model, cues=("tokens",), precision="fp32"))
    prepared = [extractor.prepare(normals[2])]
    [(_, banks_alone)] = extractor.extract(prepared, with_text=False, with_banks=True)
    assert banks_alone.text is None
    assert set(banks_alone.vectors) == {"tokens"}
    [(_, text_alone)] = extractor.extract(prepared, with_text=True, with_banks=False)
    assert text_alone.text is not None
    assert text_alone.vectors == {}
    assert "states" in vars(extractor)  # computed once, when they were wanted
    assert "states" not in vars(make_extractor(local))


def test_no_sentence_is_encoded_where_none_is_wanted(
    local_model: str, normals: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*args: object) -> torch.Tensor:
        raise AssertionError("a sentence was encoded")

    monkeypatch.setattr(features, "encode_states", encode)
    monkeypatch.setattr(features, "encode_defects", encode)
    detector = Detector(local_model, cues=("tokens",), precision="fp32")
    with pytest.raises(AssertionError, match="a sentence was encoded"):
        detector.predict(normals[0])  # zero-shot, by the text
    fit_quietly(detector, normals[:2])
    detector.threshold = 1.0
    assert not detector.predict(normals[2]).is_anomalous
    detector.threshold = 0.0
    with pytest.raises(AssertionError, match="a sentence was encoded"):
        detector.predict(normals[2])  # its regions want names
