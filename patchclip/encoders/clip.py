"""The image tower of a CLIP: RGB pixels -> [CLS], dense and patch tokens, in one forward. With `text`, the only file
that runs open_clip.

Shapes: B images, a grid of gh x gw patches, N = gh * gw, width D, embedding E.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn
from torch.nn import functional as F

from .model import LoadedModel

DENSE_ATTENTIONS = ("qk", "qq", "kk", "vv")
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}

#: open_clip's ordinary block, whose parts can be run one by one; its subclasses may compute something else.
StandardBlock = open_clip.transformer.ResidualAttentionBlock

#: Window sequences that go through the transformer at once.
_WINDOW_CHUNK = 256


@dataclass(frozen=True)
class Tokens:
    """All outputs of one forward.

    Attributes:
        cls: (B, E), the image embedding of `encode_image`, not normalised.
        dense: (B, gh, gw, E), text-aligned patch embeddings, not normalised.
        layers: (B, gh, gw, D) for each layer asked for.
    """

    cls: torch.Tensor
    dense: torch.Tensor
    layers: tuple[torch.Tensor, ...]


def default_precision(device: torch.device) -> str:
    """bf16 where the processor is made for it, by its flags; else fp32.

    That is AMX, or a GPU's matrix units, or AVX-512's bf16 instructions by AMD: with those a product takes half the
    time of fp32 on Zen 4, elsewhere it took twice the time (torch 2.15).
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    has_fast_avx512 = torch.cpu._is_avx512_bf16_supported() and _made_by_amd()
    return "bf16" if torch.cpu._is_amx_tile_supported() or has_fast_avx512 else "fp32"


def _made_by_amd() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    vendor = cpuinfo.read_text() if cpuinfo.exists() else platform.processor()
    return "AuthenticAMD" in vendor


def run_tower(
    visual: Any, pixels: torch.Tensor, positions: torch.Tensor, *, layers: Sequence[int], dense_attention: str
) -> Tokens:
    """One forward of open_clip's ViT that keeps everything.

    Args:
        pixels: (B, 3, gh * patch, gw * patch), normalised.
        positions: (gh, gw, D) of the patches.
        layers: blocks, counted from 1, whose output to keep; the last one passes `ln_post` (as WinCLIP's do).
        dense_attention: "qk" runs the last block as it is. "qq", "kk" and "vv" let its patch tokens attend by
            their own similarity and drop its residual and its feed-forward (ClearCLIP, arXiv 2407.12442); [CLS]
            keeps the ordinary block, as one query row.
    """
    grid_hw = positions.shape[:2]
    *blocks, last_block = visual.transformer.resblocks
    depth = len(blocks) + 1
    kept = {}
    x = _embed(visual, pixels, positions)  # (B, 1 + N, D)
    for index, block in enumerate(blocks, 1):
        x, _ = _run_block(block, x)
        if index in layers:
            kept[index] = x[:, 1:]
    needs_patches = dense_attention == "qk" or depth in layers or visual.pool_type == "avg"
    x, dense = _run_block(last_block, x, dense_attention=dense_attention, cls_only=not needs_patches)
    if depth in layers:
        kept[depth] = visual.ln_post(x[:, 1:])
    if dense is None:
        dense = x[:, 1:]
    dense = visual.ln_post(dense) @ visual.proj  # (B, N, E)
    grids = tuple(kept[index].unflatten(1, grid_hw) for index in layers)
    return Tokens(_pool(visual, x), dense.unflatten(1, grid_hw), grids)


def _embed(visual: Any, pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """What the first block sees: (B, 3, h, w), (gh, gw, D) -> (B, 1 + N, D), [CLS] first."""
    x = visual.conv1(pixels).flatten(2).transpose(1, 2) + positions.flatten(0, 1)  # (B, N, D)
    cls = visual.class_embedding + visual.positional_embedding[0]
    cls = cls.expand(x.shape[0], 1, -1)  # not len(x), which fixes the batch when traced for export
    return visual.ln_pre(torch.cat([cls, x], 1))


def _run_block(
    block: Any,
    x: torch.Tensor,
    *,
    dense_attention: str = "qk",
    cls_only: bool = False,
    sequences: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One block of the transformer.

    Attention goes through `scaled_dot_product_attention`: the path that nn.MultiheadAttention takes without gradients
    is several times slower in bfloat16 on processors.

    Args:
        x: (B, 1 + N, D).
        dense_attention: other than "qk", self-self attention for the patches too.
        cls_only: leave the patches out of the ordinary output.
        sequences: (S, L) indices of the tokens of each sequence, where several share tokens: what depends on a token
            alone is computed once. B becomes B * S, and 1 + N becomes L.

    Returns:
        The ordinary output `block(x)`, (B, 1 + N, D) or (B, 1, D), and self-self attended patches (B, N, D) or None.
    """
    rows = slice(0, 1) if cls_only else slice(None)
    if type(block) is not StandardBlock:
        if sequences is not None:
            x = x[:, sequences].flatten(0, 1)
        dtype = next(block.parameters()).dtype
        return block(x.to(dtype))[:, rows].to(x.dtype), None
    attention = block.attn
    dtype = attention.in_proj_weight.dtype
    projected = F.linear(block.ln_1(x).to(dtype), attention.in_proj_weight, attention.in_proj_bias)
    if sequences is not None:
        x = x[:, sequences].flatten(0, 1)
        projected = projected[:, sequences].flatten(0, 1)
    heads = projected.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    q, k, v = heads.unbind(0)  # (B, heads, 1 + N, D / heads) each
    dense = None
    if dense_attention != "qk":
        similar = {"qq": q, "kk": k, "vv": v}[dense_attention]
        attended = F.scaled_dot_product_attention(similar[:, :, 1:], similar, v)
        dense = block.ls_1(attention.out_proj(attended.transpose(1, 2).flatten(2))).to(x.dtype)
    attended = F.scaled_dot_product_attention(q[:, :, rows], k, v)
    x = x[:, rows] + block.ls_1(attention.out_proj(attended.transpose(1, 2).flatten(2)))
    x = x + block.ls_2(block.mlp(block.ln_2(x).to(dtype)))
    return x, dense


def _run_windows(visual: Any, x: torch.Tensor, sequences: torch.Tensor) -> torch.Tensor:
    """(B, 1 + N, D) after `ln_pre` and the (S, L) tokens of each window, [CLS] first -> (B, S, E)."""
    first_block, *blocks = visual.transformer.resblocks
    x, _ = _run_block(first_block, x, cls_only=not blocks, sequences=sequences)
    for block in blocks:
        x, _ = _run_block(block, x, cls_only=block is blocks[-1])
    return _pool(visual, x).unflatten(0, (-1, len(sequences)))


def _pool(visual: Any, x: torch.Tensor) -> torch.Tensor:
    """(B, 1 + N, D) after the last block -> (B, E), as open_clip pools it."""
    if visual.pool_type == "avg":
        if visual.final_ln_after_pool:
            return visual.ln_post(x[:, 1:].mean(1)) @ visual.proj
        return visual.ln_post(x)[:, 1:].mean(1) @ visual.proj
    return visual.ln_post(x[:, 0]) @ visual.proj


def resolve_device(device: str) -> torch.device:
    """The device of that name; "auto" is a CUDA device where there is one.

    Raises:
        ValueError: no such device here.
    """
    name = str(device)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(name)
        torch.empty(0, device=resolved)
    except (AssertionError, RuntimeError, TypeError) as error:
        raise ValueError(f"device {device!r} cannot be used here: {error}") from error
    return resolved


class Backbone(nn.Module):
    """The image tower of a CLIP on a device, in a precision.

    Args:
        model: from `loading.load_model`; its image tower is moved and cast in place.
        precision: "fp32", "bf16", or "auto" (`default_precision`).
        dense_attention: one of `DENSE_ATTENTIONS`; None takes what the model was trained with, "qq" otherwise, and "qk"
            with blocks of a kind of its own, which have no other.

    Attributes:
        patch: side of a patch in pixels. image_size: the side it was trained at. depth: number of blocks.
        has_cls: whether it pools by its [CLS] token.
        precision, dtype: of the matrix products. mean, std: (3, 1, 1) float32, to normalise RGB in [0, 1].

    Raises:
        ValueError: a dense_attention that the blocks do not have.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, model: LoadedModel, *, device: torch.device, precision: str = "auto", dense_attention: str | None = None
    ):
        super().__init__()
        self.model = model
        self.device = device
        self.precision = default_precision(device) if precision == "auto" else precision
        self.dtype = _PRECISIONS[self.precision]
        visual: Any = model.clip.visual
        blocks = visual.transformer.resblocks
        standard = type(blocks[-1]) is StandardBlock
        if not standard and dense_attention not in (None, "qk"):
            raise ValueError(
                f"{model.name!r} has blocks of its own kind: dense_attention={dense_attention!r} is not for it"
            )
        self.dense_attention = (dense_attention or model.defaults.dense_attention) if standard else "qk"
        self.patch: int = visual.patch_size[0]
        self.image_size: int = visual.image_size[0]
        self.depth = len(blocks)
        self.has_cls = visual.pool_type == "tok"
        self.register_buffer("mean", torch.tensor(model.mean, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(model.std, dtype=torch.float32).view(3, 1, 1))
        self.visual = visual
        self.to(device)
        # The residual stream and the first block stay in float32: rounding them and the pixels to 16 bits moves the
        # scores of faint textures by hundredths.
        for block in blocks[1:]:
            for part in (block.attn, block.mlp) if standard else (block,):
                part.to(self.dtype)
        self._positions: dict[tuple[int, int], torch.Tensor] = {}

    @property
    def preprocessing(self) -> list[Any]:
        """Mean and deviation that pixels are normalised by, and the activation: what the weights do not say."""
        layers = [type(module).__name__ for module in self.visual.modules()]
        activations = sorted({name for name in layers if "GELU" in name})
        return [list(self.model.mean), list(self.model.std), *activations]

    def float32_copy(self) -> Backbone:
        """A copy on the CPU in float32; it shares nothing that can change."""
        duplicate = copy.deepcopy(self, {id(self.model): self.model})
        duplicate.to("cpu", torch.float32)
        duplicate.device = torch.device("cpu")
        duplicate.precision, duplicate.dtype = "fp32", torch.float32
        duplicate._positions = {}
        return duplicate

    def positions(self, grid_hw: tuple[int, int]) -> torch.Tensor:
        """Position embeddings of the patches on any grid, by bicubic interpolation: (gh, gw, D)."""
        if grid_hw not in self._positions:
            trained = self.visual.positional_embedding[1:].view(*self.visual.grid_size, -1)
            if grid_hw != tuple(self.visual.grid_size):
                image = trained.float().permute(2, 0, 1)[None]  # (1, D, rows, columns)
                image = F.interpolate(image, grid_hw, mode="bicubic", antialias=True)
                trained = image[0].permute(1, 2, 0).to(trained.dtype)
            self._positions[grid_hw] = trained.detach().contiguous()
        return self._positions[grid_hw]

    def encode(self, rgb: torch.Tensor, layers: Sequence[int] = ()) -> Tokens:
        """One forward.

        Args:
            rgb: (B, 3, h, w) float32 in [0, 1]; h and w are multiples of the patch.
            layers: blocks, counted from 1, whose tokens to keep.

        Returns:
            `Tokens` in float32.
        """
        grid_hw = (rgb.shape[2] // self.patch, rgb.shape[3] // self.patch)
        pixels = (rgb - self.mean) / self.std
        positions = self.positions(grid_hw)
        tokens = run_tower(self.visual, pixels, positions, layers=layers, dense_attention=self.dense_attention)
        return Tokens(tokens.cls.float(), tokens.dense.float(), tuple(layer.float() for layer in tokens.layers))

    def encode_windows(self, rgb: torch.Tensor, window_sets: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """WinCLIP's window embeddings: each window is a sequence of its own, [CLS] first.

        The tokens are taken after the position embedding and before `ln_pre`.

        Args:
            rgb: (B, 3, h, w) float32 in [0, 1].
            window_sets: (S, L) int64 each, the patches of each window as indices into the flattened grid.

        Returns:
            For each set (B, S, E) float32, not normalised.
        """
        grid_hw = (rgb.shape[2] // self.patch, rgb.shape[3] // self.patch)
        pixels = (rgb - self.mean) / self.std
        x = _embed(self.visual, pixels, self.positions(grid_hw))  # (B, 1 + N, D)
        embeddings = []
        for windows in window_sets:
            sequences = F.pad(windows + 1, (1, 0))  # (S, 1 + L); index 0 is [CLS]
            chunks = sequences.split(max(1, _WINDOW_CHUNK // len(x)))
            embedded = torch.cat([_run_windows(self.visual, x, chunk) for chunk in chunks], 1)
            embeddings.append(embedded.float())
        return embeddings


class JoinedLayers(nn.Module):
    """The vectors of the bank of patch tokens: the layers side by side."""

    def __init__(self, backbone: Backbone):
        super().__init__()

    def forward(self, rgb: torch.Tensor, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """L tensors (B, gh, gw, D) -> (B, gh, gw, L * D): each of unit length, the whole of unit length again."""
        return torch.cat([F.normalize(layer, dim=-1) for layer in layers], -1) / len(layers) ** 0.5
