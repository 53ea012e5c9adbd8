"""Every option of a detector: its range, what it is where the model decides, and its form in a file."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from string import Formatter
from typing import Any

from .encoders.clip import DENSE_ATTENTIONS, Backbone
from .encoders.loading import DEFAULT_MODEL
from .encoders.prompts import (
    ANOMALOUS_STATES,
    DEFAULT_DEFECTS,
    NORMAL_STATES,
    TEMPLATES,
    compose,
    defect_wordings,
)
from .errors import ModelNotFoundError
from .images.load import MAX_PIXELS
from .scoring.bank import import_faiss
from .scoring.cues import TEXT, TOKENS, cue_names

DENSE = "dense"
WINCLIP = "winclip"

#: The cues of recipe "winclip"; it has no others.
WINCLIP_CUES = (TEXT, TOKENS)

#: Of the text probabilities, for models that bring none of their own.
DEFAULT_TEMPERATURE = 0.07


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `Detector` as they were given; it documents them. Lists become tuples.

    None stands for what the model decides: `Config.resolve` fills it in.

    Raises:
        ValueError: an option of another kind, or outside its range.
        MissingDependencyError: neighbours="faiss" without faiss.
    """

    model: str = DEFAULT_MODEL
    pretrained: str | os.PathLike[str] | None = None
    object_name: str = "surface"
    defects: Mapping[str, Sequence[str]] | Sequence[str] = tuple(DEFAULT_DEFECTS)
    prompts: tuple[Sequence[str], Sequence[str]] | None = None
    states: tuple[Sequence[str], Sequence[str]] | None = None
    templates: Sequence[str] | None = None
    recipe: str = DENSE
    cues: Sequence[str] | None = None
    scales: Sequence[int] | None = None
    temperature: float | None = None
    layers: Sequence[int] | None = None
    dense_attention: str | None = None
    image_size: int | None = None
    tile: int | None = None
    coreset: float = 1.0
    neighbours: str = "exact"
    rotations: int = 1
    flips: bool = False
    smoothing: float = 0.25
    max_false_positive_rate: float = 0.05
    precision: str = "auto"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        _check_kinds(self)
        _check_choices(self)
        _check_ranges(self)
        _check_sentences(self)
        _check_recipe(self)
        if self.neighbours == "faiss":
            import_faiss()
        plain: dict[str, Any] = {
            "pretrained": None if self.pretrained is None else os.fspath(self.pretrained),
            "defects": {name: list(wordings) for name, wordings in defect_wordings(self.defects).items()},
        }
        for name in ("templates", "cues", "scales", "layers"):
            value = getattr(self, name)
            plain[name] = None if value is None else tuple(value)
        for name in ("prompts", "states"):
            pair = getattr(self, name)
            plain[name] = None if pair is None else tuple(tuple(sentences) for sentences in pair)
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @property
    def wordings(self) -> dict[str, list[str]]:
        """Name of each defect -> its wordings; the caller's own copy."""
        return {name: list(words) for name, words in defect_wordings(self.defects).items()}

    @property
    def state_sentences(self) -> tuple[list[str], list[str]]:
        """The sentences for normal and for anomalous images."""
        if self.prompts is not None:
            return list(self.prompts[0]), list(self.prompts[1])
        normal, anomalous = self.states or (NORMAL_STATES, ANOMALOUS_STATES)
        templates = self.templates or TEMPLATES
        return compose(normal, templates, self.object_name), compose(anomalous, templates, self.object_name)

    def to_dict(self) -> dict[str, Any]:
        """Name -> value, ready for JSON; the caller's own copy."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return values | {"defects": self.wordings}


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """The options in force: what the model decides is filled in. Recipe "winclip" has no scales, layers and tiles."""

    pretrained: str | None = None
    cues: tuple[str, ...]
    temperature: float
    dense_attention: str
    image_size: int

    @classmethod
    def resolve(cls, options: Options, backbone: Backbone) -> Config:
        """Fill in what the model decides.

        Raises:
            ModelNotFoundError: recipe "winclip" with a model that has no [CLS].
            ValueError: a layer that the model does not have.
        """
        defaults = backbone.model.defaults
        values = options.to_dict() | {
            "pretrained": backbone.model.pretrained,
            "temperature": options.temperature or defaults.temperature or DEFAULT_TEMPERATURE,
            "dense_attention": backbone.dense_attention,
            "image_size": options.image_size or backbone.image_size,
            "precision": backbone.precision,
        }
        if options.recipe == WINCLIP:
            if not backbone.has_cls:
                raise ModelNotFoundError(
                    f'recipe "winclip" needs a model with [CLS], not {options.model!r}: use "dense"'
                )
            return cls(**values | {"cues": options.cues or WINCLIP_CUES})
        values["cues"] = options.cues or defaults.cues
        values["scales"] = options.scales or defaults.scales
        values["layers"] = options.layers or defaults.bank_layers or _middle_layers(backbone.depth)
        config = cls(**values)
        if not all(1 <= layer <= backbone.depth for layer in config.layers or ()):
            raise ValueError(
                f"expected layers between 1 and {backbone.depth} for {options.model!r}, got {config.layers}"
            )
        return config


def _middle_layers(depth: int) -> tuple[int, ...]:
    """Half and three quarters of the depth."""
    return tuple(sorted({max(1, depth // 2), max(1, 3 * depth // 4)}))


def keeps_model_threshold(config: Config, backbone: Backbone) -> bool:
    """Whether zero-shot heatmaps are made as they were when the model's threshold was measured.

    Args:
        config: with the options in force.
    """
    defaults = backbone.model.defaults
    in_force = (config.scales, config.temperature, config.dense_attention, config.image_size)
    as_measured = (defaults.scales, defaults.temperature, defaults.dense_attention, backbone.image_size)
    usual = Options(object_name=config.object_name)
    same_way = (config.recipe, config.tile, config.smoothing) == (usual.recipe, usual.tile, usual.smoothing)
    return same_way and in_force == as_measured and config.state_sentences == usual.state_sentences


# --- checks -----------------------------------------------------------------------------------------------------------

#: Options that may be None: the model decides; tile=None has no tiles.
_OPTIONAL = ("pretrained", "temperature", "image_size", "tile", "cues", "scales", "layers")

#: What an option may be, in words and as types; the other ones are sentences, or a choice of a few values.
_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    **dict.fromkeys(("model", "object_name"), ("a string", (str,))),
    "pretrained": ("a tag or a path", (str, os.PathLike)),
    "defects": ("a list of names or a mapping", (Sequence, Mapping)),
    **dict.fromkeys(("cues", "scales", "layers"), ("a list", (Sequence,))),
    **dict.fromkeys(("image_size", "tile", "rotations", "max_pixels"), ("a whole number", (Integral,))),
    **dict.fromkeys(("temperature", "coreset", "smoothing", "max_false_positive_rate"), ("a number", (Real,))),
    "flips": ("True or False", (bool,)),
}

_CHOICES: dict[str, tuple[Any, ...]] = {
    "recipe": (DENSE, WINCLIP),
    "neighbours": ("exact", "faiss"),
    "precision": ("auto", "fp32", "bf16"),
    "rotations": (1, 2, 4, 8),
    "dense_attention": (None, *DENSE_ATTENTIONS),
}

_RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "temperature": ("above 0", lambda value: value > 0),
    "image_size": ("from 32 to 4096 pixels", lambda value: 32 <= value <= 4096),
    "tile": ("at least 32 pixels", lambda value: value >= 32),
    "max_pixels": ("at least 1 pixel", lambda value: value >= 1),
    "coreset": ("above 0 and at most 1", lambda value: 0 < value <= 1),
    "smoothing": ("from 0 to 16 tokens", lambda value: 0 <= value <= 16),
    "object_name": ("a word", lambda value: bool(value.strip())),
    "pretrained": ("a tag or a path, not empty", lambda value: bool(os.fspath(value))),
    "max_false_positive_rate": ("between 0 and 1", lambda value: 0 < value < 1),
    "scales": ("one or more whole numbers of 0 or more", lambda value: _are_whole(value) and min(value) >= 0),
    "layers": ("one or more whole numbers", lambda value: _are_whole(value)),
}


def _check_kinds(options: Options) -> None:
    for name, (words, kinds) in _KINDS.items():
        value = getattr(options, name)
        allowed_none = value is None and name in _OPTIONAL
        if not isinstance(value, kinds) and not allowed_none:
            raise ValueError(f"expected {name} to be {words}, got {value!r}")
        if isinstance(value, Real) and not _is_finite(value):
            raise ValueError(f"expected {name} to be {words} that is finite, got {value!r}")


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _check_choices(options: Options) -> None:
    for name, allowed in _CHOICES.items():
        value = getattr(options, name)
        # an array would be compared value by value
        if not isinstance(value, Hashable) or value not in allowed:
            raise ValueError(f"expected {name} to be one of {', '.join(map(repr, allowed))}; got {value!r}")
    cues, known = options.cues, cue_names()
    if cues is not None and (isinstance(cues, str) or not cues or not all(cue in known for cue in cues)):
        raise ValueError(f"expected cues to be some of {', '.join(map(repr, known))}; got {cues!r}")


def _check_ranges(options: Options) -> None:
    for name, (words, is_valid) in _RANGES.items():
        value = getattr(options, name)
        if value is not None and not is_valid(value):
            raise ValueError(f"expected {name} to be {words}, got {value!r}")


def _check_sentences(options: Options) -> None:
    for name in ("prompts", "states"):
        pair = getattr(options, name)
        if pair is None:
            continue
        if not (_is_list(pair) and len(pair) == 2 and all(_are_sentences(part) for part in pair)):
            raise ValueError(f"expected {name} to be two lists of sentences, normal and anomalous; got {pair!r}")
    if options.prompts is not None and (options.states is not None or options.templates is not None):
        raise ValueError("prompts are complete sentences already: leave out states and templates")
    if options.templates is not None and not _are_sentences(options.templates):
        raise ValueError(f"expected templates to be a list of sentences, got {options.templates!r}")
    sentences = list(options.templates or ())
    for states in options.states or ():
        sentences += states
    for sentence in sentences:
        if not _has_one_slot(sentence):
            raise ValueError(f"expected one {{}} for the object in {sentence!r}, and no other braces")


def _check_recipe(options: Options) -> None:
    if options.recipe != WINCLIP:
        return
    for name in ("tile", "scales", "layers"):
        if getattr(options, name) is not None:
            raise ValueError(f'recipe "winclip" has no {name.rstrip("s")}s: leave out {name}, or use recipe "dense"')
    if options.cues is not None and not set(options.cues) <= set(WINCLIP_CUES):
        raise ValueError(f'recipe "winclip" has cues {WINCLIP_CUES} alone, got {options.cues!r}: use recipe "dense"')


def _has_one_slot(sentence: str) -> bool:
    try:
        pieces = list(Formatter().parse(sentence))
    except (TypeError, ValueError):
        return False
    slots = [(field, spec, conversion) for _, field, spec, conversion in pieces if field is not None]
    return slots == [("", "", None)]


def _are_sentences(value: Any) -> bool:
    return _is_list(value) and bool(value) and all(isinstance(sentence, str) for sentence in value)


def _are_whole(value: Any) -> bool:
    return len(value) > 0 and all(isinstance(entry, Integral) for entry in value)


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))
