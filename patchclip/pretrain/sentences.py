"""The sentences of one training step, drawn and tokenised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import open_clip
import torch

from ..synthetic import KINDS
from ..synthetic.captions import caption, kind_prompt, random_name, state_prompts
from ..synthetic.surfaces import Rng

NAMES_PER_STEP = 4
PROMPTS_PER_STATE = 3

#: Sentences about the states of the drawn names: normal ones, then anomalous ones, name by name.
STATE_COUNT = NAMES_PER_STEP * 2 * PROMPTS_PER_STATE


@dataclass(frozen=True)
class Sentences:
    """What a step of B pairs reads.

    Attributes:
        ids: (STATE_COUNT + len(KINDS) + 2B, context) int64. Captions come last; equal ones are listed once, and empty
            sentences fill up the rest, so that the shape depends on B alone.
        captions: how many different captions there are.
        matches: (2B,) int64 index of each image's caption, queries before supports.
        names: (2B,) int64 index of the drawn name that each image is judged with.
    """

    ids: torch.Tensor
    captions: int
    matches: torch.Tensor
    names: torch.Tensor


def draw_sentences(
    rng: Rng, names: Sequence[str], kinds: Sequence[int], tokenizer: open_clip.SimpleTokenizer
) -> Sentences:
    """Draw the sentences of one step.

    Args:
        names: a word for the product of each pair; kinds: index into KINDS of each query, -1 for a flawless one.
    """
    captions = []
    for name, kind in zip(names, kinds, strict=True):
        captions.append(caption(rng, name, KINDS[kind] if kind >= 0 else None))
    for name in names:
        captions.append(caption(rng, name, None))
    unique = sorted(set(captions))
    index = {sentence: position for position, sentence in enumerate(unique)}

    sentences = []
    for _ in range(NAMES_PER_STEP):
        normal, anomalous = state_prompts(rng, random_name(rng), PROMPTS_PER_STATE)
        sentences += normal + anomalous
    name = random_name(rng)
    sentences += [kind_prompt(rng, name, kind) for kind in KINDS]
    sentences += unique
    sentences += [""] * (len(captions) - len(unique))  # new shapes are slow on a CPU
    return Sentences(
        tokenizer(sentences),
        len(unique),
        torch.tensor([index[sentence] for sentence in captions]),
        torch.from_numpy(rng.integers(NAMES_PER_STEP, size=len(captions))),
    )
