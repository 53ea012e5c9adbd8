"""Defects of twelve kinds, painted onto an image with the exact mask of what they changed.

`add_defect(image, kind, rng)` paints one. Sizes are relative to the short side, so the same code serves 128 px
training crops and full-size pictures. "broken pattern" belongs to surfaces with a pattern
(`Surface.render_broken`); on any other image `add_defect` turns a piece of the image about instead.
"""

from __future__ import annotations

import cv2
import numpy as np

from .drawing import Rng, fractal_noise, largest_channel, random_colour, random_palette, unit_range, white_noise
from .shapes import SHAPES, any_area, blob

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

#: Another material, (H, W, 3) float32 in [0, 1]; held out: none.
Foreign = np.ndarray | None

_THIN = ("dot", "cut", "scratch", "crack", "fibre")
_VISIBLE = 0.02  # smallest change of a pixel, of 1, that counts as changed
_MIN_PIXELS = 4


def add_defect(
    image: np.ndarray, kind: str, rng: Rng, *, held_out: bool = False, other: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Paint one defect.

    Args:
        image: (H, W, 3) float32 RGB in [0, 1]; it is not changed.
        kind: one of `KINDS`.
        held_out: sharp borders and fills that training never sees.
        other: another image of that size, for what is made of a foreign material.

    Returns:
        The new image and its mask (H, W) bool, true where a pixel changed by more than 0.02; or None when the
        defect would be too faint to see against the texture around it (try again with the same rng).
    """
    height, width = image.shape[:2]
    if not held_out and kind not in _THIN and rng.random() < 0.4:  # the fill tells the kind, the outline need not
        alpha = any_area(rng, (height, width))
    else:
        alpha = SHAPES[kind](rng, (height, width))
    if not held_out and rng.random() < 0.35:  # no sharp border
        softest = 1.2 if kind in _THIN else 3.0
        alpha = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.4, softest) * min(height, width) / 160)
    rows, columns = np.nonzero(alpha > 0.3)
    if len(rows) < _MIN_PIXELS:
        return None
    if other is None and not held_out:
        other = _foreign(rng, (height, width))
    if not held_out and kind in _THIN and rng.random() < 0.3:
        painted = _thin_fill(image, alpha, rng, other)
    else:
        painted = _PAINTS.get(kind, _fill)(image, alpha, rng, kind, held_out, other)
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


# --- paints: what the shape does to the image --------------------------------------------------------------------


def _fill(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool, other: Foreign) -> np.ndarray:
    """Cover by a flat colour, a shade of what is there or a tint of it (held out: its negative, a soft blend)."""
    cover = (alpha * rng.uniform(0.55 if held_out else 0.35, 1))[..., None]
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


def _thin_fill(image: np.ndarray, alpha: np.ndarray, rng: Rng, other: Foreign) -> np.ndarray:
    """A groove lit from one side, the texture bent, rubbed out or roughened, or another material."""
    fill = rng.integers(4)
    if fill == 0:
        return image * (1 + rng.uniform(0.25, 0.8) * _relief(alpha, rng, rng.uniform(0.6, 1.5))[..., None])
    if fill == 1:
        return image + (alpha * rng.uniform(0.5, 1))[..., None] * (other - image)
    return image + alpha[..., None] * (_worn(image, rng, rough=fill == 2) - image)


def _worn(image: np.ndarray, rng: Rng, *, rough: bool) -> np.ndarray:
    """The texture rubbed smooth, or roughened."""
    if rough:
        return image + np.float32(rng.uniform(0.08, 0.3)) * white_noise(rng, image.shape[:2])[..., None]
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(1.5, 5))


def _hole(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool, other: Foreign) -> np.ndarray:
    """Dark inside, with a lit rim on one side."""
    inside = image.mean((0, 1)) * rng.uniform(0, 0.3) if not held_out else np.float32(1) - image.mean((0, 1)) * 0.2
    out = image + (alpha * rng.uniform(0.7, 1))[..., None] * (inside - image)
    return out * (1 + rng.uniform(0, 0.4) * _relief(alpha, rng, 0.8)[..., None])


def _stain(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool, other: Foreign) -> np.ndarray:
    """Low in contrast, soft, often darker towards its rim; the texture shows through, or is worn off."""
    if not held_out and rng.random() < 0.25:
        return image + alpha[..., None] * (_worn(image, rng, rough=rng.random() < 0.5) - image)
    if not held_out and rng.random() < 0.25:  # uneven: a shade without a border
        shade = cv2.GaussianBlur(alpha, (0, 0), max(1.0, float(rng.uniform(0.1, 0.4) * np.sqrt(alpha.sum() / np.pi))))
        return image * (1 + rng.choice((-1, 1)) * rng.uniform(0.1, 0.5) * shade[..., None])
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


def _dent(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool, other: Foreign) -> np.ndarray:
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


def _turned(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool, other: Foreign) -> np.ndarray:
    """A piece of the same image, turned or scaled, in place of what was there."""
    height, width = alpha.shape
    angle = rng.choice([90, 180, 45]) if not held_out else 30
    scale = rng.choice([0.6, 1.0, 1.6])
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(angle), float(scale))
    turned = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
    shift = rng.integers(min(height, width) // 8, min(height, width) // 2, 2)
    turned = np.roll(turned, tuple(int(s) for s in shift), (0, 1))
    return image + alpha[..., None] * (turned - image)


def _foreign(rng: Rng, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) float32 in [0, 1]: another material."""
    noise = fractal_noise(rng, size_hw, cells=2 ** rng.uniform(1, 5), octaves=3, gain=0.6)
    return random_palette(rng)(unit_range(noise))


def _absent(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool, other: Foreign) -> np.ndarray:
    """What lies behind: flat background, with a lit edge."""
    if held_out:
        behind = 1 - np.median(image.reshape(-1, 3)[::7], 0)
    else:
        behind = random_colour(rng) if rng.random() < 0.5 else np.full(3, rng.choice([0.03, 0.15, 0.9]), np.float32)
        if rng.random() < 0.3:
            behind = other
    out = image + alpha[..., None] * (behind - image)
    return out * (1 + 0.3 * _relief(alpha, rng, 0.7)[..., None])


def _grains(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool, other: Foreign) -> np.ndarray:
    """Opaque foreign grains with a small shadow."""
    shadow = np.roll(alpha, (2, 2), (0, 1)) * rng.uniform(0, 0.5)
    colour = 1 - image.mean((0, 1)) if held_out else random_colour(rng)
    if not held_out and rng.random() < 0.4:  # a lump of another material
        alpha = blob(rng, alpha.shape, 0.02, 0.12) if rng.random() < 0.6 else alpha
        return image + alpha[..., None] * (other - image)
    grain = colour * (1 + 0.25 * fractal_noise(rng, alpha.shape, cells=40, octaves=2)[..., None])
    image = image * (1 - shadow[..., None])
    return image + alpha[..., None] * (grain - image)


def _tinted(image: np.ndarray, alpha: np.ndarray, rng: Rng, kind: str, held_out: bool, other: Foreign) -> np.ndarray:
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
