"""The scale of scores: how often normal images have each, the threshold, and where the inspected images are; as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_WIDTH, _HEIGHT = 640, 176
_LEFT, _RIGHT, _TOP, _BOTTOM = 12, 628, 34, 100
_BINS = 32
_MOST_MARKS = 400


def upper_end(scores: Sequence[float], threshold: float) -> float:
    """Where the scale ends, in (0, 1]: a round value above all scores and the threshold."""
    highest = max([threshold, *(score for score in scores if not math.isnan(score))])
    return min(1.0, math.ceil(12 * highest + 1e-9) / 10)


def draw(
    normal_scores: Sequence[float], threshold: float, inspected: Sequence[float], shown: float | None, end: float
) -> str:
    """The scale from 0 to `end`.

    Args:
        normal_scores: of the normal images, as the bars of a histogram; inspected: of the others, as dots below it.
        shown: score of the image that is shown large; None without one.
    """
    parts = [
        f'<svg class="pc-scale" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="scores of the normal images, '
        f'the threshold at {threshold:.2f} and the scores of the inspected images">'
    ]
    parts += _histogram(normal_scores, end)
    parts.append(f'<line class="pc-axis" x1="{_LEFT}" y1="{_BOTTOM}" x2="{_RIGHT}" y2="{_BOTTOM}"/>')
    for tick in _ticks(end):
        parts.append(f'<text class="pc-tick" x="{_x(tick, end):.1f}" y="{_BOTTOM + 21}">{tick:g}</text>')
    for score in sorted(inspected)[-_MOST_MARKS:]:
        kind = "pc-unusual" if score > threshold else "pc-normal"
        parts.append(f'<circle class="pc-dot {kind}" cx="{_x(score, end):.1f}" cy="{_BOTTOM + 43}" r="5"/>')
    x = _x(threshold, end)
    parts.append(f'<line class="pc-threshold" x1="{x:.1f}" y1="{_TOP - 10}" x2="{x:.1f}" y2="{_BOTTOM + 51}"/>')
    parts.append(_text(x, _TOP - 16, f"threshold {threshold:.2f}", "pc-threshold-text"))
    if shown is not None:
        kind = "pc-unusual" if shown > threshold else "pc-normal"
        x = _x(shown, end)
        parts.append(f'<circle class="pc-shown {kind}" cx="{x:.1f}" cy="{_BOTTOM + 43}" r="8"/>')
        parts.append(_text(x, _BOTTOM + 71, f"this image {shown:.2f}", "pc-shown-text"))
    parts.append("</svg>")
    bars = "Bars: your normal images. " if normal_scores else ""
    meaning = "Dots: inspected images. Further right is less like the normal ones."
    return f'{"".join(parts)}<p class="pc-caption">{bars}{meaning}</p>'


def _x(score: float, end: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * min(1.0, max(0.0, score / end))


def _text(x: float, y: float, text: str, name: str) -> str:
    """Around x, and inside the picture."""
    half = 6.3 * len(text)  # of letters on a phone
    x = min(max(x, _LEFT + half), _RIGHT - half)
    return f'<text class="{name}" x="{x:.1f}" y="{y}">{text}</text>'


def _ticks(end: float) -> list[float]:
    step = 0.05 if end <= 0.3 else 0.1 if end <= 0.6 else 0.2
    return [round(index * step, 2) for index in range(round(end / step) + 1) if index * step <= end + 1e-9]


def _histogram(scores: Sequence[float], end: float) -> list[str]:
    if not scores:
        return []
    counts, edges = np.histogram(np.clip(scores, 0, end), bins=_BINS, range=(0, end))
    bars = []
    for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if count:
            height = (_BOTTOM - _TOP) * count / max(counts)
            x, width = _x(left, end), _x(right, end) - _x(left, end) - 1.5
            bars.append(
                f'<rect class="pc-bar" x="{x:.1f}" y="{_BOTTOM - height:.1f}" width="{width:.1f}" '
                f'height="{height:.1f}" rx="2"><title>{count}</title></rect>'
            )
    return bars
