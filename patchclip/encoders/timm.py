"""Features of EfficientNet-Lite0 (arXiv 1905.11946), trained on the photographs of ImageNet.

The network is embedded up to its stride of 16 pixels; nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .clip import Backbone

WEIGHTS_FILE = Path(__file__).parent.parent / "assets" / "efficientnet_lite0" / "model.safetensors"

#: Pixels between its last features.
_STRIDE = 16

#: How much larger the network sees the image than the CLIP does.
_INPUT_SCALE = 1.5

#: Of timm's feature levels, those with 40 values at every 8 pixels and with 112 at every 16, which end with the third
#: and the fifth group of blocks.
_LEVELS = (2, 3)
_BLOCK_GROUPS = 5

#: The file's names of the network's parts, and timm's.
_PART_NAMES = {
    "0.0": "conv_stem",
    "0.1": "bn1",
    "0.2": "blocks.0",
    "0.3": "blocks.1",
    "0.4": "blocks.2",
    "1.0": "blocks.3",
    "1.1": "blocks.4",
}


class ImagenetFeatures(nn.Module):
    """The features at every 16 and at every 8 pixels of the image, enlarged by half, for two banks by one forward.

    The grids are finer than the CLIP's, so that a small defect fills a cell, and a normal cell finds one like it.

    Args:
        network: `load_network`.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, rgb: torch.Tensor, layers: Sequence[torch.Tensor] = ()) -> tuple[torch.Tensor, torch.Tensor]:
        """What the banks hold.

        Args:
            rgb: (B, 3, h, w) float32 in [0, 1].
            layers: not used.

        Returns:
            Vectors of unit length, float32: (B, rows, columns, 112) of the coarser stride, rows = round(1.5 * h / 16),
            columns likewise; (B, 2 * rows, 2 * columns, 152) of both, each of equal length, the coarser one
            interpolated.
        """
        size_hw = [_STRIDE * max(1, round(_INPUT_SCALE * side / _STRIDE)) for side in rgb.shape[2:]]
        pixels = (2 * rgb - 1).contiguous(memory_format=torch.channels_last)
        pixels = F.interpolate(pixels, size_hw, mode="bilinear")
        fine, coarse = [level.float() for level in self.network(pixels)]  # (B, 40, ...), (B, 112, ...)
        enlarged = F.interpolate(coarse, fine.shape[2:], mode="bilinear")
        joined = torch.cat([F.normalize(fine, dim=1), F.normalize(enlarged, dim=1)], 1) / 2**0.5
        return F.normalize(coarse, dim=1).permute(0, 2, 3, 1), joined.permute(0, 2, 3, 1)


class PaddedFirst(nn.Module):
    """An inverted residual block of stride 2 that pads its input, not what is six times as wide before its strided
    convolution: the same values in less time, for these are not copied.

    Args:
        block: of timm, its norms folded.
    """

    def __init__(self, block: Any):
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, D, h / 2, w / 2), rounded up."""
        block, strided = self.block, self.block.conv_dw
        height, width = x.shape[2:]
        side = strided.kernel_size[0]
        rows, columns = side - 2 + height % 2, side - 2 + width % 2  # of padding, as TensorFlow's "same"
        top, left = rows // 2, columns // 2
        wide = block.bn1(block.conv_pw(F.pad(x, (left, columns - left, top, rows - top))))
        wide[:, :, :top] = wide[:, :, top + height :] = 0  # the bias is there, and zeros belong there
        wide[..., :left] = wide[..., left + width :] = 0
        narrow = F.conv2d(wide, strided.weight, strided.bias, stride=2, groups=strided.groups)
        return block.conv_pwl(block.bn2(narrow))


def new_network() -> Any:
    """The network by timm, with random weights, up to the last level that is used."""
    import timm

    with torch.random.fork_rng(devices=[]):  # the process's random numbers stay as they are
        network: Any = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=_LEVELS)
    network.blocks = network.blocks[:_BLOCK_GROUPS]  # timm would compute the others too
    return network


@lru_cache(maxsize=4)
def load_network(device: torch.device, dtype: torch.dtype = torch.float32) -> Any:
    """The embedded network: (B, 3, h, w) in [-1, 1] -> its features at strides of 8 and of 16 pixels, (B, 40, h / 8,
    w / 8) and (B, 112, h / 16, w / 16).

    The stem and the first blocks stay in float32: in bfloat16 they move the scores twice as far, and are no faster.

    Args:
        dtype: of the blocks after the first.
    """
    from safetensors.torch import load_file

    network = new_network().float().eval().requires_grad_(False)  # whatever the default dtype is
    weights = {_timm_name(name): tensor.float() for name, tensor in load_file(WEIGHTS_FILE).items()}
    network.load_state_dict(weights)
    _fold_norms(network)
    for blocks in network.blocks:
        for name, block in blocks.named_children():
            if block.conv_dw.stride == (2, 2):
                setattr(blocks, name, PaddedFirst(block))
    network.to(memory_format=torch.channels_last)  # two thirds of the time on a CPU
    for block in network.blocks[1:]:
        block.to(dtype)
    network.blocks[1].register_forward_pre_hook(_cast_to_own_dtype)
    return network.to(device)


def file_names(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of timm's whole network that are used, under the names of the embedded file."""
    renamed = {}
    for name, tensor in network.state_dict().items():
        for file_part, part in _PART_NAMES.items():
            if name.startswith(f"{part}."):
                renamed[file_part + name.removeprefix(part)] = tensor
    return renamed


def _timm_name(name: str) -> str:
    return _PART_NAMES[name[:3]] + name[3:]


def _cast_to_own_dtype(block: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return inputs[0].to(next(block.parameters()).dtype)


def _fold_norms(module: nn.Module) -> None:
    """Fold every batch norm into the convolution before it: the same values in less time."""
    convolution = ""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            convolution = name
        elif isinstance(child, nn.BatchNorm2d):
            folded = nn.utils.fusion.fuse_conv_bn_eval(getattr(module, convolution), child)
            setattr(module, convolution, folded)
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            _fold_norms(child)


def make_descriptor(backbone: Backbone) -> ImagenetFeatures:
    """On the device and in the precision of that backbone; detectors share the network."""
    return ImagenetFeatures(load_network(backbone.device, backbone.dtype))


def fingerprint() -> list[str | float]:
    """What the vectors depend on: banks of features with another fingerprint are not comparable."""
    return [hashlib.sha256(WEIGHTS_FILE.read_bytes()).hexdigest(), _STRIDE, _INPUT_SCALE]
