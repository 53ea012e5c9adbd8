"""Changed copies of normal images: turned and mirrored for the bank, mild variations for the threshold."""

from __future__ import annotations

import numpy as np


def rotated_and_flipped(image: np.ndarray, *, rotations: int, flips: bool) -> list[np.ndarray]:
    """The image itself, then its turned and mirrored copies.

    Args:
        image: (H, W, 3) uint8.
        rotations: 1, 2, 4 or 8 evenly spaced angles; a turn by 45 degrees fills the corners by mirroring.
        flips: add a mirrored copy of each.
    """
    copies = []
    for step in range(rotations):
        eighth = 8 * step // rotations
        quarters, is_diagonal = divmod(eighth, 2)
        turned = np.rot90(image, quarters)
        if is_diagonal:
            copies.append(_warp(turned, degrees=45.0, scale=1.0))
        else:
            copies.append(turned.copy())  # torch takes no negative strides
    if flips:
        copies += [copy[:, ::-1].copy() for copy in copies]
    return copies


def mild_variations(image: np.ndarray) -> list[np.ndarray]:
    """Six mild variations of a normal image: mirrored, turned by up to 4 degrees, 4 and 8 % closer.

    They stand in for other normal images where there is only one, and vary less than those would.

    Args:
        image: (H, W, 3) uint8.
    """
    return [
        image[:, ::-1].copy(),
        image[::-1].copy(),
        _warp(image, degrees=4.0, scale=1.0),
        _warp(image, degrees=-4.0, scale=1.0),
        _warp(image, degrees=0.0, scale=1.08),
        _warp(image, degrees=2.0, scale=1.04),
    ]


def _warp(image: np.ndarray, *, degrees: float, scale: float) -> np.ndarray:
    """Turned and enlarged about the centre; what that uncovers mirrors the image."""
    import cv2

    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
