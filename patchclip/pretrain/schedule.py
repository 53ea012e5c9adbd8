"""What each step of a run is asked for: how many pairs, of which side, at which share of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_WARM_UP_STEPS = 200
_LAST_RATE = 0.02
_FEWEST_PAIRS = 4

#: (side in pixels, share of the run), in order.
Stages = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Plan:
    """One step of one process.

    Attributes:
        step: its index; pairs: of images; side: of the images in pixels.
        rate: share of the learning rate, in (0, 1].
    """

    step: int
    pairs: int
    side: int
    rate: float


def plan_steps(
    progress: Callable[[int], float], stages: Stages, pairs: int, *, step: int, images: int, processes: int
) -> Iterator[Plan]:
    """The steps from `step` on, until the run is over.

    Args:
        progress: images seen -> share of the run that lies behind; the run is over at 1. It may read a clock.
        pairs: of each process at the first stage; later stages take fewer, for equal cost.
        images: seen before `step`, by all processes.
    """
    while (done := progress(images)) < 1:
        side = _side(done, stages)
        fewer = max(_FEWEST_PAIRS, round(pairs * (stages[0][0] / side) ** 2))
        yield Plan(step, fewer, side, _rate(done, step))
        step += 1
        images += 2 * fewer * processes


def _rate(done: float, step: int) -> float:
    """Linear warm-up, then a cosine down to two per cent."""
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return min(1.0, (step + 1) / _WARM_UP_STEPS) * (_LAST_RATE + (1 - _LAST_RATE) * cosine)


def _side(done: float, stages: Stages) -> int:
    passed = 0.0
    for side, share in stages:
        passed += share
        if done < passed:
            return side
    return stages[-1][0]
