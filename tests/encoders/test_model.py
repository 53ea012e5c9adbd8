"""What a loaded model brings: defaults for options, the hash of its weights, a text tower that can be dropped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import random_clip, write_local_dir

from patchclip.encoders.clip import Backbone
from patchclip.encoders.loading import load_model
from patchclip.encoders.model import ModelDefaults, hash_weights

CPU = torch.device("cpu")


def test_defaults_of_a_configuration() -> None:
    section = {"scales": [1, 2], "cues": ["text"], "temperature": 0.1, "dense_attention": "vv", "figures": {"auroc": 1}}
    found = ModelDefaults.from_json(section)
    assert found == ModelDefaults(scales=(1, 2), cues=("text",), temperature=0.1, dense_attention="vv")
    assert ModelDefaults.from_json({}) == ModelDefaults()


def test_a_folder_brings_its_defaults(tmp_path: Path) -> None:
    folder = write_local_dir(random_clip(1), tmp_path, generation="first", bank_layers=[1, 3], threshold=0.3)
    model = load_model(f"local-dir:{folder}")
    assert model.defaults == ModelDefaults(generation="first", bank_layers=(1, 3), threshold=0.3)
    assert (model.mean, model.std, model.interpolation) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "bicubic")
    tiny = load_model("tiny").defaults
    assert tiny.cues == ("text", "tokens", "texture", "imagenet", "imagenet_fine")
    assert tiny.dense_attention == "qk"
    assert tiny.bank_layers == (6, 8)


def test_names_are_compared_at_the_temperature_of_training(tmp_path: Path) -> None:
    clip = random_clip(1)
    expected = 1 / float(clip.logit_scale.detach().exp())
    plain = load_model(f"local-dir:{write_local_dir(clip, tmp_path / 'plain')}")
    assert plain.naming_temperature == pytest.approx(expected)
    told = load_model(f"local-dir:{write_local_dir(clip, tmp_path / 'told', temperature=0.2)}")
    assert told.naming_temperature == 0.2


def test_the_hash_is_the_same_in_every_precision(tmp_path: Path) -> None:
    name = f"local-dir:{write_local_dir(random_clip(5), tmp_path)}"
    hashes = set()
    for precision in ("fp32", "bf16"):
        backbone = Backbone(load_model(name), device=CPU, precision=precision)
        hashes.add(backbone.model.weights_sha256)
    assert len(hashes) == 1
    other = f"local-dir:{write_local_dir(random_clip(6), tmp_path / 'other')}"
    assert load_model(other).weights_sha256 not in hashes


def test_one_changed_weight_is_another_hash() -> None:
    clip = random_clip(5)
    before = hash_weights(clip)
    with torch.no_grad():
        clip.token_embedding.weight[100, 3] += 0.1
    assert hash_weights(clip) != before


def test_without_its_text_tower_a_model_has_the_same_hash(local_model: str) -> None:
    whole, reduced = load_model(local_model), load_model(local_model)
    assert reduced.has_text_tower()
    reduced.drop_text_tower()
    assert not reduced.has_text_tower()
    assert reduced.weights_sha256 == whole.weights_sha256
    assert reduced.naming_temperature == whole.naming_temperature
    rgb = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = (Backbone(model, device=CPU, precision="fp32").encode(rgb).cls for model in (reduced, whole))
    assert torch.equal(found, expected)
