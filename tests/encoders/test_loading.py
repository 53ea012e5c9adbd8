"""Which model a name means, and what is said where its weights are not to be had."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import time
from pathlib import Path

import open_clip
import pytest
import torch
from conftest import MODEL_CFG, random_clip, write_local_dir
from safetensors.torch import save_file

from patchclip import ModelNotFoundError, WeightsUnavailableError
from patchclip.encoders.loading import DEFAULT_TAGS, default_tag, load_model


def unreachable(*_: object, **__: object) -> None:
    raise OSError("network is unreachable")


@pytest.fixture
def registered(tmp_path: Path) -> str:
    """A small architecture under a name of its own, as `open_clip.add_model_config` makes it."""
    name = f"tiny-test-{tmp_path.name}"
    (tmp_path / f"{name}.json").write_text(json.dumps(MODEL_CFG))
    open_clip.add_model_config(tmp_path / f"{name}.json")
    return name


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_local_checkpoint(suffix: str, dtype: torch.dtype, registered: str, tmp_path: Path) -> None:
    clip = random_clip(1)
    state = {key: value.to(dtype) for key, value in clip.state_dict().items()}
    path = tmp_path / f"model.{suffix}"
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    loaded = load_model(registered, path)
    assert (loaded.name, loaded.pretrained) == (registered, str(path))
    found = loaded.clip.state_dict()
    assert found.keys() == state.keys()
    for key, value in state.items():
        assert found[key].dtype == torch.float32
        assert torch.equal(found[key], value.float())


def test_a_text_tower_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(*_: object, **__: object) -> None:
        raise RuntimeError("Please pip install transformers")

    save_file(random_clip(1).state_dict(), tmp_path / "weights.safetensors")
    monkeypatch.setattr(open_clip, "create_model", create_model)
    monkeypatch.setattr(socket, "create_connection", unreachable)
    with pytest.raises(WeightsUnavailableError, match=r"the text tower of 'xlm-roberta-base-ViT-B-32'.*transformers"):
        load_model("xlm-roberta-base-ViT-B-32", str(tmp_path / "weights.safetensors"))


def test_checkpoint_that_does_not_fit(registered: str, tmp_path: Path) -> None:
    state = random_clip(1, layers=2).state_dict()
    save_file(state, tmp_path / "two.safetensors")
    with pytest.raises(WeightsUnavailableError, match=r"does not fit.*12 missing, as 'visual.transformer.resblocks.2"):
        load_model(registered, str(tmp_path / "two.safetensors"))
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(WeightsUnavailableError, match="cannot be read"):
        load_model(registered, str(tmp_path / "junk.safetensors"))
    with pytest.raises(WeightsUnavailableError, match="no checkpoint at"):
        load_model(registered, str(tmp_path / "absent.safetensors"))


def test_unknown_names_get_near_ones() -> None:
    with pytest.raises(ModelNotFoundError, match="did you mean ViT-B-16"):
        load_model("vit-b16")
    with pytest.raises(ModelNotFoundError, match="unknown model 'qqqqqqqqqqqqq'"):
        load_model("qqqqqqqqqqqqq")


@pytest.mark.parametrize(
    ("name", "tower"), [("ViT-B-16-SigLIP", "timm"), ("RN50", "ModifiedResNet"), ("coca_ViT-B-32", "attention pooling")]
)
def test_other_towers_are_refused(name: str, tower: str, monkeypatch: pytest.MonkeyPatch) -> None:
    create_model = open_clip.create_model

    def without_weights(name: str, *_: object, **__: object) -> torch.nn.Module:
        return create_model(name, load_weights=False)

    monkeypatch.setattr(open_clip, "create_model", without_weights)
    monkeypatch.setattr(socket, "create_connection", unreachable)
    with pytest.raises(ModelNotFoundError, match=tower):
        load_model(name)


def test_a_resnet_is_refused_before_its_weights_are_asked_for() -> None:
    with pytest.raises(ModelNotFoundError, match="ModifiedResNet"):
        load_model("RN50", "no-such-tag")


def test_unknown_tag_lists_the_known_ones() -> None:
    with pytest.raises(WeightsUnavailableError, match=r"known tags: .*openai.*embedded model"):
        load_model("ViT-B-32", "laion9b")


@pytest.mark.parametrize("name", ["ViT-B-16-plus-240", "hf-hub:nobody/no-such-clip"])
def test_no_network_is_said_within_seconds(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    offline, handlers = constants.HF_HUB_OFFLINE, list(logging.getLogger().handlers)
    begun = time.monotonic()
    with pytest.raises(WeightsUnavailableError, match=r"could not be downloaded.*checkpoint.*embedded"):
        load_model(name)
    assert time.monotonic() - begun < 10
    assert offline == constants.HF_HUB_OFFLINE
    assert logging.getLogger().handlers == handlers


def test_loading_silences_nobody_else(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = open_clip.SimpleTokenizer

    def logs(**options: object) -> open_clip.SimpleTokenizer:
        logging.warning("of open_clip")
        logging.getLogger("app").error("of the application")
        return tokenizer(**options)

    monkeypatch.setattr(open_clip, "SimpleTokenizer", logs)
    load_model("tiny")
    assert caplog.messages == ["of the application"]
    logging.warning("afterwards")
    assert caplog.messages == ["of the application", "afterwards"]


def test_default_tags_exist() -> None:
    for name, tag in DEFAULT_TAGS.items():
        assert tag in open_clip.list_pretrained_tags_by_model(name)
    assert default_tag("ViT-B-16-quickgelu") in open_clip.list_pretrained_tags_by_model("ViT-B-16-quickgelu")


@pytest.mark.parametrize(
    ("name", "activation"), [("ViT-B-32", torch.nn.GELU), ("ViT-B-32-quickgelu", open_clip.transformer.QuickGELU)]
)
def test_the_name_decides_on_the_activation_of_a_local_file(
    name: str, activation: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {**MODEL_CFG, "quick_gelu": name.endswith("quickgelu")}
    (tmp_path / "small.json").write_text(json.dumps(small))
    folder = tmp_path / "config"
    folder.mkdir()
    shutil.move(tmp_path / "small.json", folder / f"small-{activation.__name__}.json")
    open_clip.add_model_config(folder)
    save_file(random_clip(0).state_dict(), tmp_path / "w.safetensors")
    loaded = load_model(f"small-{activation.__name__}", str(tmp_path / "w.safetensors"))
    assert isinstance(loaded.clip.visual.transformer.resblocks[0].mlp.gelu, activation)


def test_a_quickgelu_tag_gets_its_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def remember(name: str, pretrained: str, *, force_quick_gelu: bool, **options: object) -> torch.nn.Module:
        assert options["require_pretrained"]  # never random weights
        seen[pretrained] = force_quick_gelu
        return random_clip(0)

    monkeypatch.setattr(open_clip, "create_model", remember)
    monkeypatch.setattr(socket, "create_connection", unreachable)
    load_model("ViT-B-32", "openai")
    load_model("ViT-B-32", "laion2b_s34b_b79k")
    assert seen == {"openai": True, "laion2b_s34b_b79k": False}


def test_local_dir_faults(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailableError, match=r"no open_clip_config\.json"):
        load_model(f"local-dir:{tmp_path}")
    with pytest.raises(ModelNotFoundError, match="own weights"):
        load_model("tiny", "openai")
    for file in ("open_clip_config.json", "open_clip_model.safetensors"):
        folder = write_local_dir(random_clip(1), tmp_path / file)
        (folder / file).write_bytes((folder / file).read_bytes()[:50])
        with pytest.raises(WeightsUnavailableError, match="cannot be read as a model"):
            load_model(f"local-dir:{folder}")


def test_a_folder_named_as_a_tag_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("openai").mkdir()
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: random_clip(0))
    monkeypatch.setattr(socket, "create_connection", unreachable)
    assert load_model("ViT-B-32", "openai").pretrained == "openai"
