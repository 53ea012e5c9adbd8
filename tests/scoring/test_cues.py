"""The table of bank cues; one more row is one more cue, from `fit` to the exported file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import FEW
from torch import nn
from torch.nn import functional as F

from patchclip import Detector, WeightsUnavailableError
from patchclip.encoders.clip import Backbone
from patchclip.scoring import cues
from patchclip.scoring.cues import BankCue, bank_cues, cue_names, fingerprints


def test_cues_are_in_the_order_of_the_table() -> None:
    assert cue_names() == ("text", "tokens", "texture", "imagenet", "imagenet_fine")
    assert [cue.name for cue in bank_cues(["imagenet", "text", "tokens"])] == ["tokens", "imagenet"]
    assert bank_cues(["text"]) == ()
    assert [cue.name for cue in cues.BANK_CUES if cue.reads_layers] == ["tokens"]


def test_a_cue_that_is_not_in_the_table_is_refused(local_model: str) -> None:
    with pytest.raises(
        ValueError, match="cues to be some of 'text', 'tokens', 'texture', 'imagenet', 'imagenet_fine'; got"
    ):
        Detector(local_model, cues=("text", "colour"))


def test_fingerprints_of_what_depends_on_more_than_the_backbone() -> None:
    found = fingerprints(["text", "tokens", "texture", "imagenet"])
    assert list(found) == ["texture", "imagenet"]
    for fingerprint in found.values():
        assert len(fingerprint[0]) == 64  # the hash of a file
        int(fingerprint[0], 16)
    assert found["texture"] != found["imagenet"][:1]


class MeanColour(nn.Module):
    """(B, 3, h, w) -> (B, h / patch, w / patch, 3)."""

    def __init__(self, patch: int):
        super().__init__()
        self.patch = patch

    def forward(self, rgb: torch.Tensor, layers: list[torch.Tensor]) -> torch.Tensor:
        return F.avg_pool2d(rgb, self.patch).permute(0, 2, 3, 1)


def add_cue(monkeypatch: pytest.MonkeyPatch, version: float = 1.0) -> None:
    def make_descriptor(backbone: Backbone) -> MeanColour:
        return MeanColour(backbone.patch).to(backbone.device)

    row = BankCue("colour", make_descriptor, gain=3.0, half_at=0.01, fingerprint=lambda: ["mean colour", version])
    others = [cue for cue in cues.BANK_CUES if cue.name != "colour"]
    monkeypatch.setattr(cues, "BANK_CUES", (*others, row))


@FEW
def test_a_new_row_is_a_new_cue(
    local_model: str, normals: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_cue(monkeypatch)
    detector = Detector(local_model, cues=("colour", "text", "tokens"), precision="fp32").fit(normals[:3])
    assert set(detector.weights_) == {"text", "tokens", "colour"}
    [banks] = detector.memory_.banks
    assert list(banks) == ["tokens", "colour"]
    assert banks["colour"].vectors.shape == (3 * 3 * 5, 3)
    image = normals[3].copy()
    image[32:64, 80:104] = (255, 0, 255)
    result = detector.predict(image)
    row, column = np.unravel_index(result.heatmap.argmax(), result.heatmap.shape)
    assert 32 <= row < 64
    assert 76 <= column < 108
    assert result.score > max(detector.predict(normal).score for normal in normals)

    detector.save(tmp_path / "detector.safetensors")
    loaded = Detector.load(tmp_path / "detector.safetensors")
    assert loaded.weights_ == detector.weights_
    np.testing.assert_array_equal(loaded.predict(image).heatmap, result.heatmap)

    loaded.export(tmp_path / "detector.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "detector.onnx", providers=["CPUExecutionProvider"])
    inputs = loaded.prepare(image).pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
    heatmap, score = session.run(["heatmap", "score"], {"image": inputs})
    np.testing.assert_allclose(heatmap[0], result.heatmap, atol=1e-3, rtol=0)
    assert score[0] == pytest.approx(result.score, abs=1e-3)

    add_cue(monkeypatch, version=2.0)
    with pytest.raises(WeightsUnavailableError, match="banks of colour hold other vectors: fit again"):
        Detector.load(tmp_path / "detector.safetensors")


@FEW
def test_the_first_of_the_cues_in_use_decides_on_the_class(
    local_model: str, normals: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_cue(monkeypatch)
    tinted = [(image * np.array([1.0, 0.7, 0.7])).astype(np.uint8) for image in normals]
    groups = {"as it is": normals[:2], "tinted": tinted[:2]}
    detector = Detector(local_model, cues=("colour",), defects=(), precision="fp32").fit(groups)
    assert detector.weights_ == {"colour": 1}
    assert not detector.backbone.model.has_text_tower()
    for image, name in ((normals[4], "as it is"), (tinted[4], "tinted")):
        assert detector.predict(image).class_name == name
