"""Sentences about synthetic images, as the embedded model is trained to read them."""

from __future__ import annotations

from ..encoders.prompts import ANOMALOUS_STATES, DEFAULT_DEFECTS, NORMAL_STATES, TEMPLATES
from .surfaces import FAMILIES, HELD_OUT, Rng

#: Words for a thing of no particular kind; `Detector`'s default object_name is the first.
GENERIC_NAMES = ("surface", "object", "texture", "product", "part", "item", "material", "sample", "tile")

#: More ways to say it than the prompts of inference have, so that wording matters less.
_MORE_NORMAL = ("clean {}", "good {}", "intact {}", "undamaged {}", "normal {}")
_MORE_ANOMALOUS = ("broken {}", "defective {}", "imperfect {}", "faulty {}", "{} with a defect", "{} with an anomaly")
_MORE_TEMPLATES = (
    "{}",
    "there is a {} in the scene.",
    "a low resolution photo of a {}.",
    "a black and white photo of a {}.",
)

_NORMAL = NORMAL_STATES + _MORE_NORMAL
_ANOMALOUS = ANOMALOUS_STATES + _MORE_ANOMALOUS
_TEMPLATES = TEMPLATES + _MORE_TEMPLATES

SURFACE_NAMES = tuple(
    sorted({word for family, (_, words, _) in FAMILIES.items() if family not in HELD_OUT for word in words})
)


def _pick(rng: Rng, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]


def random_name(rng: Rng) -> str:
    """An object name: generic half of the time."""
    return _pick(rng, GENERIC_NAMES) if rng.random() < 0.5 else _pick(rng, SURFACE_NAMES)


def caption(rng: Rng, name: str, kind: str | None) -> str:
    """One sentence about an image of `name` with a defect of that kind, or with none."""
    name = _pick(rng, GENERIC_NAMES) if rng.random() < 0.35 else name
    if kind is None:
        state = _pick(rng, _NORMAL)
    elif rng.random() < 0.25:
        state = _pick(rng, _ANOMALOUS)
    else:
        state = f"{{}} with {_pick(rng, DEFAULT_DEFECTS[kind])}"
    return _pick(rng, _TEMPLATES).format(state.format(name))


def state_prompts(rng: Rng, name: str, count: int) -> tuple[list[str], list[str]]:
    """`count` normal and `count` anomalous sentences about one name."""

    def some(states: tuple[str, ...]) -> list[str]:
        return [_pick(rng, _TEMPLATES).format(_pick(rng, states).format(name)) for _ in range(count)]

    return some(_NORMAL), some(_ANOMALOUS)


def kind_prompt(rng: Rng, name: str, kind: str) -> str:
    """One sentence that names the defect."""
    return _pick(rng, _TEMPLATES).format(f"{name} with {_pick(rng, DEFAULT_DEFECTS[kind])}")
