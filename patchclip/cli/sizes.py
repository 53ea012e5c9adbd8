"""What models are good for and what they weigh, known without loading any."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class KnownModel:
    """A model by its name.

    Attributes:
        download_mb: of its weights in float32, about; None where it is in the package.
        good_for: in a sentence.
    """

    name: str
    download_mb: int | None
    good_for: str


KNOWN_MODELS = (
    KnownModel("tiny-7", None, "The default: surfaces, parts in a fixed position; few-shot. Fast on any CPU."),
    KnownModel("tiny", None, "The earlier default, for detector files made with it."),
    KnownModel("ViT-B-32", 605, "The quickest CLIP, coarse heatmaps (32 px patches)."),
    KnownModel("ViT-B-16", 598, "Objects, zero-shot and few-shot; finer heatmaps."),
    KnownModel("ViT-B-16-plus-240", 834, "The model of the WinCLIP paper; --recipe winclip as published."),
    KnownModel("ViT-L-14", 1710, "Objects and unusual words, slower; a GPU helps."),
    KnownModel("ViT-L-14-336", 1712, "As ViT-L-14 at 336 px: small defects. A GPU helps."),
    KnownModel("ViT-H-14", 3944, "The best text understanding of these; for a GPU."),
)

#: The model that a detector has by default; `encoders.loading` has it too, and takes a second to import.
DEFAULT_MODEL = KNOWN_MODELS[0].name

_BY_NAME = {model.name: model for model in KNOWN_MODELS}


def describe_download(name: str, pretrained: str | None) -> str | None:
    """What a model's first use downloads, in a sentence; None where it is in the package, on disk or in the cache."""
    if name.startswith("local-dir:") or (pretrained is not None and os.path.exists(pretrained)):
        return None
    known = _BY_NAME.get(name)
    if known is not None and known.download_mb is None:
        return None
    if _is_cached(name, pretrained):
        return None
    size = "of unknown size" if known is None else f"about {known.download_mb} MB"
    return f"the weights of {name} are not on this machine: {size} to download once"


def _is_cached(name: str, pretrained: str | None) -> bool:
    """Whether the hub's cache has a file of weights of the model."""
    import open_clip
    from huggingface_hub import try_to_load_from_cache

    from ..encoders.loading import default_tag

    if name.startswith("hf-hub:"):
        repository = name.removeprefix("hf-hub:")
    elif name not in open_clip.list_models():
        return True  # there is no such model, which is said when it is loaded
    else:
        tag = pretrained or default_tag(name)
        repository = (open_clip.get_pretrained_cfg(name, tag) or {}).get("hf_hub", "").rstrip("/")
    if not repository:
        return False
    names = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors")
    return any(isinstance(try_to_load_from_cache(repository, file), str) for file in names)
