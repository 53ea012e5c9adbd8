"""What is measured: every combination of category, method, number of references and seed that makes sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

import internals
from accuracy.methods.base import References
from accuracy.methods.table import METHODS, default_methods
from patchclip import ImageError
from patchclip.datasets import Category

Shots = int | str


@dataclass(frozen=True)
class Task:
    """What to measure: with `--resume`, all of it or nothing.

    Attributes:
        shots: references of each class, 0 for none.
        requested_shots: the values of --shots, "all" perhaps, that come to so many.
    """

    category: Category
    method: str
    shots: int
    seed: int
    requested_shots: tuple[Shots, ...]

    @property
    def title(self) -> str:
        return f"{self.category.dataset}/{self.category.name} {self.method} {self.shots} shots, seed {self.seed}"


def plan(
    categories: Sequence[Category], methods: Sequence[str] | None, shots: Sequence[Shots], seeds: int
) -> tuple[list[Task], list[str]]:
    """Every measurement that was asked for, and what was asked for in vain.

    Args:
        methods: names; None is `default_methods` of each category.
        shots: how many references, or "all"; a course layout takes all it has.
        seeds: how many draws of references.
    """
    tasks: list[Task] = []
    problems: list[str] = []
    for category in categories:
        name = f"{category.dataset}/{category.name}"
        available = max((len(paths) for paths in category.references.values()), default=0)
        requested: Sequence[Shots] = (0, "all") if category.layout == "course" else shots
        counts = {value: available if value == "all" else int(value) for value in requested}
        for method in methods or default_methods(category):
            chosen = _shots_of(method, counts, available)
            if not chosen:
                reason = "there are no normal images to fit on" if available == 0 else "it needs --shots above 0"
                problems.append(f"{name}: {method} left out, {reason}")
            for count, values in sorted(chosen.items()):
                one_draw = count == 0 or (count == available and not METHODS[method].random)
                for seed in range(1 if one_draw else seeds):
                    tasks.append(Task(category, method, count, seed, tuple(values)))
        for count in sorted(set(counts.values())):
            if count > available > 0:
                problems.append(f"{name}: {count} references asked for, {available} there")
    return tasks, problems


def _shots_of(method: str, counts: dict[Shots, int], available: int) -> dict[int, list[Shots]]:
    """References of each class that a method is measured with -> the values of --shots that come to so many."""
    entry = METHODS[method]
    chosen: dict[int, list[Shots]] = {}
    if entry.zero_shot and (0 in counts or not entry.few_shot):
        chosen[0] = [0]
    for value, count in counts.items():
        if entry.few_shot and count > 0 and available > 0:
            chosen.setdefault(min(count, available), []).append(value)
    return chosen


def draw_references(category: Category, shots: int, seed: int) -> tuple[References, list[str]]:
    """`shots` readable images of each class, in an order that only the seed decides: fewer shots are a part of more.

    Raises:
        ImageError: none of the normal images can be read.
    """
    chosen: dict[str | None, list[Path]] = {}
    problems: list[str] = []
    if shots == 0:
        return chosen, problems
    for name, paths in category.references.items():
        drawn: list[Path] = []
        for index in np.random.default_rng(seed).permutation(len(paths)):
            if len(drawn) == shots:
                break
            fault = _fault(paths[index])
            if fault is None:
                drawn.append(paths[index])
            else:
                problems.append(f"reference left out: {fault}")
        if drawn:
            chosen[name] = drawn
    if not chosen:
        raise ImageError(f"{category.dataset}/{category.name}: none of the normal images can be read")
    return chosen, problems


def is_readable(path: Path) -> bool:
    """Whether an image can be decoded."""
    return _fault(path) is None


@cache
def _fault(path: Path) -> str | None:
    """Why an image cannot be read; each is tried once."""
    try:
        internals.load_image(path)
    except ImageError as error:
        return str(error)
    return None
