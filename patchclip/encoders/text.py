"""The text tower of a CLIP: sentences -> embeddings; the embeddings that a detector compares images with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import open_clip
import torch
from torch import nn

from .model import LoadedModel
from .prompts import defect_prompts

#: Sentences that go through the text tower at once.
_CHUNK = 256


class TextTower:
    """A text tower on a device, in float32.

    Args:
        model: from `loading.load_model`; its text tower is moved in place.
    """

    def __init__(self, model: LoadedModel, device: torch.device):
        self._model = model
        self._device = device
        model.clip.to(device)  # the image tower is there already

    @torch.inference_mode()
    def encode(self, sentences: Sequence[str]) -> torch.Tensor:
        """(P, E) float32, not normalised. Warns of sentences that are longer than the model reads."""
        token_ids = self._model.tokenizer(list(sentences))
        self._warn_of_truncation(sentences, token_ids)
        chunks = token_ids.split(_CHUNK)
        return torch.cat([run_text(self._model.clip, chunk.to(self._device)).float() for chunk in chunks])

    def _warn_of_truncation(self, sentences: Sequence[str], token_ids: torch.Tensor) -> None:
        tokenizer = self._model.tokenizer
        if not isinstance(tokenizer, open_clip.SimpleTokenizer):  # the others belong to models that read more
            return
        length = tokenizer.context_length
        truncated = []
        for sentence, last_id in zip(sentences, token_ids[:, -1].tolist(), strict=True):
            if last_id and len(tokenizer.encode(sentence)) + 2 > length:  # 2: start and end
                truncated.append(sentence)
        if truncated:
            warnings.warn(
                f"{len(truncated)} of {len(sentences)} prompts are truncated, since {self._model.name!r} reads no more "
                f"than {length} tokens: choose shorter or commoner words; the first is {truncated[0]!r}",
                stacklevel=3,
            )


def encode_states(tower: TextTower, sentences: tuple[Sequence[str], Sequence[str]]) -> torch.Tensor:
    """(2, E), normal and anomalous: the mean embedding of the sentences of each."""
    return torch.stack([tower.encode(list(group)).mean(0) for group in sentences])


def encode_defects(tower: TextTower, defects: Mapping[str, Sequence[str]], object_name: str) -> torch.Tensor:
    """(K, E): for each defect the mean embedding of its sentences.

    Args:
        defects: name -> wordings.
    """
    groups = [defect_prompts(wordings, object_name) for wordings in defects.values()]
    embedded = tower.encode([sentence for group in groups for sentence in group])
    parts = embedded.split([len(group) for group in groups])
    return torch.stack([part.mean(0) for part in parts])


def run_text(clip: Any, token_ids: torch.Tensor) -> torch.Tensor:
    """`encode_text` on the columns in use only, where the text tower is causal: (P, context) -> (P, E)."""
    if not isinstance(clip, open_clip.CLIP) or clip.text_pool_type != "argmax":
        return clip.encode_text(token_ids)
    ends = token_ids.argmax(-1)  # (P,): the end of the text has the highest id
    length = int(ends.max()) + 1
    x = clip.token_embedding(token_ids[:, :length]) + clip.positional_embedding[:length]
    x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
    x = clip.ln_final(x)[torch.arange(len(x), device=x.device), ends]
    projection = clip.text_projection
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection
