"""Which model a name means, and one forward against open_clip's own."""

from __future__ import annotations

import json
import logging
import shutil
import time
from pathlib import Path

import open_clip
import pytest
import torch
from conftest import MODEL_CFG, random_clip, write_local_dir
from safetensors.torch import save_file

from patchclip import ModelNotFoundError, WeightsUnavailableError, models
from patchclip.backbone import Backbone, default_precision
from patchclip.models import ASSETS, load_model

CPU = torch.device("cpu")


@pytest.fixture
def registered(tmp_path: Path) -> str:
    """A small architecture under a name of its own, as `open_clip.add_model_config` makes it."""
    name = f"tiny-test-{tmp_path.name}"
    (tmp_path / f"{name}.json").write_text(json.dumps(MODEL_CFG))
    open_clip.add_model_config(tmp_path / f"{name}.json")
    return name


def run(model: models.LoadedModel, pixels: torch.Tensor, layers: tuple[int, ...] = (), **options: object) -> object:
    return Backbone(model, device=CPU, precision="fp32", **options).encode(pixels, layers)


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
    pixels = torch.randn(2, 3, 64, 64)
    loaded = load_model(registered, str(path))
    assert all(value.dtype == torch.float32 for value in loaded.clip.state_dict().values())
    clip.load_state_dict({key: value.float() for key, value in state.items()})
    with torch.no_grad():
        assert torch.allclose(run(loaded, pixels).cls, clip.encode_image(pixels), atol=1e-5)


def test_a_text_tower_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(*_: object, **__: object) -> None:
        raise RuntimeError("Please pip install transformers")

    save_file(random_clip(1).state_dict(), tmp_path / "weights.safetensors")
    monkeypatch.setattr(open_clip, "create_model", create_model)
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
    def without_weights(name: str, pretrained: str, *, quick_gelu: bool) -> torch.nn.Module:
        return open_clip.create_model(name, load_weights=False)

    monkeypatch.setattr(models, "_create", without_weights)
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda name: open_clip.SimpleTokenizer())
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

    def unreachable(*args: object, **options: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr(models.socket, "create_connection", unreachable)
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
    def logs(name: str, pretrained: str | None) -> None:
        logging.warning("of open_clip")
        logging.getLogger("app").error("of the application")

    monkeypatch.setattr(models, "_load", logs)
    load_model("tiny")
    assert caplog.messages == ["of the application"]
    logging.warning("afterwards")
    assert caplog.messages == ["of the application", "afterwards"]


def test_default_tags_exist() -> None:
    for name, tag in models.DEFAULT_TAGS.items():
        assert tag in open_clip.list_pretrained_tags_by_model(name)
    assert models.default_tag("ViT-B-16-quickgelu") in open_clip.list_pretrained_tags_by_model("ViT-B-16-quickgelu")


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

    def remember(name: str, pretrained: str, *, quick_gelu: bool) -> torch.nn.Module:
        seen[pretrained] = quick_gelu
        return random_clip(0)

    monkeypatch.setattr(models, "_create", remember)
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
    monkeypatch.setattr(models, "_create", lambda name, tag, *, quick_gelu: random_clip(0))
    assert load_model("ViT-B-32", "openai").pretrained == "openai"


def test_dense_attention_of_the_last_block_against_a_loop() -> None:
    clip = random_clip(2)
    visual, pixels = clip.visual, torch.randn(1, 3, 64, 64)
    model = models.LoadedModel("x", None, clip, open_clip.SimpleTokenizer(), (0, 0, 0), (1, 1, 1), "bicubic")
    with torch.no_grad():
        x = visual._embeds(pixels)
        for block in visual.transformer.resblocks[:-1]:
            x = block(x)
        last = visual.transformer.resblocks[-1]
        q, k, v = (last.ln_1(x)[0] @ last.attn.in_proj_weight.T + last.attn.in_proj_bias).chunk(3, -1)
        for kind, own in (("qq", q), ("kk", k), ("vv", v)):
            rows = []
            for token in range(1, 17):
                heads = []
                for head in (slice(0, 16), slice(16, 32)):
                    weights = torch.softmax(own[token, head] @ own[:, head].T / 4, -1)
                    heads.append(weights @ v[:, head])
                rows.append(last.attn.out_proj(torch.cat(heads)))
            expected = visual.ln_post(torch.stack(rows)) @ visual.proj
            tokens = run(model, pixels, (1, 3), dense_attention=kind)
            assert tokens.dense.shape == (1, 4, 4, 24)
            assert torch.allclose(tokens.dense.reshape(16, 24), expected, atol=1e-5)
            assert torch.allclose(tokens.cls, clip.encode_image(pixels), atol=1e-5)
        plain = run(model, pixels, (1, 3), dense_attention="qk")
        whole = visual.forward_intermediates(pixels, [0, 2], output_fmt="NLC")["image_intermediates"]
        assert torch.allclose(plain.layers[0].flatten(1, 2), whole[0], atol=1e-5)
        for tokens_of in (plain, tokens):  # the last layer is the ordinary block's, after ln_post, whatever dense is
            assert torch.allclose(tokens_of.layers[1].flatten(1, 2), visual.ln_post(whole[1]), atol=1e-5)
        assert torch.allclose(plain.dense.flatten(1, 2), visual.ln_post(whole[1]) @ visual.proj, atol=1e-5)


def test_blocks_of_another_kind_have_no_dense_attention() -> None:
    clip = random_clip(2)
    block = clip.visual.transformer.resblocks[-1]
    block.__class__ = type("Own", (type(block),), {})
    model = models.LoadedModel("x", None, clip, open_clip.SimpleTokenizer(), (0, 0, 0), (1, 1, 1), "bicubic")
    assert Backbone(model, device=CPU, precision="fp32").dense_attention == "qk"
    with pytest.raises(ValueError, match="dense_attention='qq' is not for it"):
        Backbone(model, device=CPU, precision="fp32", dense_attention="qq")


def test_mean_pooled_towers() -> None:
    for norm_last in (False, True):
        clip = random_clip(3, pool_type="avg", final_ln_after_pool=norm_last)
        model = models.LoadedModel("x", None, clip, open_clip.SimpleTokenizer(), (0, 0, 0), (1, 1, 1), "bicubic")
        pixels = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            expected = clip.encode_image(pixels)
        for kind in ("qk", "vv"):
            assert torch.allclose(run(model, pixels, dense_attention=kind).cls, expected, atol=1e-5)


def test_other_sizes_interpolate_positions(local_model: str) -> None:
    backbone = Backbone(load_model(local_model), device=CPU, precision="fp32")
    trained = backbone.positions((4, 4))
    assert torch.equal(trained.flatten(0, 1), backbone._clip.visual.positional_embedding[1:])
    assert backbone.positions((6, 3)).shape == (6, 3, 32)
    tokens = backbone.encode(torch.randn(1, 3, 96, 48), (1,))
    assert tokens.dense.shape == (1, 6, 3, 24)
    assert tokens.layers[0].shape == (1, 6, 3, 32)


def test_text_equals_encode_text(local_model: str) -> None:
    backbone = Backbone(load_model(local_model), device=CPU, precision="fp32")
    sentences = ["a photo of a tile.", "a much longer sentence about a tile with a deep crack in it"] * 150
    sentences[7] = "a tile (see 4!; token 0 is an exclamation mark inside a word) in a sentence longer than all others"
    ids = open_clip.SimpleTokenizer()(sentences)
    with torch.no_grad():
        expected = backbone._clip.encode_text(ids)
    assert torch.allclose(backbone.encode_text(sentences), expected, atol=1e-5)


def test_precision_goes_by_flags() -> None:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    quick = "amx_tile" in flags or ("avx512_bf16" in flags and "AuthenticAMD" in flags)
    assert default_precision(CPU) == ("bf16" if quick else "fp32")


def test_the_hash_is_the_same_in_every_precision(tmp_path: Path) -> None:
    name = f"local-dir:{write_local_dir(random_clip(5), tmp_path)}"
    hashes = {Backbone(load_model(name), device=CPU, precision=p).weights_sha256 for p in ("fp32", "bf16")}
    assert len(hashes) == 1
    other = f"local-dir:{write_local_dir(random_clip(6), tmp_path / 'other')}"
    assert Backbone(load_model(other), device=CPU, precision="fp32").weights_sha256 not in hashes


def test_embedded_model_is_plain_open_clip() -> None:
    """A peer loads the same folder with open_clip alone and sees the same embedding."""
    peer = open_clip.create_model(f"local-dir:{ASSETS / 'tiny'}", require_pretrained=True).eval()
    pixels = torch.randn(1, 3, 224, 224)
    model = load_model("tiny")
    with torch.no_grad():
        assert torch.allclose(run(model, pixels).cls, peer.encode_image(pixels), atol=1e-4)
    parameters = sum(p.numel() for p in model.clip.visual.parameters())
    assert parameters <= 6_000_000
    assert sum(file.stat().st_size for file in (ASSETS / "tiny").iterdir()) < 25e6
