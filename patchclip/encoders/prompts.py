"""Prompts: states x templates for normal and anomalous, and sentences that name a defect.

Compositional prompt ensemble of WinCLIP (arXiv 2303.14814, section 4.1 and appendix A).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ..printable import is_name

NORMAL_STATES = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)

ANOMALOUS_STATES = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")

TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a cropped photo of a {}.",
    "a cropped photo of the {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a bright photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of a {}.",
    "a dark photo of the {}.",
    "a blurry photo of a {}.",
    "a blurry photo of the {}.",
    "a jpeg corrupted photo of a {}.",
    "a jpeg corrupted photo of the {}.",
    "a photo of a small {}.",
    "a photo of the small {}.",
    "a photo of a large {}.",
    "a photo of the large {}.",
    "a photo of a {} for visual inspection.",
    "a photo of the {} for visual inspection.",
    "a photo of a {} for anomaly detection.",
    "a photo of the {} for anomaly detection.",
)

#: Templates for sentences that name a defect: fewer, for one object may have a dozen defect words.
DEFECT_TEMPLATES = ("a photo of a {}.", "a photo of the {}.", "a close-up photo of a {}.", "{}.")

#: Default defect names and the wordings that are averaged for each: the kinds the embedded model was trained on.
DEFAULT_DEFECTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "dot": ("a dot", "a spot", "a speck"),
        "cut": ("a cut", "a slit", "a tear"),
        "scratch": ("a scratch", "a scrape"),
        "crack": ("a crack", "a fracture"),
        "hole": ("a hole", "a pit", "a pore"),
        "stain": ("a stain", "a smudge", "dirt"),
        "dent": ("a dent", "a bump", "a deformation"),
        "broken pattern": ("a broken pattern", "an irregular pattern", "a misplaced element"),
        "missing part": ("a missing part", "a chipped edge", "a break"),
        "contamination": ("contamination", "foreign particles", "foreign material"),
        "colour patch": ("a colour patch", "a discoloration", "a color defect"),
        "fibre": ("a fibre", "a thread", "a hair"),
    }
)


def compose(states: Sequence[str], templates: Sequence[str], object_name: str) -> list[str]:
    """Every state in every template, for one object.

    >>> compose(["damaged {}"], ["a photo of a {}.", "a dark photo of the {}."], "tile")
    ['a photo of a damaged tile.', 'a dark photo of the damaged tile.']
    """
    return [template.format(state.format(object_name)) for state in states for template in templates]


def defect_prompts(wordings: Sequence[str], object_name: str) -> list[str]:
    """Sentences that say that the object has this defect, one for each wording and template."""
    return [template.format(f"{object_name} with {wording}") for wording in wordings for template in DEFECT_TEMPLATES]


def defect_wordings(defects: Sequence[str] | Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Names of defects -> the wordings of each.

    A mapping brings its own wordings. A plain name that `DEFAULT_DEFECTS` knows brings that entry's, any other name
    stands for itself with its article.

    Raises:
        ValueError: a name or a wording that is empty or no string, a name that cannot be printed on one line, or a
            string where a sequence of names belongs.
    """
    if isinstance(defects, str):
        raise ValueError(f"defects must be a sequence of names, got the string {defects!r}: write ({defects!r},)")
    if not all(map(is_name, defects)):
        raise ValueError(f"expected the names of defects to be words on one line, got {list(defects)!r}")
    if not isinstance(defects, Mapping):
        return {name: DEFAULT_DEFECTS.get(name, (_with_article(name),)) for name in defects}
    table = {}
    for name, given in defects.items():
        words = (given,) if isinstance(given, str) else given
        if not isinstance(words, Sequence) or not words or not all(isinstance(w, str) and w.strip() for w in words):
            raise ValueError(f"expected the wordings of defect {name!r} to be words, got {given!r}")
        table[name] = tuple(words)
    return table


def _with_article(name: str) -> str:
    if name.startswith(("a ", "an ", "the ")):
        return name
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"
