"""The only file that runs open_clip: pixels -> [CLS], dense and patch tokens; prompts -> embeddings.

Shapes: B images, a grid of gh x gw patches, N = gh * gw, width D, embedding E.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn
from torch.nn import functional as F

from .models import LoadedModel, weights_sha256
from .windows import window_indices

DENSE_ATTENTIONS = ("qk", "qq", "kk", "vv")
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}

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
    quick = torch.cpu._is_amx_tile_supported() or (torch.cpu._is_avx512_bf16_supported() and _made_by_amd())
    return "bf16" if quick else "fp32"


def _made_by_amd() -> bool:
    listing = Path("/proc/cpuinfo")
    return "AuthenticAMD" in (listing.read_text() if listing.exists() else platform.processor())


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
    x, grid_hw = _embed(visual, pixels, positions), positions.shape[:2]
    blocks, kept = visual.transformer.resblocks, {}
    for depth in range(len(blocks) - 1):
        x, _ = _block(blocks[depth], x)
        if depth + 1 in layers:
            kept[depth + 1] = x[:, 1:]
    whole = dense_attention == "qk" or len(blocks) in layers or visual.pool_type == "avg"
    x, dense = _block(blocks[-1], x, dense_attention=dense_attention, cls_only=not whole)
    kept[len(blocks)] = x[:, 1:]
    dense = x[:, 1:] if dense is None else dense
    if len(blocks) in layers:
        kept[len(blocks)] = visual.ln_post(kept[len(blocks)])
    grid = tuple(kept[depth].unflatten(1, grid_hw) for depth in layers)
    return Tokens(_pool(visual, x), (visual.ln_post(dense) @ visual.proj).unflatten(1, grid_hw), grid)


def _embed(visual: Any, pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """What the first block sees: (B, 3, h, w), (gh, gw, D) -> (B, 1 + N, D), [CLS] first."""
    x = visual.conv1(pixels).flatten(2).transpose(1, 2) + positions.flatten(0, 1)  # (B, N, D)
    cls = visual.class_embedding + visual.positional_embedding[0]
    cls = cls.expand(x.shape[0], 1, -1)  # not len(x), which fixes the batch when traced for export
    return visual.ln_pre(torch.cat([cls, x], 1))


def _block(
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
        sequences: (S, L) numbers of the tokens of each sequence, where several share tokens: what is of a token alone
            is computed once. B becomes B * S, and 1 + N becomes L.

    Returns:
        The ordinary output `block(x)`, (B, 1 + N, D) or (B, 1, D), and self-self attended patches (B, N, D) or None.
    """
    rows = slice(0, 1) if cls_only else slice(None)
    if type(block) is not open_clip.transformer.ResidualAttentionBlock:
        if sequences is not None:
            x = x[:, sequences].flatten(0, 1)
        return block(x.to(next(block.parameters()).dtype))[:, rows].to(x.dtype), None
    dtype = block.attn.in_proj_weight.dtype
    projected = F.linear(block.ln_1(x).to(dtype), block.attn.in_proj_weight, block.attn.in_proj_bias)
    if sequences is not None:
        x, projected = x[:, sequences].flatten(0, 1), projected[:, sequences].flatten(0, 1)
    heads = projected.unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    q, k, v = heads.unbind(0)  # (B, heads, 1 + N, D / heads) each
    dense = None
    if dense_attention != "qk":
        own = {"qq": q, "kk": k, "vv": v}[dense_attention]
        mixed = F.scaled_dot_product_attention(own[:, :, 1:], own, v)
        dense = block.ls_1(block.attn.out_proj(mixed.transpose(1, 2).flatten(2))).to(x.dtype)
    mixed = F.scaled_dot_product_attention(q[:, :, rows], k, v)
    x = x[:, rows] + block.ls_1(block.attn.out_proj(mixed.transpose(1, 2).flatten(2)))
    return x + block.ls_2(block.mlp(block.ln_2(x).to(dtype))), dense


def _run_windows(visual: Any, x: torch.Tensor, sequences: torch.Tensor) -> torch.Tensor:
    """(B, 1 + N, D) after `ln_pre` and the (S, L) tokens of each window, [CLS] first -> (B, S, E)."""
    blocks = visual.transformer.resblocks
    for depth, block in enumerate(blocks, 1):
        x, _ = _block(block, x, cls_only=depth == len(blocks), sequences=sequences if depth == 1 else None)
    return _pool(visual, x).unflatten(0, (-1, len(sequences)))


def _pool(visual: Any, x: torch.Tensor) -> torch.Tensor:
    """(B, 1 + N, D) after the last block -> (B, E), as open_clip pools it."""
    if visual.pool_type == "avg":
        if visual.final_ln_after_pool:
            return visual.ln_post(x[:, 1:].mean(1)) @ visual.proj
        return visual.ln_post(x)[:, 1:].mean(1) @ visual.proj
    return visual.ln_post(x[:, 0]) @ visual.proj


def run_text(clip: Any, ids: torch.Tensor) -> torch.Tensor:
    """`encode_text` on the columns in use only, where the text tower is causal: (P, context) ids -> (P, E)."""
    if not isinstance(clip, open_clip.CLIP) or clip.text_pool_type != "argmax":
        return clip.encode_text(ids)
    length = int(ids.argmax(-1).max()) + 1  # the end of the text has the highest number
    ids = ids[:, :length]
    x = clip.token_embedding(ids) + clip.positional_embedding[:length]
    x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
    x = clip.ln_final(x)[torch.arange(len(ids), device=ids.device), ids.argmax(-1)]
    projection = clip.text_projection
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection


def usable_device(device: str) -> torch.device:
    """Where to compute: "auto" is a CUDA device where there is one.

    Raises:
        ValueError: no such device here.
    """
    try:
        place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if str(device) == "auto" else device)
        torch.empty(0, device=place)
    except (AssertionError, RuntimeError, TypeError) as error:
        raise ValueError(f"device {device!r} cannot be used here: {error}") from error
    return place


class Backbone:
    """A CLIP on a device, in a precision.

    Args:
        model: from `models.load_model`; it is moved and cast in place.
        dense_attention: one of `DENSE_ATTENTIONS`; None takes what the model was trained with, "qq" otherwise, and "qk"
            with blocks of a kind of its own, which have no other.

    Attributes:
        patch: side of a patch in pixels. image_size: the side it was trained at. depth: number of blocks.
        dtype: of the products in that precision. mean, std: (3, 1, 1) float32.

    Raises:
        ValueError: a dense_attention that the blocks do not have.
    """

    def __init__(self, model: LoadedModel, *, device: torch.device, precision: str, dense_attention: str | None = None):
        self.model = model
        self.device = device
        self.precision = precision
        self.dtype = _PRECISIONS[precision]
        self.dense_attention = dense_attention or model.about.get("dense_attention", "qq")
        visual: Any = model.clip.visual
        custom = type(visual.transformer.resblocks[-1]) is not open_clip.transformer.ResidualAttentionBlock
        if custom:
            if dense_attention not in (None, "qk"):
                raise ValueError(
                    f"{model.name!r} has blocks of its own kind: dense_attention={dense_attention!r} is not for it"
                )
            self.dense_attention = "qk"
        self.patch = visual.patch_size[0]
        self.image_size = visual.image_size[0]
        self.depth = len(visual.transformer.resblocks)
        self.mean = torch.tensor(model.mean, dtype=torch.float32, device=device).view(3, 1, 1)
        self.std = torch.tensor(model.std, dtype=torch.float32, device=device).view(3, 1, 1)
        self._clip: Any = model.clip.to(device)
        # the sum over the blocks stays in float32, and so does what it begins with: rounded to 16 bits, pixels and the
        # first block move the scores of faint textures by hundredths
        for block in visual.transformer.resblocks[1:]:
            for part in (block,) if custom else (block.attn, block.mlp):
                part.to(self.dtype)
        #: at which names of defects are told apart: the model's own, as it was trained with
        self.naming_temperature = float(
            model.about.get("temperature", 1 / self._clip.logit_scale.detach().float().exp())
        )
        self._positions: dict[tuple[int, int], torch.Tensor] = {}

    @cached_property
    def weights_sha256(self) -> str:
        """Identity of the weights, see `models.weights_sha256`."""
        return weights_sha256(self._clip)

    @property
    def input(self) -> list[Any]:
        """Mean and deviation that pixels are normalised by, and the activation: what the weights do not tell."""
        activations = {type(part).__name__ for part in self._clip.visual.modules() if "GELU" in type(part).__name__}
        return [list(self.model.mean), list(self.model.std), *sorted(activations)]

    def positions(self, grid_hw: tuple[int, int]) -> torch.Tensor:
        """Position embeddings of the patches on any grid, by bicubic interpolation: (gh, gw, D)."""
        if grid_hw not in self._positions:
            visual = self._clip.visual
            trained = visual.positional_embedding[1:].view(*visual.grid_size, -1)
            if grid_hw != tuple(visual.grid_size):
                image = trained.float().permute(2, 0, 1)[None]
                image = F.interpolate(image, grid_hw, mode="bicubic", antialias=True)
                trained = image[0].permute(1, 2, 0).to(trained.dtype)
            self._positions[grid_hw] = trained.contiguous()
        return self._positions[grid_hw]

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor, layers: Sequence[int] = ()) -> Tokens:
        """One forward: (B, 3, h, w) float32 normalised, sides multiples of the patch -> float32 `Tokens`."""
        visual = self._clip.visual
        grid_hw = (pixels.shape[2] // self.patch, pixels.shape[3] // self.patch)
        tokens = run_tower(visual, pixels, self.positions(grid_hw), layers=layers, dense_attention=self.dense_attention)
        return Tokens(tokens.cls.float(), tokens.dense.float(), tuple(layer.float() for layer in tokens.layers))

    @torch.inference_mode()
    def encode_windows(self, pixels: torch.Tensor, sides: Sequence[int]) -> list[torch.Tensor]:
        """WinCLIP's window embeddings: each window is a sequence of its own, [CLS] first.

        The tokens are taken after the position embedding and before `ln_pre`.

        Args:
            pixels: (B, 3, h, w) float32 normalised.
            sides: of the windows, in tokens.

        Returns:
            For each side, (B, rows, columns, E) float32, not normalised.
        """
        visual = self._clip.visual
        gh, gw = pixels.shape[2] // self.patch, pixels.shape[3] // self.patch
        x = _embed(visual, pixels, self.positions((gh, gw)))
        embeddings = []
        for side in sides:
            sequences = F.pad(window_indices((gh, gw), side, x.device) + 1, (1, 0))  # (windows, 1 + tokens of a window)
            chunks = sequences.split(max(1, _WINDOW_CHUNK // len(x)))
            windows = torch.cat([_run_windows(visual, x, chunk) for chunk in chunks], 1)
            embeddings.append(windows.unflatten(1, (gh - min(side, gh) + 1, -1)).float())
        return embeddings

    @torch.inference_mode()
    def encode_text(self, prompts: Sequence[str]) -> torch.Tensor:
        """(P, E) float32, not normalised. Warns of prompts that are longer than the model reads."""
        tokenizer = self.model.tokenizer
        ids = tokenizer(list(prompts))
        if isinstance(tokenizer, open_clip.SimpleTokenizer):  # others are of models that read more
            full = [prompt for prompt, last in zip(prompts, ids[:, -1].tolist(), strict=True) if last]
            length = tokenizer.context_length
            cut = [prompt for prompt in full if len(tokenizer.encode(prompt)) + 2 > length]  # 2: start and end
            if cut:
                warnings.warn(
                    f"{len(cut)} of {len(prompts)} prompts lose their ends, for {self.model.name!r} reads no more than "
                    f"{length} tokens: choose shorter or commoner words; the first is {cut[0]!r}",
                    stacklevel=2,
                )
        return torch.cat([run_text(self._clip, part.to(self.device)).float() for part in ids.split(256)])
