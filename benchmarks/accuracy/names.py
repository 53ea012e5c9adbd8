"""Are defects named rightly? By the text, and after a few examples of each kind.

Naming is measured apart from finding: every defective image counts, by its strongest region, as if the threshold were
0. Examples are drawn among the same images, without their masks, and the rest are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import internals
from patchclip import Detector, ImageError
from patchclip.datasets import Sample

#: Of a region without a name, in a confusion table.
NO_NAME = ""

#: Entry for the names by the text.
_NO_EXAMPLES = 0


@dataclass(frozen=True, eq=False)
class _Defects:
    """Regions of N images: kinds (N,) as the data set names them; views (N, V, D), the first of which is the image as
    it is; by_text: names, "" for none."""

    kinds: np.ndarray
    views: np.ndarray
    by_text: np.ndarray


def measure_names(
    detector: Detector, samples: Iterable[Sample], counts: Sequence[int], *, seed: int
) -> list[dict[str, Any]]:
    """One entry for the text and one for each number of examples that leaves an image of every kind to name; none where
    there are fewer than two kinds.

    Args:
        detector: fitted, with the data set's kinds as its names of defects.
        counts: of examples of each kind.
        seed: draws the examples.

    Returns:
        JSON-ready: examples (0 for the text), images that were named, right, likeliest (right where the likeliest kind
        counts even if it is not shown; None for the text), none (share without a name), right_of_shown, confusion (kind
        -> name -> images), and with each kind left out in turn untaught_none (share of its images without a name) and
        taught_none.
    """
    defects = _describe(detector, samples)
    kinds = sorted(set(defects.kinds))
    if len(kinds) < 2:
        return []
    everything = np.arange(len(defects.kinds))
    measured = [_entry(_NO_EXAMPLES, defects.kinds, defects.by_text, None)]
    fewest = min(Counter(defects.kinds).values())
    for count in sorted(set(counts)):
        if count >= fewest:
            continue
        rng = np.random.default_rng([seed, count])
        drawn = [rng.permutation(np.flatnonzero(defects.kinds == kind))[:count] for kind in kinds]
        examples = np.concatenate(drawn)
        rest = np.setdiff1d(everything, examples)
        shown, _, likeliest = name_rest(defects.kinds, defects.views, examples, rest)
        entry = _entry(count, defects.kinds[rest], shown, likeliest)
        if len(kinds) > 2:
            entry |= _leave_kinds_out(defects, kinds, drawn, rest)
        measured.append(entry)
    return measured


def _describe(detector: Detector, samples: Iterable[Sample]) -> _Defects:
    """Of the images with a kind that can be read and have a region."""
    kinds, views, by_text = [], [], []
    for sample in samples:
        if not sample.label or sample.defect is None:
            continue
        try:
            found = internals.describe_defect(detector, sample.path)
        except ImageError:
            continue
        if found is not None:
            vectors, name = found
            kinds.append(sample.defect)
            views.append(vectors)
            by_text.append(name or NO_NAME)
    return _Defects(np.array(kinds), np.array(views), np.array(by_text))


def name_rest(
    kinds: np.ndarray, views: np.ndarray, examples: np.ndarray, rest: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Name the images `rest` after these examples.

    Args:
        kinds: (N,); views: (N, V, D); examples, rest: indices of them.

    Returns:
        Names that are shown, `NO_NAME` for none; their confidence, 0 for none; and the likeliest kinds.
    """
    learnt = internals.learn_kinds(list(kinds[examples]), views[examples])
    vectors = views[rest, 0]
    chosen = [internals.choose_kind(vector, learnt) for vector in vectors]
    shown = np.array([name or NO_NAME for name, _ in chosen])
    confidence = np.array([confidence or 0.0 for _, confidence in chosen])
    scores = learnt.scores(vectors)  # (rest, K)
    return shown, confidence, np.array(learnt.names)[scores.argmax(1)]


def _leave_kinds_out(
    defects: _Defects, kinds: Sequence[str], drawn: Sequence[np.ndarray], rest: np.ndarray
) -> dict[str, float]:
    """Shares without a name: of the images of a kind that was not taught, and of the others; mean over the kinds."""
    untaught, taught = [], []
    for left_out, kind in enumerate(kinds):
        others = [examples for index, examples in enumerate(drawn) if index != left_out]
        shown, _, _ = name_rest(defects.kinds, defects.views, np.concatenate(others), rest)
        is_untaught = defects.kinds[rest] == kind
        untaught.append(np.mean(shown[is_untaught] == NO_NAME))
        taught.append(np.mean(shown[~is_untaught] == NO_NAME))
    return {"untaught_none": float(np.mean(untaught)), "taught_none": float(np.mean(taught))}


def _entry(count: int, kinds: np.ndarray, shown: np.ndarray, likeliest: np.ndarray | None) -> dict[str, Any]:
    """See `measure_names`; kinds, shown, likeliest: (N,) of the images that were named."""
    confusion: dict[str, Mapping[str, int]] = {}
    for kind in sorted(set(kinds)):
        confusion[str(kind)] = dict(Counter(map(str, shown[kinds == kind])).most_common())
    is_shown = shown != NO_NAME
    return {
        "examples": count,
        "images": len(kinds),
        "right": float(np.mean(shown == kinds)),
        "likeliest": None if likeliest is None else float(np.mean(likeliest == kinds)),
        "none": float(np.mean(~is_shown)),
        "right_of_shown": float(np.mean(shown[is_shown] == kinds[is_shown])) if is_shown.any() else None,
        "untaught_none": None,
        "taught_none": None,
        "confusion": confusion,
    }
