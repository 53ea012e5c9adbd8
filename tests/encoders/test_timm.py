"""Features of the embedded EfficientNet-Lite0 against timm's whole network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from patchclip.encoders import timm as encoder
from patchclip.encoders.timm import WEIGHTS_FILE, ImagenetFeatures, file_names, load_network
from patchclip.pretrain.imagenet import convert

CPU = torch.device("cpu")

#: The file's names of the network's parts, and timm's.
PARTS = {
    "0.0": "conv_stem",
    "0.1": "bn1",
    "0.2": "blocks.0",
    "0.3": "blocks.1",
    "0.4": "blocks.2",
    "1.0": "blocks.3",
    "1.1": "blocks.4",
}


def write_as_downloaded(model: torch.nn.Module, path: Path) -> Path:
    """A network's tensors under other names, in the same order."""
    torch.save({f"other.{name}": tensor for name, tensor in model.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def whole_network() -> torch.nn.Module:
    """EfficientNet-Lite0 with random weights and norms."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("tf_efficientnet_lite0").eval()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
                torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return model


@pytest.fixture
def embedded_is_other(
    whole_network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[torch.nn.Module]:
    """The network that the embedded weights were made of is another one: this."""
    convert(write_as_downloaded(whole_network, tmp_path / "network.pth"), tmp_path / "parts.safetensors")
    monkeypatch.setattr(encoder, "WEIGHTS_FILE", tmp_path / "parts.safetensors")
    load_network.cache_clear()
    yield whole_network
    load_network.cache_clear()


def random_rgb(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_features_are_those_of_the_whole_network(embedded_is_other: Any) -> None:
    """Converted to float16, its norms folded away, cut off and read again: as timm runs the network it came from."""
    rgb = random_rgb(2, 3, 64, 96)
    describe = ImagenetFeatures(load_network(CPU))
    found = describe(rgb)[0]
    enlarged = F.interpolate(2 * rgb - 1, (96, 144), mode="bilinear")
    whole = embedded_is_other.forward_intermediates(enlarged, indices=[3], intermediates_only=True)[0]
    assert found.shape == (2, 6, 9, 112)
    assert torch.allclose(found.norm(dim=-1), torch.ones(2, 6, 9), atol=1e-5)
    expected = F.normalize(whole, dim=1).permute(0, 2, 3, 1)
    assert torch.allclose(found, expected, atol=5e-3)
    assert describe(rgb[..., :56, :14])[0].shape == (2, 5, 1, 112)  # to whole steps of 16 pixels
    quick = load_network(CPU, torch.bfloat16)
    rough = ImagenetFeatures(quick)(rgb)[0]
    assert rough.dtype == torch.float32
    assert torch.allclose(rough, expected, atol=3e-2)


@torch.no_grad()
def test_fine_features_join_both_strides(embedded_is_other: Any) -> None:
    rgb = random_rgb(2, 3, 64, 96)
    found = ImagenetFeatures(load_network(CPU))(rgb)[1]
    enlarged = F.interpolate(2 * rgb - 1, (96, 144), mode="bilinear")
    fine, coarse = embedded_is_other.forward_intermediates(enlarged, indices=[2, 3], intermediates_only=True)
    assert found.shape == (2, 12, 18, 152)
    assert torch.allclose(found.norm(dim=-1), torch.ones(2, 12, 18), atol=1e-5)
    assert torch.allclose(found[..., :40], F.normalize(fine, dim=1).permute(0, 2, 3, 1) / 2**0.5, atol=5e-3)
    between = F.normalize(F.interpolate(coarse, scale_factor=2, mode="bilinear"), dim=1)
    assert torch.allclose(found[..., 40:], between.permute(0, 2, 3, 1) / 2**0.5, atol=5e-3)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_network_has_two_strides_and_keeps_its_first_blocks_in_float32(dtype: torch.dtype) -> None:
    network = load_network(CPU, dtype)
    fine, coarse = network(2 * random_rgb(2, 3, 64, 96) - 1)
    assert (fine.shape, coarse.shape) == ((2, 40, 8, 12), (2, 112, 4, 6))
    assert {parameter.dtype for parameter in network.conv_stem.parameters()} == {torch.float32}
    first, *others = network.blocks
    assert len(others) == 4  # of the seven groups, those up to the last level
    assert {parameter.dtype for parameter in first.parameters()} == {torch.float32}
    assert {parameter.dtype for block in others for parameter in block.parameters()} == {dtype}
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())  # folded away
    assert load_network(CPU, dtype) is network  # detectors share it


@torch.no_grad()
def test_both_levels_are_timms(embedded_is_other: Any) -> None:
    pixels = 2 * random_rgb(1, 3, 64, 96) - 1
    expected = embedded_is_other.forward_intermediates(pixels, indices=[2, 3], intermediates_only=True)
    for found, wanted in zip(load_network(CPU)(pixels), expected, strict=True):
        assert found.shape == wanted.shape
        assert torch.allclose(found, wanted, atol=1e-2 * float(wanted.abs().max()))


def test_the_committed_file_comes_out_of_the_conversion(tmp_path: Path) -> None:
    """Its tensors in timm's network, converted as a downloaded file is, are the same tensors under the same names."""
    committed = load_file(WEIGHTS_FILE)
    model = timm.create_model("tf_efficientnet_lite0")
    state = model.state_dict()
    for name, tensor in committed.items():
        state[PARTS[name[:3]] + name[3:]].copy_(tensor)
    assert file_names(model).keys() == committed.keys()
    convert(write_as_downloaded(model, tmp_path / "network.pth"), tmp_path / "parts.safetensors")
    converted = load_file(tmp_path / "parts.safetensors")
    assert converted.keys() == committed.keys()
    for name, tensor in committed.items():
        assert converted[name].dtype == tensor.dtype
        assert torch.equal(converted[name], tensor)
    save_file(committed, tmp_path / "again.safetensors")
    assert (tmp_path / "parts.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_another_network_is_not_converted(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not hold EfficientNet-Lite0"):
        convert(tmp_path / "other.pth", tmp_path / "parts.safetensors")
    assert not (tmp_path / "parts.safetensors").exists()


@torch.no_grad()
def test_the_embedded_features_tell_a_stripe_from_a_plain_patch() -> None:
    rgb = torch.full((1, 3, 64, 64), 0.5)
    rgb[..., 16:32, 16:32] = (torch.arange(16) % 4 < 2).float()
    found = ImagenetFeatures(load_network(CPU))(rgb)[0].flatten(1, 2)[0]  # 6 x 6
    similarity = found @ found.T
    assert float(similarity[14, 35]) < 0.8 < float(similarity[5, 35])


def test_making_the_network_leaves_random_numbers_and_dtypes_alone() -> None:
    expected = load_network(CPU).state_dict()
    load_network.cache_clear()
    before = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        found = load_network(CPU).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)
