"""The image tower: one forward against open_clip's own, windows, precisions."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from conftest import random_clip
from torch.nn import functional as F

from patchclip.encoders.clip import (
    Backbone,
    JoinedLayers,
    Tokens,
    default_precision,
    resolve_device,
)
from patchclip.encoders.loading import ASSETS, load_model
from patchclip.encoders.model import LoadedModel, ModelDefaults

CPU = torch.device("cpu")


def as_model(clip: open_clip.CLIP) -> LoadedModel:
    """With a preprocessing that changes nothing."""
    no_mean, no_std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return LoadedModel("x", None, clip, open_clip.SimpleTokenizer(), no_mean, no_std, "bicubic", ModelDefaults())


def make_backbone(clip: open_clip.CLIP, **options: str) -> Backbone:
    return Backbone(as_model(clip), device=CPU, precision=options.pop("precision", "fp32"), **options)


def random_rgb(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def encode(clip: open_clip.CLIP, rgb: torch.Tensor, layers: tuple[int, ...] = (), **options: str) -> Tokens:
    return make_backbone(clip, **options).encode(rgb, layers)


@torch.no_grad()
def test_encode_normalises_and_equals_encode_image(local_model: str) -> None:
    backbone = Backbone(load_model(local_model), device=CPU, precision="fp32")
    rgb = random_rgb(2, 3, 64, 64)
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    expected = backbone.model.clip.encode_image((rgb - mean) / std)
    found = backbone.encode(rgb).cls
    assert found.shape == (2, 24)
    assert torch.allclose(found, expected, atol=1e-5)


@torch.no_grad()
def test_embedded_model_is_plain_open_clip() -> None:
    """A peer loads the same folder with open_clip alone and sees the same embedding."""
    peer = open_clip.create_model(f"local-dir:{ASSETS / 'tiny'}", require_pretrained=True).eval()
    preprocess = open_clip.get_model_preprocess_cfg(peer)
    rgb = random_rgb(1, 3, 224, 224)
    mean, std = (torch.tensor(preprocess[name]).view(3, 1, 1) for name in ("mean", "std"))
    model = load_model("tiny")
    found = Backbone(model, device=CPU, precision="fp32").encode(rgb).cls
    assert torch.allclose(found, peer.encode_image((rgb - mean) / std), atol=1e-4)
    assert sum(parameter.numel() for parameter in model.clip.visual.parameters()) <= 6_000_000
    assert sum(file.stat().st_size for file in (ASSETS / "tiny").iterdir()) < 25e6


@pytest.mark.parametrize("kind", ["qq", "kk", "vv"])
@torch.no_grad()
def test_dense_attention_of_the_last_block_against_a_loop(kind: str) -> None:
    clip = random_clip(2)
    visual, rgb = clip.visual, random_rgb(1, 3, 64, 64)
    x = visual.forward_intermediates(rgb, [1], output_fmt="NLC", output_extra_tokens=True)
    x = torch.cat([x["image_intermediates_prefix"][0], x["image_intermediates"][0]], 1)  # (1, 17, 32)
    last = visual.transformer.resblocks[-1]
    q, k, v = (last.ln_1(x)[0] @ last.attn.in_proj_weight.T + last.attn.in_proj_bias).chunk(3, -1)
    similar = {"qq": q, "kk": k, "vv": v}[kind]
    rows = []
    for token in range(1, 17):
        heads = []
        for head in (slice(0, 16), slice(16, 32)):
            weights = torch.softmax(similar[token, head] @ similar[:, head].T / 4, -1)
            heads.append(weights @ v[:, head])
        rows.append(last.attn.out_proj(torch.cat(heads)))
    expected = visual.ln_post(torch.stack(rows)) @ visual.proj
    tokens = encode(clip, rgb, (1, 3), dense_attention=kind)
    assert tokens.dense.shape == (1, 4, 4, 24)
    assert torch.allclose(tokens.dense.reshape(16, 24), expected, atol=1e-5)
    assert torch.allclose(tokens.cls, clip.encode_image(rgb), atol=1e-5)
    assert torch.allclose(encode(clip, rgb, dense_attention=kind).cls, clip.encode_image(rgb), atol=1e-5)


@pytest.mark.parametrize("kind", ["qk", "qq", "vv"])
@torch.no_grad()
def test_layers_are_those_of_open_clip(kind: str) -> None:
    """The last layer is the ordinary block's, after ln_post, whatever the dense tokens are."""
    clip = random_clip(2)
    visual, rgb = clip.visual, random_rgb(2, 3, 64, 64)
    whole = visual.forward_intermediates(rgb, [0, 1, 2], output_fmt="NLC")["image_intermediates"]
    tokens = encode(clip, rgb, (3, 1, 2), dense_attention=kind)
    assert [layer.shape for layer in tokens.layers] == [(2, 4, 4, 32)] * 3
    last, first, second = (layer.flatten(1, 2) for layer in tokens.layers)  # in the order they were asked for
    assert torch.allclose(first, whole[0], atol=1e-5)
    assert torch.allclose(second, whole[1], atol=1e-5)
    assert torch.allclose(last, visual.ln_post(whole[2]), atol=1e-5)
    if kind == "qk":
        assert torch.allclose(tokens.dense.flatten(1, 2), visual.ln_post(whole[2]) @ visual.proj, atol=1e-5)


def test_blocks_of_another_kind_have_no_dense_attention() -> None:
    clip = random_clip(2)
    block = clip.visual.transformer.resblocks[-1]
    assert make_backbone(clip).dense_attention == "qq"  # where the model says nothing
    block.__class__ = type("Own", (type(block),), {})
    assert make_backbone(clip).dense_attention == "qk"
    with pytest.raises(ValueError, match="dense_attention='qq' is not for it"):
        make_backbone(clip, dense_attention="qq")


@torch.no_grad()
def test_a_block_of_another_kind_runs_as_it_is() -> None:
    """open_clip's custom blocks, which have parts of their own."""
    clip = random_clip(0, block_type="custom")
    assert type(clip.visual.transformer.resblocks[0]) is not open_clip.transformer.ResidualAttentionBlock
    backbone, rgb = make_backbone(clip), random_rgb(2, 3, 64, 64)
    expected = clip.encode_image(rgb)
    assert torch.allclose(backbone.encode(rgb).cls, expected, atol=1e-5)
    [whole] = backbone.encode_windows(rgb, [torch.arange(16)[None]])
    assert torch.allclose(whole[:, 0], expected, atol=1e-5)
    rough = make_backbone(clip, precision="bf16").encode(rgb).cls
    assert rough.dtype == torch.float32
    assert torch.allclose(rough, expected, atol=0.05)


@pytest.mark.parametrize("norm_last", [False, True])
@torch.no_grad()
def test_mean_pooled_towers(norm_last: bool) -> None:
    clip = random_clip(3, pool_type="avg", final_ln_after_pool=norm_last)
    rgb = random_rgb(2, 3, 64, 64)
    expected = clip.encode_image(rgb)
    assert not make_backbone(clip).has_cls
    for kind in ("qk", "vv"):
        assert torch.allclose(encode(clip, rgb, dense_attention=kind).cls, expected, atol=1e-5)


@torch.no_grad()
def test_other_sizes_interpolate_positions(local_model: str) -> None:
    backbone = Backbone(load_model(local_model), device=CPU, precision="fp32")
    trained = backbone.positions((4, 4))
    assert torch.equal(trained.flatten(0, 1), backbone.visual.positional_embedding[1:])
    image = trained.permute(2, 0, 1)[None]
    expected = F.interpolate(image, (6, 3), mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    assert torch.equal(backbone.positions((6, 3)), expected)
    tokens = backbone.encode(random_rgb(1, 3, 96, 48), (1,))
    assert tokens.dense.shape == (1, 6, 3, 24)
    assert tokens.layers[0].shape == (1, 6, 3, 32)


@torch.no_grad()
def test_windows_are_sequences_of_their_own() -> None:
    clip = random_clip(2)
    visual, backbone = clip.visual, make_backbone(clip)
    rgb = random_rgb(2, 3, 64, 64)
    everything = torch.arange(16)[None]
    several = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(k))[:3] for k in range(150)])
    whole, parts = backbone.encode_windows(rgb, [everything, several])  # two images of 150 are more than one chunk
    assert (whole.shape, parts.shape) == ((2, 1, 24), (2, 150, 24))
    assert torch.allclose(whole[:, 0], backbone.encode(rgb).cls, atol=1e-5)
    patches = visual.conv1(rgb).flatten(2).transpose(1, 2) + visual.positional_embedding[1:]
    cls = visual.class_embedding + visual.positional_embedding[0]
    for image, window in ((0, 0), (1, 5), (1, 149)):
        x = visual.ln_pre(torch.cat([cls[None], patches[image, several[window]]])[None])
        for block in visual.transformer.resblocks:
            x = block(x)
        expected = visual.ln_post(x[0, 0]) @ visual.proj
        assert torch.allclose(parts[image, window], expected, atol=1e-5)


def test_it_is_a_module_of_the_image_tower_alone(local_model: str) -> None:
    backbone = Backbone(load_model(local_model), device=CPU, precision="fp32")
    assert {name.split(".")[0] for name, _ in backbone.named_parameters()} == {"visual"}
    assert {"mean", "std"} <= dict(backbone.named_buffers()).keys()
    assert (backbone.patch, backbone.image_size, backbone.depth, backbone.has_cls) == (16, 64, 3, True)
    assert backbone.preprocessing == [[0.5, 0.4, 0.3], [0.2, 0.25, 0.3], "GELU"]


@torch.no_grad()
def test_half_precision_keeps_the_first_block_and_the_outputs_in_float32(local_model: str) -> None:
    rgb = random_rgb(2, 3, 64, 64)
    exact = Backbone(load_model(local_model), device=CPU, precision="fp32").encode(rgb, (2,))
    backbone = Backbone(load_model(local_model), device=CPU, precision="bf16")
    first, *others = backbone.visual.transformer.resblocks
    assert {parameter.dtype for parameter in first.parameters()} == {torch.float32}
    for block in others:
        for part in (block.attn, block.mlp):
            assert {parameter.dtype for parameter in part.parameters()} == {torch.bfloat16}
    assert (backbone.precision, backbone.dtype) == ("bf16", torch.bfloat16)
    rough = backbone.encode(rgb, (2,))
    for found, expected in ((rough.cls, exact.cls), (rough.dense, exact.dense), (rough.layers[0], exact.layers[0])):
        assert found.dtype == torch.float32
        assert 0 < float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())


@torch.no_grad()
def test_a_float32_copy_shares_nothing(local_model: str) -> None:
    rgb = random_rgb(1, 3, 64, 48)
    backbone = Backbone(load_model(local_model), device=CPU, precision="bf16")
    before = backbone.encode(rgb).cls
    duplicate = backbone.float32_copy()
    assert (duplicate.precision, duplicate.dtype, duplicate.device) == ("fp32", torch.float32, CPU)
    assert {parameter.dtype for parameter in duplicate.parameters()} == {torch.float32}
    assert torch.allclose(duplicate.encode(rgb).cls, before, atol=0.05)
    assert backbone.visual.transformer.resblocks[1].mlp.c_fc.weight.dtype == torch.bfloat16
    duplicate.positions((4, 3)).zero_()
    for tensor in (*duplicate.parameters(), *duplicate.buffers()):
        tensor.zero_()
    assert torch.equal(backbone.encode(rgb).cls, before)


def test_joined_layers_by_hand(local_model: str) -> None:
    backbone = Backbone(load_model(local_model), device=CPU, precision="fp32")
    layers = [torch.tensor([3.0, 4.0]).view(1, 1, 1, 2), torch.tensor([0.0, 2.0]).view(1, 1, 1, 2)]
    found = JoinedLayers(backbone)(random_rgb(1, 3, 16, 16), layers)
    assert found.shape == (1, 1, 1, 4)
    assert found.flatten().tolist() == pytest.approx([0.6 / 2**0.5, 0.8 / 2**0.5, 0, 1 / 2**0.5])


def test_precision_goes_by_flags(local_model: str) -> None:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    quick = "amx_tile" in flags or ("avx512_bf16" in flags and "AuthenticAMD" in flags)
    assert default_precision(CPU) == ("bf16" if quick else "fp32")
    assert Backbone(load_model(local_model), device=CPU).precision == default_precision(CPU)


def test_a_device_is_one_that_is_here() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for wrong in ("gpu", "meta:x"):
        with pytest.raises(ValueError, match=f"device '{wrong}' cannot be used here"):
            resolve_device(wrong)
