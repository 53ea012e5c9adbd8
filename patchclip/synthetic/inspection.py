"""Products as a camera above a line sees them, to compare detectors by: images of a product differ in placement, focus,
exposure and grain, and defects are faint.

    rng = numpy.random.default_rng(0)
    product = sample_inspected(rng)
    normal = product.normal(1)                          # (256, 256, 3) uint8
    defective, mask, kind = product.defective(2, rng)   # uint8 image, bool mask, one of KINDS
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .defects import KINDS, add_defect
from .drawing import Rng, Size, fractal_noise, largest_channel, white_noise
from .surfaces import HELD_OUT, Surface, sample_surface

#: A changed pixel differs by more than this, of 1, as in `defects`.
_VISIBLE = 0.02

#: A defect that changes fewer pixels of 256 x 256 is not seen.
_MIN_PIXELS = 12

_TRIES = 60

#: Border around what an undisplaced camera sees, as a share of the short side.
_BORDER = 0.1


@dataclass(frozen=True)
class InspectedProduct:
    """A product, and how much its images differ.

    Attributes:
        surface: the product before the line's camera.
        shift: largest displacement, as a share of the short side; turn: largest rotation, in degrees.
        exposure: standard deviation of the logarithm of the brightness; contrast: of the logarithm of the gamma.
        unevenness: of the light over the image.
        focus: largest standard deviation of the blur, in pixels of an image of 256; grain: of the noise, of 1.
        strength: how much of a defect's contrast is left, lowest and highest.
    """

    surface: Surface
    shift: float
    turn: float
    exposure: float
    contrast: float
    unevenness: float
    focus: float
    grain: float
    strength: tuple[float, float]

    def normal(self, seed: int, size_hw: Size = (256, 256)) -> np.ndarray:
        """One flawless image: (H, W, 3) uint8."""
        image = self.surface.render(seed, _with_border(size_hw))
        shot, _ = self._shoot(image, np.zeros(image.shape[:2], bool), seed, size_hw)
        return shot

    def defective(self, seed: int, rng: Rng, size_hw: Size = (256, 256)) -> tuple[np.ndarray, np.ndarray, str]:
        """One image with a faint defect.

        Args:
            seed: which image of the product, as in `normal`.
            rng: draws the defect and its kind.

        Returns:
            (H, W, 3) uint8 image, (H, W) bool mask, kind.

        Raises:
            ValueError: no visible defect in 60 tries (an image without any contrast).
        """
        image = self.surface.render(seed, _with_border(size_hw))
        for _ in range(_TRIES):
            kind = KINDS[rng.integers(len(KINDS))]
            painted = self._paint(image, kind, seed, rng)
            if painted is None:
                continue
            faint = image + np.float32(rng.uniform(*self.strength)) * (painted - image)
            mask = largest_channel(np.abs(faint - image)) > _VISIBLE
            shot, seen = self._shoot(faint, mask, seed, size_hw)
            if seen.sum() >= _MIN_PIXELS * seen.size / 256**2:
                return shot, seen, kind
        raise ValueError(f"no visible defect on family {self.surface.family!r} in {_TRIES} tries: use another seed")

    def _paint(self, image: np.ndarray, kind: str, seed: int, rng: Rng) -> np.ndarray | None:
        """The image with the defect in full contrast; None where nothing of that kind shows."""
        if kind == "broken pattern" and self.surface.has_pattern:
            height, width = image.shape[:2]
            return self.surface.render_broken(seed, int(rng.integers(1 << 31)), (height, width))[0]
        found = add_defect(image, kind, rng, held_out=True)
        return None if found is None else found[0]

    def _shoot(self, image: np.ndarray, mask: np.ndarray, seed: int, size_hw: Size) -> tuple[np.ndarray, np.ndarray]:
        """The photograph, (H, W, 3) uint8, and the mask of what is in it, (H, W) bool.

        Args:
            image: with its border, (h, w, 3) float32 in [0, 1]; mask: of its defect, (h, w) bool.
        """
        rng = np.random.default_rng([seed, 1])
        (height, width), short = size_hw, min(size_hw)
        middle = (image.shape[1] / 2, image.shape[0] / 2)
        move = cv2.getRotationMatrix2D(middle, rng.uniform(-self.turn, self.turn), 1)
        move[:, 2] += np.array([width, height]) / 2 - middle + rng.uniform(-self.shift, self.shift, 2) * short
        placed = cv2.warpAffine(image, move, (width, height), borderMode=cv2.BORDER_REFLECT)
        seen = cv2.warpAffine(mask.astype(np.uint8), move, (width, height), flags=cv2.INTER_NEAREST) > 0

        shot: np.ndarray = self.surface.photograph(placed, seed).astype(np.float32) / 255
        sigma = rng.uniform(0, self.focus) * short / 256
        if sigma > 0.1:
            shot = cv2.GaussianBlur(shot, (0, 0), sigma)
        clouds = fractal_noise(rng, size_hw, cells=2, octaves=1)
        light = np.exp(rng.normal(0, self.exposure)) + self.unevenness * clouds
        gamma = np.exp(rng.normal(0, self.contrast))
        noise = rng.uniform(0.3, 1) * self.grain * white_noise(rng, size_hw)
        shot = np.clip(shot, 0, 1) ** gamma * light[..., None] + noise[..., None]
        return (np.clip(shot, 0, 1) * 255 + 0.5).astype(np.uint8), seen


def _with_border(size_hw: Size) -> Size:
    """What a displaced camera sees too."""
    height, width = size_hw
    border = round(_BORDER * min(size_hw))
    return height + 2 * border, width + 2 * border


def sample_inspected(rng: Rng, families: tuple[str, ...] = HELD_OUT) -> InspectedProduct:
    """Draw a product of these families, and how much its images differ: some little, some a lot."""
    surface = sample_surface(rng, families)
    amount = rng.uniform(0.3, 1, 7)
    return InspectedProduct(
        surface,
        shift=0.06 * amount[0],
        turn=4 * amount[1],
        exposure=0.15 * amount[2],
        contrast=0.12 * amount[3],
        unevenness=0.12 * amount[4],
        focus=1.6 * amount[5],
        grain=0.05 * amount[6],
        strength=(0.25, 0.7),
    )
