"""Which model a name means: the embedded one, an open_clip name, "hf-hub:..." or "local-dir:..."."""

from __future__ import annotations

import difflib
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

from ..errors import ModelNotFoundError, WeightsUnavailableError
from .downloads import (
    NEEDS_PERMISSION,
    WEIGHTS_REMEDY,
    downloads_allowed,
    failures_in_words,
    offline_unless_reachable,
    root_logger_silenced,
)
from .model import LoadedModel, ModelDefaults

#: The embedded model that a detector has by default.
DEFAULT_MODEL = "tiny-7"

#: All embedded models, each a folder of `ASSETS`.
EMBEDDED = (DEFAULT_MODEL, "tiny")

#: What the name of a model in a folder of one's own begins with.
LOCAL_FOLDER = "local-dir:"

ASSETS = Path(__file__).parent.parent / "assets"

#: The weights that `pretrained=None` means; for other names it is the last tag that open_clip lists.
DEFAULT_TAGS = {
    "ViT-B-32": "laion2b_s34b_b79k",
    "ViT-B-16": "laion2b_s34b_b88k",
    "ViT-B-16-plus-240": "laion400m_e31",
    "ViT-L-14": "laion2b_s32b_b82k",
    "ViT-L-14-336": "openai",
    "ViT-H-14": "laion2b_s32b_b79k",
    "ViT-g-14": "laion2b_s34b_b88k",
    "ViT-bigG-14": "laion2b_s39b_b160k",
}

#: Entries of OpenAI's own files that are no weights, and buffers that a model makes by itself.
_JIT_ENTRIES = ("input_resolution", "context_length", "vocab_size")
_DERIVED_ENTRIES = ("attn_mask", "position_ids")

#: Loading changes what the whole process shares: random numbers, and whether the hub is asked.
_LOADING_LOCK = threading.Lock()


def load_model(name: str, pretrained: str | os.PathLike[str] | None = None) -> LoadedModel:
    """Load a model with its weights; never with random ones.

    Args:
        name: "tiny-7" or "tiny", an open_clip name, "hf-hub:org/name", or "local-dir:folder" as `patchclip.pretrain`
            writes it.
        pretrained: for an open_clip name, a tag or the path of a checkpoint; None means `default_tag(name)`. With a
            checkpoint the name decides on the activation: one trained with QuickGELU, as OpenAI's are, takes the
            name that ends in "-quickgelu".

    Raises:
        ModelNotFoundError: unknown name, or an image tower other than open_clip's own ViT.
        WeightsUnavailableError: unknown tag, no such file, a file that does not fit, or no network.
    """
    draws_kept = torch.random.fork_rng(devices=[])  # random weights are drawn first
    with _LOADING_LOCK, root_logger_silenced(), draws_kept, _float32_by_default():
        return _load(name, None if pretrained is None else os.fspath(pretrained))


@contextmanager
def _float32_by_default() -> Iterator[None]:
    """open_clip makes a model in torch's default dtype, and would round its weights to 16 bits."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def _load(name: str, pretrained: str | None) -> LoadedModel:
    if name in EMBEDDED or name.startswith(LOCAL_FOLDER):
        if pretrained is not None:
            raise ModelNotFoundError(f"{name!r} brings its own weights: leave out pretrained={pretrained!r}")
        return _load_folder(name, ASSETS / name if name in EMBEDDED else Path(name.removeprefix(LOCAL_FOLDER)))
    if name.startswith("hf-hub:"):
        if pretrained is not None:
            raise ModelNotFoundError(f"{name!r} brings its own weights: leave out pretrained={pretrained!r}")
        with offline_unless_reachable(), failures_in_words(f"the weights of {name!r}"):
            return _loaded(name, None, _create(name, None, quick_gelu=False), open_clip.get_tokenizer(name))
    if name not in open_clip.list_models():
        raise ModelNotFoundError(_unknown(name))
    config = open_clip.get_model_config(name)
    tower = config["vision_cfg"]
    if "timm_model_name" in tower:
        raise ModelNotFoundError(_unsupported(name, "a timm tower"))
    if isinstance(tower.get("layers"), (list, tuple)):
        raise ModelNotFoundError(_unsupported(name, "ModifiedResNet"))
    if pretrained is not None and (Path(pretrained).suffix or "/" in pretrained or Path(pretrained).is_file()):
        from_hub = {"hf_model_name", "hf_tokenizer_name"} & config["text_cfg"].keys()
        with (
            offline_unless_reachable() if from_hub else nullcontext(),
            failures_in_words(f"the text tower of {name!r}"),
        ):
            clip = _create_from_file(name, Path(pretrained))
            return _loaded(name, pretrained, clip, open_clip.get_tokenizer(name))
    pretrained = pretrained or default_tag(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained not in tags:
        raise WeightsUnavailableError(
            f"no weights {pretrained!r} for {name!r}; known tags: {', '.join(tags) or 'none'}; or {WEIGHTS_REMEDY}"
        )
    tag_config = open_clip.get_pretrained_cfg(name, pretrained)
    if not downloads_allowed.get() and not tag_config.get("hf_hub"):
        raise WeightsUnavailableError(f"the weights of {name!r} with tag {pretrained!r} {NEEDS_PERMISSION}")
    quick_gelu = bool(tag_config.get("quick_gelu", False))
    with offline_unless_reachable(), failures_in_words(f"the weights of {name!r} with tag {pretrained!r}"):
        clip = _create(name, pretrained, quick_gelu=quick_gelu)
        return _loaded(name, pretrained, clip, open_clip.get_tokenizer(name))


def default_tag(name: str) -> str:
    """The tag that `pretrained=None` means.

    Raises:
        WeightsUnavailableError: open_clip lists no weights for this name.
    """
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not tags:
        raise WeightsUnavailableError(f"open_clip lists no weights for {name!r}: {WEIGHTS_REMEDY}")
    return DEFAULT_TAGS.get(name, tags[-1])


def _loaded(
    name: str,
    pretrained: str | None,
    clip: Any,
    tokenizer: Callable[[list[str]], torch.Tensor],
    defaults: ModelDefaults | None = None,
) -> LoadedModel:
    visual = clip.visual
    if not isinstance(visual, open_clip.transformer.VisionTransformer):
        raise ModelNotFoundError(_unsupported(name, type(visual).__name__))
    if visual.attn_pool is not None:
        raise ModelNotFoundError(_unsupported(name, "a ViT with attention pooling"))
    for parameter_name, parameter in clip.named_parameters():
        if not parameter.isfinite().all():
            raise WeightsUnavailableError(f"the weights of {name!r} have NaN or infinite values in {parameter_name}")
    preprocess = open_clip.get_model_preprocess_cfg(clip)
    return LoadedModel(
        name,
        pretrained,
        clip.eval().float().requires_grad_(False),
        tokenizer,
        tuple(preprocess.get("mean", open_clip.OPENAI_DATASET_MEAN)),
        tuple(preprocess.get("std", open_clip.OPENAI_DATASET_STD)),
        preprocess.get("interpolation", "bicubic"),
        defaults or ModelDefaults(),
    )


def _create(name: str, pretrained: str | None, *, quick_gelu: bool) -> nn.Module:
    """By open_clip's own download."""
    return open_clip.create_model(
        name, pretrained, force_quick_gelu=quick_gelu, require_pretrained=True, precision="fp32"
    )


def _create_from_file(name: str, path: Path) -> nn.Module:
    if not path.is_file():
        raise WeightsUnavailableError(f'no checkpoint at {path}: check the path, or use Detector("{DEFAULT_MODEL}")')
    clip = open_clip.create_model(name, load_weights=False, pretrained_text=False)
    try:
        state = open_clip.factory.load_state_dict(str(path), device="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and safetensors each raise their own
        raise WeightsUnavailableError(
            f"{path} cannot be read as a checkpoint ({error}): expected a .safetensors, .bin or .pt of open_clip, "
            "fetch it again"
        ) from error
    _load_state(clip, state, name, path)
    return clip


def _load_state(clip: nn.Module, state: dict[str, torch.Tensor], name: str, path: Path) -> None:
    """Strict, in float32 whatever the file holds."""
    expected = clip.state_dict()
    given = {}
    for key, value in state.items():
        if key in expected or key not in _JIT_ENTRIES:
            given[key] = value.float() if value.is_floating_point() else value
    missing = [key for key in sorted(expected.keys() - given.keys()) if not key.endswith(_DERIVED_ENTRIES)]
    unexpected = sorted(given.keys() - expected.keys())
    wrong = sorted(key for key in expected.keys() & given.keys() if expected[key].shape != given[key].shape)
    if missing or unexpected or wrong:
        detail = "; ".join(
            f"{len(keys)} {word}, as {keys[0]!r}"
            for word, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
            if keys
        )
        raise WeightsUnavailableError(
            f"{path} does not fit the model {name!r}: tensors {detail}; name the model that it is of"
        )
    clip.load_state_dict(given, strict=False)


def _load_folder(name: str, folder: Path) -> LoadedModel:
    """open_clip's local-dir layout, with our own section "patchclip" and, it may be, a shortened vocabulary."""
    config_file, weights = folder / "open_clip_config.json", folder / "open_clip_model.safetensors"
    for file in (config_file, weights):
        if not file.is_file():
            raise WeightsUnavailableError(
                f"{name!r}: there is no {file.name} in {folder.resolve()}: check the folder; where it has moved since "
                "a detector was saved, Detector.load(..., pretrained=folder)"
            )
    try:
        config = json.loads(config_file.read_text())
        length = config["model_cfg"]["text_cfg"]["context_length"]
        clip = open_clip.CLIP(**config["model_cfg"])
        open_clip.factory.set_model_preprocess_cfg(clip, config["preprocess_cfg"])
        state = open_clip.factory.load_state_dict(str(weights), device="cpu")
    except Exception as error:  # json, open_clip and safetensors each raise their own
        raise WeightsUnavailableError(
            f"{name!r}: {folder} cannot be read as a model ({error!r}): write it again"
        ) from error
    _load_state(clip, state, name, weights)
    vocabulary = folder / "bpe_simple_vocab.txt.gz"
    vocabulary_option = {"bpe_path": str(vocabulary.resolve())} if vocabulary.is_file() else {}
    tokenizer = open_clip.SimpleTokenizer(context_length=length, **vocabulary_option)
    defaults = ModelDefaults.from_json(config.get("patchclip", {}))
    return _loaded(name, None, clip, tokenizer, defaults)


def _unknown(name: str) -> str:
    known = [*EMBEDDED, *open_clip.list_models()]
    lowered = {model.lower(): model for model in known}
    near = [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=5, cutoff=0.5)]
    hint = f"did you mean {', '.join(near)}?" if near else "open_clip.list_models() lists the names"
    return f"unknown model {name!r}: {hint}"


def _unsupported(name: str, tower: str) -> str:
    return (
        f"{name!r} has {tower}, and patchclip needs open_clip's own ViT image tower with [CLS] or mean pooling: "
        "use for example ViT-B-16, ViT-B-16-plus-240, ViT-L-14 or tiny"
    )
