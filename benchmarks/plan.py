"""What is measured: every combination of category, method, number of references and seed that makes sense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from patchclip import ImageError
from patchclip.datasets import Category
from patchclip.image import load_image

from .methods import METHODS, References


@dataclass(frozen=True)
class Task:
    """What to measure.

    Attributes:
        shots: references of each class, 0 for none.
        asked: the numbers, or "all", that came to it.
    """

    category: Category
    method: str
    shots: int
    seed: int
    asked: tuple[int | str, ...]

    @property
    def title(self) -> str:
        return f"{self.category.dataset}/{self.category.name} {self.method} {self.shots} shots, seed {self.seed}"


def plan(
    categories: Sequence[Category],
    methods: Sequence[str] | None,
    shots: Sequence[int | str],
    seeds: int,
    defaults: Callable[[Category], Sequence[str]],
) -> tuple[list[Task], list[str]]:
    """Every measurement that was asked for, and what was asked for in vain.

    Args:
        methods: names; None is `defaults` of each category.
        shots: numbers of references, or "all"; a course layout takes all it has.
        seeds: how many draws of references.
    """
    tasks, problems = [], []
    for category in categories:
        most = max((len(paths) for paths in category.references.values()), default=0)
        asked = {count: most if count == "all" else int(count) for count in shots}
        if category.layout == "course":
            asked = {0: 0, "all": most}
        for name in methods or defaults(category):
            entry = METHODS[name]
            counts: dict[int, list[int | str]] = {}
            if entry.zero_shot and (0 in asked or not entry.few_shot):
                counts[0] = [0]
            for what, count in asked.items():
                if entry.few_shot and count > 0 and most > 0:
                    counts.setdefault(min(count, most), []).append(what)
            if not counts:
                reason = "there are no normal images to fit on" if most == 0 else "it needs --shots above 0"
                problems.append(f"{category.dataset}/{category.name}: {name} left out, {reason}")
            for count in sorted(counts):
                same = count == 0 or (count == most and not entry.random)
                for seed in range(1 if same else seeds):
                    tasks.append(Task(category, name, count, seed, tuple(counts[count])))
        for count in sorted(set(asked.values())):
            if count > most > 0:
                problems.append(f"{category.dataset}/{category.name}: {count} references asked for, {most} there")
    return tasks, problems


def told_path(category: Category, path: Path) -> str:
    """A path as the outputs tell it: from the data set's folder on."""
    return (path.relative_to(category.root) if path.is_relative_to(category.root) else path).as_posix()


def draw_references(category: Category, shots: int, seed: int) -> tuple[References, list[str]]:
    """`shots` readable images of each class, in an order that only the seed decides: fewer shots are a part of more."""
    chosen: dict[str | None, list[Path]] = {}
    problems: list[str] = []
    for name, paths in category.references.items() if shots else ():
        chosen[name] = []
        for place in np.random.default_rng(seed).permutation(len(paths)):
            if len(chosen[name]) == shots:
                break
            fault = _fault(paths[place])
            if fault is None:
                chosen[name].append(paths[place])
            else:
                problems.append(f"reference left out: {fault}")
    if shots and not any(chosen.values()):
        raise ImageError(f"{category.dataset}/{category.name}: none of the normal images can be read")
    return {name: paths for name, paths in chosen.items() if paths}, problems


def readable(path: Path) -> bool:
    """Whether an image can be decoded."""
    return _fault(path) is None


@cache
def _fault(path: Path) -> str | None:
    """Why an image cannot be read; looked at once."""
    try:
        load_image(path)
    except ImageError as error:
        return str(error)
    return None
