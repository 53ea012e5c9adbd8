"""Batches made ahead of the training step, in worker processes where there are any."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import open_clip
from torch.utils.data import DataLoader, Dataset

from .data import Batch, PairSampler
from .schedule import Plan
from .sentences import Sentences, draw_sentences

_BATCHES_AHEAD = 3  # of each worker


class _Steps(Dataset):
    """Plans -> what the step is trained on. Everything is drawn anew from (seed, step, rank)."""

    def __init__(self, sampler: PairSampler, tokenizer: open_clip.SimpleTokenizer, seed: int, rank: int):
        self._sampler = sampler
        self._tokenizer = tokenizer
        self._seed = seed
        self._rank = rank

    def __getitem__(self, plan: Plan) -> tuple[Plan, Batch, Sentences]:
        batch = self._sampler.batch(plan.step, self._rank, plan.pairs, plan.side)
        rng = np.random.default_rng([self._seed, 3, plan.step, self._rank])
        return plan, batch, draw_sentences(rng, batch.names, batch.kinds.tolist(), self._tokenizer)


def planned_batches(
    plans: Iterable[Plan],
    sampler: PairSampler,
    tokenizer: open_clip.SimpleTokenizer,
    *,
    seed: int,
    rank: int,
    workers: int,
) -> Iterator[tuple[Plan, Batch, Sentences]]:
    """The batches of `plans`, in their order.

    Args:
        plans: read as workers become free, so a few steps ahead of training.
        workers: processes; 0 makes each batch when it is needed.
    """
    return iter(
        DataLoader(
            _Steps(sampler, tokenizer, seed, rank),
            batch_size=None,
            sampler=plans,
            num_workers=workers,
            prefetch_factor=_BATCHES_AHEAD if workers else None,
            worker_init_fn=_start_worker,
            # forked after OpenCV has used its threads, a worker waits for them for ever
            multiprocessing_context="spawn" if workers else None,
        )
    )


def _start_worker(_: int) -> None:
    cv2.setNumThreads(1)
