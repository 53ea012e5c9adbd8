"""Defects of twelve kinds, painted onto an image with the exact mask of what they changed.

`add_defect(image, kind, rng)` paints one. Sizes are relative to the short side, so the same code serves 128 px
training crops and full-size pictures. "broken pattern" belongs to surfaces with a pattern
(`Surface.render_broken`); on any other image `add_defect` turns a piece of the image about instead.
"""

from __future__ import annotations

import cv2
import numpy as np

from .drawing import Rng, fractal_noise, largest_channel, random_colour, random_palette, unit_range, white_noise

#: The kinds, in the order of the model's labels.
KINDS = (
    "dot",
    "cut",
    "scratch",
    "crack",
    "hole",
    "stain",
    "dent",
    "broken pattern",
    "missing part",
    "contamination",
    "colour patch",
    "fibre",
)

#: `held_out=True`: sharp borders and fills that training never sees.
_FILLS = ("flat", "shade", "tint")
_HELD_OUT_FILLS = ("invert", "blend")

_THIN = ("dot", "cut", "scratch", "crack", "fibre")
_VISIBLE = 0.02  # smallest change of a pixel, of 1, that counts as changed
_MIN_PIXELS = 4


def add_defect(
    image: np.ndarray, kind: str, rng: Rng, *, held_out: bool = False
) -> tuple[np.ndarray, np.ndarray] | None:
    """Paint one defect.

    Args:
        image: (H, W, 3) float32 RGB in [0, 1]; it is not changed.
        kind: one of `KINDS`.
        held_out: sharp borders and fills that training never sees.

    Returns:
        The new image and its mask (H, W) bool, true where a pixel changed by more than 0.02; or None when the
        defect would be too faint to see against the texture around it (try again with the same rng).
    """
    height, width = image.shape[:2]
    alpha = _SHAPES[kind](rng, (height, width))
    if not held_out and rng.random() < 0.35:  # no sharp border
        softest = 1.2 if kind in _THIN else 3.0
        alpha = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.4, softest) * min(height, width) / 160)
    rows, columns = np.nonzero(alpha > 0.3)
    if len(rows) < _MIN_PIXELS:
        return None
    painted = _PAINTS.get(kind, _fill)(image, alpha, rng, kind, held_out)
    painted = np.clip(painted, 0, 1).astype(np.float32)
    change = largest_channel(np.abs(painted - image))
    mask = change > _VISIBLE
    if mask.sum() < _MIN_PIXELS:
        return None
    pad = max(4, min(height, width) // 16)
    around = image[max(rows.min() - pad, 0) : rows.max() + pad, max(columns.min() - pad, 0) : columns.max() + pad]
    if change[mask].mean() < 0.035 + 0.4 * around.std((0, 1)).mean() and kind not in ("broken pattern", "dent"):
        return None
    # a change below the visible bound is no defect: leave those pixels as they were
    return np.where(mask[..., None], painted, image), mask


# --- shapes: (H, W) float32 coverage in [0, 1] -------------------------------------------------------------------


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


def _blob(rng: Rng, size_hw: tuple[int, int], low: float = 0.03, high: float = 0.22) -> np.ndarray:
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


_SHAPES = {
    "dot": lambda rng, hw: _ellipse(rng, hw, 0.008, 0.03, 0.8),
    "cut": lambda rng, hw: _stroke(rng, hw, "cut"),
    "scratch": lambda rng, hw: _stroke(rng, hw, "scratch"),
    "crack": lambda rng, hw: _stroke(rng, hw, "crack"),
    "hole": lambda rng, hw: _ellipse(rng, hw, 0.025, 0.12, 0.6) if rng.random() < 0.6 else _blob(rng, hw, 0.025, 0.1),
    "stain": _blob,
    "dent": lambda rng, hw: _ellipse(rng, hw, 0.05, 0.2, 0.4),
    "broken pattern": lambda rng, hw: _missing(rng, hw) if rng.random() < 0.5 else _ellipse(rng, hw, 0.06, 0.2, 0.6),
    "missing part": _missing,
    "contamination": _particles,
    "colour patch": lambda rng, hw: _blob(rng, hw, 0.04, 0.2) if rng.random() < 0.5 else _missing(rng, hw),
    "fibre": lambda rng, hw: _stroke(rng, hw, "fibre"),
}


# --- paints: what the shape does to the image --------------------------------------------------------------------


def _fill(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool) -> np.ndarray:
    """Cover by a flat colour, a shade of what is there or a tint of it (held out: its negative, a soft blend)."""
    cover = (alpha * rng.uniform(0.55, 1))[..., None]
    here = image[alpha > 0.3].mean(0)
    fill = rng.choice(_HELD_OUT_FILLS if held_out else _FILLS, p=None if held_out else (0.6, 0.25, 0.15))
    darker = rng.random() < {"crack": 0.8, "cut": 0.75, "dot": 0.75, "scratch": 0.4}.get(kind, 0.6)
    amount = rng.uniform(0.15, 0.8)
    if fill == "flat":
        target = random_colour(rng) if rng.random() < 0.2 else np.clip(here + (-amount if darker else amount), 0, 1)
    elif fill == "shade":
        target = image * (1 - 0.8 * amount if darker else 1 + amount)
    elif fill == "tint":
        target = image * random_colour(rng) if darker else 1 - (1 - image) * random_colour(rng)
    elif fill == "invert":
        target = 1 - image
    else:
        target = 0.35 * image + 0.65 * (1 - here)
    return image + cover * (target - image)


def _hole(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool) -> np.ndarray:
    """Dark inside, with a lit rim on one side."""
    inside = image.mean((0, 1)) * rng.uniform(0, 0.3) if not held_out else np.float32(1) - image.mean((0, 1)) * 0.2
    out = image + (alpha * rng.uniform(0.7, 1))[..., None] * (inside - image)
    return out * (1 + rng.uniform(0, 0.4) * _relief(alpha, rng, 0.8)[..., None])


def _stain(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool) -> np.ndarray:
    """Low in contrast, soft, often darker towards its rim; the texture shows through, or is worn off."""
    if not held_out and rng.random() < 0.25:
        worn = cv2.GaussianBlur(image, (0, 0), rng.uniform(1.5, 5))
        if rng.random() < 0.5:  # worn rough, not smooth
            worn = image + np.float32(rng.uniform(0.08, 0.3)) * white_noise(rng, alpha.shape)[..., None]
        return image + alpha[..., None] * (worn - image)
    soft = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.5, 2.5))
    if rng.random() < 0.4:
        soft = soft * (0.5 + fractal_noise(rng, alpha.shape, cells=8, octaves=3) * 0.25 + 0.25)
    if rng.random() < 0.3:
        inner = cv2.GaussianBlur(alpha, (0, 0), max(1.0, 0.12 * np.sqrt(alpha.sum())))
        soft = soft * (1.3 - inner)
    if held_out:
        return image + np.clip(soft, 0, 1)[..., None] * (1 - image - image) * 0.4
    colour = random_colour(rng) if rng.random() < 0.5 else np.float32(rng.uniform(0, 0.6))
    factor = 1 - np.clip(soft, 0, 1)[..., None] * rng.uniform(0.25, 0.8) * (1 - colour)
    return image * factor if rng.random() < 0.75 else 1 - (1 - image) * factor


def _relief(alpha: np.ndarray, rng: Rng, sigma: float) -> np.ndarray:
    """Light from one side on a bump of that shape: (H, W) float32 in [-1, 1]."""
    height = cv2.GaussianBlur(alpha, (0, 0), sigma)
    turn = rng.uniform(0, 2 * np.pi)
    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0) * np.cos(turn) + cv2.Sobel(height, cv2.CV_32F, 0, 1) * np.sin(turn)
    return (slope / (np.abs(slope).max() + 1e-6)).astype(np.float32)


def _dent(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool) -> np.ndarray:
    """Bends the texture and lights one flank, darkens the other."""
    radius = np.sqrt(alpha.sum() / np.pi)
    height, width = alpha.shape
    bump = cv2.GaussianBlur(alpha, (0, 0), max(1.0, float(0.3 * radius)))
    push = rng.uniform(-1, 1) * radius * 0.8
    grad_x, grad_y = cv2.Sobel(bump, cv2.CV_32F, 1, 0), cv2.Sobel(bump, cv2.CV_32F, 0, 1)
    steepest = np.hypot(grad_x, grad_y).max() + 1e-6
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    map_x = x + np.float32(push / steepest) * grad_x
    map_y = y + np.float32(push / steepest) * grad_y
    bent = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    light = rng.uniform(0.2, 0.7) * _relief(alpha, rng, max(1.0, float(rng.uniform(0.15, 0.4) * radius)))
    return bent + light[..., None] * 0.5 if held_out else bent * (1 + light[..., None])


def _turned(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool) -> np.ndarray:
    """A piece of the same image, turned or scaled, in place of what was there."""
    height, width = alpha.shape
    angle = rng.choice([90, 180, 45]) if not held_out else 30
    scale = rng.choice([0.6, 1.0, 1.6])
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(angle), float(scale))
    other = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
    shift = rng.integers(min(height, width) // 8, min(height, width) // 2, 2)
    other = np.roll(other, tuple(int(s) for s in shift), (0, 1))
    return image + alpha[..., None] * (other - image)


def _foreign(rng: Rng, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) float32 in [0, 1]: another material."""
    noise = fractal_noise(rng, size_hw, cells=2 ** rng.uniform(1, 5), octaves=3, gain=0.6)
    return random_palette(rng)(unit_range(noise))


def _absent(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool) -> np.ndarray:
    """What lies behind: flat background, with a lit edge."""
    if held_out:
        behind = 1 - np.median(image.reshape(-1, 3)[::7], 0)
    else:
        behind = random_colour(rng) if rng.random() < 0.5 else np.full(3, rng.choice([0.03, 0.15, 0.9]), np.float32)
        if rng.random() < 0.3:
            behind = _foreign(rng, alpha.shape)
    out = image + alpha[..., None] * (behind - image)
    return out * (1 + 0.3 * _relief(alpha, rng, 0.7)[..., None])


def _grains(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool) -> np.ndarray:
    """Opaque foreign grains with a small shadow."""
    shadow = np.roll(alpha, (2, 2), (0, 1)) * rng.uniform(0, 0.5)
    colour = 1 - image.mean((0, 1)) if held_out else random_colour(rng)
    if not held_out and rng.random() < 0.4:  # a lump of another material
        alpha = _blob(rng, alpha.shape, 0.02, 0.12) if rng.random() < 0.6 else alpha
        return image + alpha[..., None] * (_foreign(rng, alpha.shape) - image)
    grain = colour * (1 + 0.25 * fractal_noise(rng, alpha.shape, cells=40, octaves=2)[..., None])
    image = image * (1 - shadow[..., None])
    return image + alpha[..., None] * (grain - image)


def _tinted(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool) -> np.ndarray:
    """The hue changes, the texture stays."""
    if held_out:
        return image + alpha[..., None] * (image[..., ::-1] * (0.6, 1, 1.4) - image)
    shift = rng.uniform(-0.45, 0.45, 3).astype(np.float32)
    shift -= shift.mean() * 0.7
    return image + (alpha * rng.uniform(0.6, 1))[..., None] * shift


_PAINTS = {
    "hole": _hole,
    "stain": _stain,
    "dent": _dent,
    "broken pattern": _turned,
    "missing part": _absent,
    "contamination": _grains,
    "colour patch": _tinted,
}
