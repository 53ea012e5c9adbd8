"""Small charts as inline SVG: curves, histograms, intervals, stacked bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

#: One for each method, in the order they appear.
PALETTE = ("#3465a4", "#d1641b", "#2e8b57", "#8b5a9f", "#c2a21c", "#c0392b", "#1f9ea8", "#7a6652", "#d36ba6", "#6b7280")

#: Of the bars of a histogram.
NORMAL, ANOMALOUS = "#5b8fc7", "#e07b39"
_WIDTH, _HEIGHT = 300, 250
_LEFT, _TOP, _RIGHT, _BOTTOM = 40, 10, 10, 36


def curve_chart(
    curves: Mapping[str, Sequence[Sequence[float]]],
    colours: Mapping[str, str],
    *,
    x_title: str,
    y_title: str,
    x_limit: float = 1.0,
    diagonal: bool = False,
) -> str:
    """Lines in [0, x_limit] x [0, 1], each with its name on hovering.

    Args:
        curves: name -> x and y, each a list.
    """
    across, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def point(x: float, y: float) -> str:
        return f"{_LEFT + across * min(x, x_limit) / x_limit:.1f},{_TOP + down * (1 - y):.1f}"

    parts = [_axes(x_title, y_title, x_limit)]
    if diagonal:
        parts.append(f'<polyline points="{point(0, 0)} {point(x_limit, x_limit)}" class="guide"/>')
    for name, (xs, ys) in curves.items():
        points = " ".join(point(x, y) for x, y in _cut(xs, ys, x_limit))
        title = f"<title>{escape(name)}</title>"
        parts.append(f'<polyline points="{points}" class="curve" stroke="{colours[name]}">{title}</polyline>')
    return _svg(_WIDTH, _HEIGHT, parts, f"{y_title} against {x_title}")


def _cut(xs: Sequence[float], ys: Sequence[float], limit: float) -> list[tuple[float, float]]:
    """The points of a curve up to the limit, with a last one on it."""
    inside = [(x, y) for x, y in zip(xs, ys, strict=True) if x <= limit]
    if inside and inside[-1][0] < limit < xs[-1]:
        inside.append((limit, float(np.interp(limit, xs, ys))))
    return inside


def _axes(x_title: str, y_title: str, x_limit: float) -> str:
    across, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    parts = [f'<rect x="{_LEFT}" y="{_TOP}" width="{across}" height="{down}" class="frame"/>']
    for k in range(6):
        y = _TOP + down * (1 - k / 5)
        x = _LEFT + across * k / 5
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + across}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{k / 5:g}</text>')
        parts.append(f'<text x="{x:.1f}" y="{_TOP + down + 14}" text-anchor="middle">{x_limit * k / 5:.2g}</text>')
    parts.append(f'<text x="{_LEFT + across / 2}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(x_title)}</text>')
    middle = _TOP + down / 2
    upwards = f"rotate(-90 10 {middle})"
    parts.append(f'<text x="10" y="{middle}" text-anchor="middle" transform="{upwards}">{escape(y_title)}</text>')
    return "".join(parts)


def histogram_chart(normal: Sequence[float], anomalous: Sequence[float], threshold: float | None) -> str:
    """Scores of normal images upwards, of anomalous ones downwards, each scaled to its highest bar; the threshold."""
    width, height, middle, tallest_bar = 216, 142, 62, 54
    edges = _bin_edges([*normal, *anomalous], threshold)
    step = (width - 20) / (len(edges) - 1)
    parts = []
    for values, colour, name in ((normal, NORMAL, "normal"), (anomalous, ANOMALOUS, "anomalous")):
        counts = np.histogram(values, edges)[0]
        for k in np.flatnonzero(counts).tolist():
            tall = tallest_bar * counts[k] / counts.max()
            y = middle - tall if name == "normal" else middle
            title = f"<title>{counts[k]} {name}, {edges[k]:.3f} to {edges[k + 1]:.3f}</title>"
            box = f'x="{10 + k * step:.1f}" y="{y:.1f}" width="{step - 1:.1f}" height="{tall:.1f}"'
            parts.append(f'<rect {box} fill="{colour}">{title}</rect>')
    parts.append(f'<line x1="10" x2="{width - 10}" y1="{middle}" y2="{middle}" class="axis"/>')
    for k, anchor in ((0, "start"), (15, "middle"), (30, "end")):
        parts.append(f'<text x="{10 + k * step:.1f}" y="136" text-anchor="{anchor}">{edges[k]:.3g}</text>')
    if threshold is not None:
        x = 10 + (threshold - edges[0]) / (edges[-1] - edges[0]) * (width - 20)
        title = f"<title>threshold {threshold:.4g}</title>"
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="122" class="threshold">{title}</line>')
    return _svg(width, height, parts, "scores of normal images (up) and anomalous images (down)")


def _bin_edges(scores: Sequence[float], threshold: float | None) -> np.ndarray:
    """(31,) over all scores and the threshold."""
    values = [*scores] if threshold is None else [*scores, threshold]
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.01, high + 0.01
    return np.linspace(low, high, 31)


def interval_mark(mean: float, low: float, high: float, colour: str, *, start: float = 0.4) -> str:
    """A dot with its interval on a line from `start` to 1, marked at 0.5."""
    width = 110

    def position(value: float) -> float:
        return 4 + (width - 8) * (min(max(value, start), 1) - start) / (1 - start)

    middle = position(0.5)
    parts = [
        f'<line x1="{position(start):.1f}" x2="{position(1):.1f}" y1="8" y2="8" class="grid"/>',
        f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="2" y2="14" class="guide"/>',
        f'<line x1="{position(low):.1f}" x2="{position(high):.1f}" y1="8" y2="8" stroke="{colour}" stroke-width="3"/>',
        f'<circle cx="{position(mean):.1f}" cy="8" r="4" fill="{colour}"/>',
    ]
    return _svg(width, 16, parts, f"{mean:.3f}, from {low:.3f} to {high:.3f}")


def stacked_bar(parts_s: Mapping[str, float], colours: Mapping[str, str], longest_s: float) -> str:
    """Parts of a time side by side, on a scale that several bars share."""
    width, x = 420, 0.0
    parts = []
    for name, seconds in parts_s.items():
        wide = width * max(seconds, 0) / longest_s
        title = f"<title>{escape(name)} {1000 * seconds:.2f} ms</title>"
        parts.append(f'<rect x="{x:.1f}" y="1" width="{wide:.1f}" height="14" fill="{colours[name]}">{title}</rect>')
        x += wide
    return _svg(width, 16, parts, "parts of the time")


def _svg(width: int, height: int, parts: Sequence[str], title: str) -> str:
    head = f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"'
    return f'{head} aria-label="{escape(title, quote=True)}">{"".join(parts)}</svg>'
