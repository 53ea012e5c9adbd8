"""Sentences to embeddings, against open_clip's own text tower."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch

from patchclip import Detector
from patchclip.encoders.loading import load_model
from patchclip.encoders.text import TextTower, encode_defects, encode_states, run_text

CPU = torch.device("cpu")
LONG = "a photo of an X-ray image of a welded stainless steel pipe segment with flange for visual inspection."


@pytest.fixture(scope="module")
def tower(local_model: str) -> TextTower:
    return TextTower(load_model(local_model), CPU)


@torch.no_grad()
def encode_text(model: str, sentences: list[str]) -> torch.Tensor:
    """By open_clip alone."""
    return load_model(model).clip.encode_text(open_clip.SimpleTokenizer()(sentences))


def test_it_equals_encode_text(local_model: str, tower: TextTower) -> None:
    sentences = ["a photo of a tile.", "a much longer sentence about a tile with a deep crack in it"] * 150
    sentences[7] = "a tile (see 4!; token 0 is an exclamation mark inside a word) in a sentence longer than all others"
    found = tower.encode(sentences)  # more than one chunk
    assert found.shape == (300, 24)
    assert found.dtype == torch.float32
    assert torch.allclose(found, encode_text(local_model, sentences), atol=1e-5)


def test_a_text_tower_of_another_kind_is_asked_as_it_is() -> None:
    class Other:
        def encode_text(self, token_ids: torch.Tensor) -> torch.Tensor:
            return token_ids.float() + 1

    assert run_text(Other(), torch.tensor([[1, 2]])).tolist() == [[2, 3]]


def test_states_are_means_of_their_sentences(local_model: str, tower: TextTower) -> None:
    sentences = ["a good tile", "a perfect tile", "a broken tile"]
    embedded = encode_text(local_model, sentences)
    found = encode_states(tower, (sentences[:2], sentences[2:]))
    assert found.shape == (2, 24)
    assert torch.allclose(found, torch.stack([embedded[:2].mean(0), embedded[2]]), atol=1e-5)


def test_defects_are_means_of_their_sentences(local_model: str, tower: TextTower) -> None:
    found = encode_defects(tower, {"dot": ("a dot", "a spot"), "crack": ("a crack",)}, "tile")
    assert found.shape == (2, 24)
    templates = ("a photo of a {}.", "a photo of the {}.", "a close-up photo of a {}.", "{}.")
    for row, wordings in zip(found, (("a dot", "a spot"), ("a crack",)), strict=True):
        sentences = [template.format(f"tile with {wording}") for wording in wordings for template in templates]
        assert torch.allclose(row, encode_text(local_model, sentences).mean(0), atol=1e-5)


def test_sentences_that_are_too_long_are_warned_of(tower: TextTower) -> None:
    short = TextTower(load_model("tiny"), CPU)
    with pytest.warns(UserWarning, match=r"1 of 2 prompts are truncated, since 'tiny' reads no more.*32 tokens.*X-ray"):
        short.encode(["a tile", LONG])
    tower.encode(["a tile", LONG])  # which reads 77


def test_a_detector_encodes_its_sentences_once(
    local_model: str, normals: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Detector(local_model)
    detector.threshold = 0.0  # so that regions are named
    detector.predict(normals[0])
    monkeypatch.setattr(TextTower, "encode", lambda *_: pytest.fail("encoded again"))
    detector.predict(normals[1])
    list(detector.predict_batch(normals, progress=False))
