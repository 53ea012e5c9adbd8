"""Outlines of defects, twelve kinds: (H, W) float32 coverage in [0, 1]. Sizes are shares of the short side."""

from __future__ import annotations

import cv2
import numpy as np

from .drawing import Rng, fractal_noise


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _middle(rng: Rng, size_hw: tuple[int, int]) -> np.ndarray:
    """A place, as (x, y) in pixels; now and then right at the border."""
    return rng.uniform(0.03, 0.97, 2) * (size_hw[1], size_hw[0])


def _ellipse(rng: Rng, size_hw: tuple[int, int], low: float, high: float, roundness: float) -> np.ndarray:
    """Radius between `low` and `high` of the short side."""
    mask = np.zeros(size_hw, np.uint8)
    radius = _log_uniform(rng, low, high) * min(size_hw) * 8
    axes = (max(8, int(radius)), max(8, int(radius * rng.uniform(roundness, 1))))
    centre = (_middle(rng, size_hw) * 8).astype(int).tolist()
    cv2.ellipse(mask, centre, axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA, 3)
    return mask.astype(np.float32) / 255


def blob(rng: Rng, size_hw: tuple[int, int], low: float = 0.03, high: float = 0.22) -> np.ndarray:
    """An ellipse with a ragged border."""
    core = _ellipse(rng, size_hw, low, high, 0.35)
    radius = np.sqrt(max(core.sum(), 1) / np.pi)
    soft = cv2.GaussianBlur(core, (0, 0), float(0.35 * radius + 0.3))
    cells = max(4.0, min(size_hw) / radius * 0.8)
    ragged = soft + 0.2 * fractal_noise(rng, size_hw, cells=cells, octaves=3)
    return np.clip((ragged - 0.5) * 12 + 0.5, 0, 1) * (soft > 0.05)


def _stroke(rng: Rng, size_hw: tuple[int, int], kind: str) -> np.ndarray:
    """A thin line: a scratch is straight and light, a cut short and thick, a crack ragged, a fibre curled."""
    short = min(size_hw)
    mask = np.zeros(size_hw, np.uint8)
    heading = rng.uniform(0, 2 * np.pi)
    low, high = {"scratch": (0.12, 0.9), "cut": (0.06, 0.35), "crack": (0.1, 0.9), "fibre": (0.12, 0.6)}[kind]
    length = _log_uniform(rng, low, high) * short
    thin, thick = {"scratch": (0.004, 0.014), "cut": (0.014, 0.04), "crack": (0.004, 0.022), "fibre": (0.005, 0.014)}[
        kind
    ]
    width = _log_uniform(rng, thin, thick) * short
    steps = int(rng.integers(8, 20)) if kind in ("crack", "fibre") else 4
    bend = {"scratch": 0.06, "cut": 0.1, "crack": 0.65, "fibre": 0.0}[kind]
    curl = np.cumsum(np.clip(rng.normal(0, 0.35, steps), -0.5, 0.5)) * 1.2 if kind == "fibre" else np.zeros(steps)
    angles = heading + curl + rng.normal(0, bend, steps)
    moves = np.stack([np.cos(angles), np.sin(angles)], 1) * length / steps
    points = np.concatenate([[[0, 0]], np.cumsum(moves, 0)])
    points += _middle(rng, size_hw) - points.mean(0)
    taper = 1 - 0.7 * np.abs(np.linspace(-1, 1, steps)) if kind == "cut" or rng.random() < 0.5 else np.ones(steps)
    _polyline(mask, points, width * taper)
    if kind == "crack":
        for _ in range(rng.integers(0, 4)):
            at = points[rng.integers(steps)]
            branch_angles = heading + rng.choice([-1, 1]) * rng.uniform(0.4, 1.3) + rng.normal(0, 0.5, 4)
            branch = np.stack([np.cos(branch_angles), np.sin(branch_angles)], 1) * length * rng.uniform(0.04, 0.12)
            _polyline(mask, at + np.concatenate([[[0, 0]], np.cumsum(branch, 0)]), np.full(4, 0.6 * width))
    if kind == "scratch":  # often several side by side
        across = np.array([-np.sin(heading), np.cos(heading)]) * short * 0.02
        for k in range(rng.choice([0, 0, 1, 2, 4])):
            part = slice(*sorted(rng.choice(steps + 1, 2, replace=False)))
            shifted = points[part] + across * (k + 1) * rng.uniform(0.6, 1.6)
            _polyline(mask, shifted, np.full(max(len(shifted) - 1, 0), width))
    return mask.astype(np.float32) / 255


def _polyline(mask: np.ndarray, points: np.ndarray, widths: np.ndarray) -> None:
    fixed = np.round(points * 8).astype(int).tolist()
    for start, end, width in zip(fixed[:-1], fixed[1:], widths, strict=True):
        if width >= 1:
            cv2.line(mask, start, end, 255, max(1, round(float(width))), cv2.LINE_AA, 3)
        else:  # thinner than a pixel: a fainter line
            layer = np.zeros_like(mask)
            cv2.line(layer, start, end, int(255 * max(width, 0.45)), 1, cv2.LINE_AA, 3)
            np.maximum(mask, layer, out=mask)


def _particles(rng: Rng, size_hw: tuple[int, int]) -> np.ndarray:
    """A scatter of grains and chips."""
    mask = np.zeros(size_hw, np.uint8)
    short = min(size_hw)
    middle, spread = _middle(rng, size_hw), _log_uniform(rng, 0.03, 0.14) * short
    for _ in range(rng.integers(4, 14)):
        at = middle + rng.normal(0, spread, 2)
        corners = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
        radius = _log_uniform(rng, 0.008, 0.03) * short
        points = at + radius * np.stack([np.cos(corners), np.sin(corners)], 1)
        cv2.fillPoly(mask, [np.round(points * 8).astype(np.int32)], 255, cv2.LINE_AA, 3)
    return mask.astype(np.float32) / 255


def _missing(rng: Rng, size_hw: tuple[int, int]) -> np.ndarray:
    """A straight-edged piece, most often bitten out of the border."""
    height, width = size_hw
    short = min(size_hw)
    mask = np.zeros(size_hw, np.uint8)
    centre = _middle(rng, size_hw)
    if rng.random() < 0.6:
        axis = rng.integers(2)
        centre[axis] = rng.choice([0, (width, height)[axis]])
    turns = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(4, 7)))
    radius = _log_uniform(rng, 0.06, 0.26) * short
    points = centre + radius * np.stack([np.cos(turns), np.sin(turns)], 1) * rng.uniform(0.6, 1, (len(turns), 1))
    cv2.fillPoly(mask, [np.round(points * 8).astype(np.int32)], 255, cv2.LINE_AA, 3)
    return mask.astype(np.float32) / 255


def _rectangle(rng: Rng, size_hw: tuple[int, int]) -> np.ndarray:
    """Now and then turned; as narrow as a band or as wide as long."""
    mask = np.zeros(size_hw, np.uint8)
    length = _log_uniform(rng, 0.05, 0.8) * min(size_hw)
    sides = (length, length * _log_uniform(rng, 0.08, 1))
    angle = rng.uniform(0, 180) if rng.random() < 0.35 else 90 * rng.integers(2)
    corners = cv2.boxPoints((_middle(rng, size_hw).tolist(), sides, float(angle)))
    cv2.fillPoly(mask, [np.round(corners * 8).astype(np.int32)], 255, cv2.LINE_AA, 3)
    return mask.astype(np.float32) / 255


def any_area(rng: Rng, size_hw: tuple[int, int]) -> np.ndarray:
    """Whatever has an inside, from a pit to half of the image."""
    shapes = (_missing, _rectangle, _particles, blob, _large_blob, _pit)
    return shapes[rng.integers(len(shapes))](rng, size_hw)


def _large_blob(rng: Rng, size_hw: tuple[int, int]) -> np.ndarray:
    return blob(rng, size_hw, 0.15, 0.45)


def _pit(rng: Rng, size_hw: tuple[int, int]) -> np.ndarray:
    return _ellipse(rng, size_hw, 0.012, 0.2, 0.35)


#: kind -> (rng, size_hw) -> coverage
SHAPES = {
    "dot": lambda rng, hw: _ellipse(rng, hw, 0.008, 0.03, 0.8),
    "cut": lambda rng, hw: _stroke(rng, hw, "cut"),
    "scratch": lambda rng, hw: _stroke(rng, hw, "scratch"),
    "crack": lambda rng, hw: _stroke(rng, hw, "crack"),
    "hole": lambda rng, hw: _ellipse(rng, hw, 0.025, 0.12, 0.6) if rng.random() < 0.6 else blob(rng, hw, 0.025, 0.1),
    "stain": blob,
    "dent": lambda rng, hw: _ellipse(rng, hw, 0.05, 0.2, 0.4),
    "broken pattern": lambda rng, hw: _missing(rng, hw) if rng.random() < 0.5 else _ellipse(rng, hw, 0.06, 0.2, 0.6),
    "missing part": _missing,
    "contamination": _particles,
    "colour patch": lambda rng, hw: blob(rng, hw, 0.04, 0.2) if rng.random() < 0.5 else _missing(rng, hw),
    "fibre": lambda rng, hw: _stroke(rng, hw, "fibre"),
}
