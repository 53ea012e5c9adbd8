"""What is said of an image: its verdict, or why it has none. The words and keys of every table of results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .printable import printable

if TYPE_CHECKING:
    from .errors import ImageError
    from .result import Result

ANOMALOUS, NORMAL, UNREADABLE = VERDICTS = ("anomalous", "normal", "unreadable")

#: Keys of `Result.to_dict` that are None for an unreadable image.
_RESULT_KEYS = (
    *("score", "threshold", "threshold_source", "is_anomalous"),
    *("defect", "confidence", "defect_source", "class_name", "size_hw"),
)


def outcome_entries(outcome: Result | ImageError) -> dict[str, Any]:
    """Verdict, error and the keys of `Result.to_dict`, of a result or of the error in its place."""
    if isinstance(outcome, Exception):
        return unreadable_entries(str(outcome))
    verdict = ANOMALOUS if outcome.is_anomalous else NORMAL
    return {"verdict": verdict, "error": None, **outcome.to_dict()}


def unreadable_entries(reason: str) -> dict[str, Any]:
    """As `outcome_entries`, of an image that cannot be used for that reason."""
    entries: dict[str, Any] = {"verdict": UNREADABLE, "error": printable(" ".join(reason.split()))}
    return entries | dict.fromkeys(_RESULT_KEYS) | {"regions": []}
