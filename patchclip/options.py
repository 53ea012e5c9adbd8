"""The detector's options: their ranges, and what those are that the model decides."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from .backbone import DENSE_ATTENTIONS, Backbone
from .bank import import_faiss
from .errors import ModelNotFoundError
from .prompts import defect_wordings

CUES = ("text", "tokens", "texture", "imagenet")
#: The default of every model but the embedded one; recipe "winclip" has no others.
CLIP_CUES = CUES[:2]

#: None leaves these to the model; tile=None has no tiles.
_MODELS_OWN = ("temperature", "image_size", "tile", "scales", "layers")

#: What an option may be, in words and as types; the other ones are sentences, or a choice of a few values.
_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    **dict.fromkeys(("model", "object_name"), ("a string", (str,))),
    "pretrained": ("a tag or a path", (str, os.PathLike)),
    "defects": ("a list of names or a mapping", (Sequence, Mapping)),
    **dict.fromkeys(("cues", "scales", "layers"), ("a list", (Sequence,))),
    **dict.fromkeys(("image_size", "tile", "rotations"), ("a whole number", (Integral,))),
    **dict.fromkeys(("temperature", "coreset", "smoothing", "max_false_positive_rate"), ("a number", (Real,))),
    "flips": ("True or False", (bool,)),
}
_MAY_BE_NONE = (*_MODELS_OWN, "pretrained", "cues")


def check_options(options: Mapping[str, Any]) -> None:
    """Kinds and ranges of the constructor's options."""
    for name, (words, kinds) in _KINDS.items():
        if not isinstance(options[name], kinds) and not (options[name] is None and name in _MAY_BE_NONE):
            raise ValueError(f"expected {name} to be {words}, got {options[name]!r}")
    choices = {
        "recipe": ("dense", "winclip"),
        "neighbours": ("exact", "faiss"),
        "precision": ("auto", "fp32", "bf16"),
        "rotations": (1, 2, 4, 8),
        "dense_attention": (None, *DENSE_ATTENTIONS),
    }
    for name, allowed in choices.items():
        # an array would be compared value by value
        if not isinstance(options[name], Hashable) or options[name] not in allowed:
            raise ValueError(f"expected {name} to be one of {', '.join(map(repr, allowed))}; got {options[name]!r}")
    cues = options["cues"]
    if cues is not None and (isinstance(cues, str) or not cues or not all(cue in CUES for cue in cues)):
        raise ValueError(f"expected cues to be some of {', '.join(map(repr, CUES))}; got {cues!r}")
    if options["recipe"] == "winclip":
        for name in ("tile", "scales", "layers"):
            if options[name] is not None:
                raise ValueError(
                    f'recipe "winclip" has no {name.rstrip("s")}s: leave out {name}, or use recipe "dense"'
                )
        if cues is not None and not set(cues) <= set(CLIP_CUES):
            raise ValueError(f'recipe "winclip" has cues {CLIP_CUES} alone, got {cues!r}: use recipe "dense"')
    ranges: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "temperature": ("above 0", lambda v: v > 0),
        "image_size": ("from 32 to 4096 pixels", lambda v: 32 <= v <= 4096),
        "tile": ("at least 32 pixels", lambda v: v >= 32),
        "coreset": ("above 0 and at most 1", lambda v: 0 < v <= 1),
        "smoothing": ("from 0 to 16 tokens", lambda v: 0 <= v <= 16),
        "object_name": ("a word", lambda v: bool(v.strip())),
        "pretrained": ("a tag or a path, not empty", lambda v: bool(os.fspath(v))),
        "max_false_positive_rate": ("between 0 and 1", lambda v: 0 < v < 1),
        "scales": ("one or more whole numbers of 0 or more", lambda v: _are_whole(v) and min(v) >= 0),
        "layers": ("one or more whole numbers", _are_whole),
    }
    for name, (words, valid) in ranges.items():
        if options[name] is None and name in _MAY_BE_NONE:
            continue
        if not valid(options[name]):
            raise ValueError(f"expected {name} to be {words}, got {options[name]!r}")
    for name in ("prompts", "states"):
        pair = options[name]
        if pair is not None and not (_is_list(pair) and len(pair) == 2 and all(_are_sentences(part) for part in pair)):
            raise ValueError(f"expected {name} to be two lists of sentences, normal and anomalous; got {pair!r}")
    composed = options["states"] is not None or options["templates"] is not None
    if options["prompts"] is not None and composed:
        raise ValueError("prompts are complete sentences already: leave out states and templates")
    templates = options["templates"]
    if templates is not None and not _are_sentences(templates):
        raise ValueError(f"expected templates to be a list of sentences, got {templates!r}")
    for sentence in (*(templates or ()), *(state for part in options["states"] or () for state in part)):
        try:
            places = sentence.format("\0").count("\0")
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            places = 0
        if places != 1:
            raise ValueError(f"expected one {{}} for the object in {sentence!r}, and no other braces")
    if options["neighbours"] == "faiss":
        import_faiss()


def _are_sentences(given: Any) -> bool:
    return _is_list(given) and bool(given) and all(isinstance(sentence, str) for sentence in given)


def _are_whole(given: Any) -> bool:
    return len(given) > 0 and all(isinstance(value, Integral) for value in given)


def _is_list(given: object) -> bool:
    return isinstance(given, (list, tuple))


def options_in_force(options: Mapping[str, Any], backbone: Backbone) -> dict[str, Any]:
    """What the model decides where the constructor was given None, and the rest of what it was given in one form.

    Raises:
        ModelNotFoundError: recipe "winclip" with a model that has no [CLS].
        ValueError: a layer that the model does not have, or names of defects that are none.
    """
    about, depth = backbone.model.about, backbone.depth
    dense = options["recipe"] == "dense"
    cues = about.get("cues", CLIP_CUES) if dense else CLIP_CUES
    if not dense and backbone.model.clip.visual.pool_type != "tok":
        raise ModelNotFoundError(f'recipe "winclip" needs a model with [CLS], not {options["model"]!r}: use "dense"')
    layers = options["layers"] or about.get("bank_layers", sorted({max(1, depth // 2), max(1, 3 * depth // 4)}))
    if not all(1 <= layer <= depth for layer in layers):
        raise ValueError(f"expected layers between 1 and {depth} for {options['model']!r}, got {tuple(layers)}")
    return {
        "pretrained": backbone.model.pretrained,
        "defects": {name: list(words) for name, words in defect_wordings(options["defects"]).items()},
        "cues": tuple(options["cues"] or cues),
        "scales": tuple(options["scales"] or about.get("scales", (0, 2, 3))) if dense else None,
        "temperature": options["temperature"] or about.get("temperature", 0.07),
        "layers": tuple(layers) if dense else None,
        "dense_attention": backbone.dense_attention,
        "image_size": options["image_size"] or backbone.image_size,
        "precision": backbone.precision,
    }
