"""Arrays and tensors of pixel values -> (H, W, 3) uint8."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ImageError

if TYPE_CHECKING:
    import torch

#: Where no value of 16 bits is above it, they are those of a camera with 14 bits or fewer.
_FOURTEEN_BITS = (1 << 14) - 1

#: Of 255: where no alpha is above it (5 %), nothing of the image could be seen, and alpha is not what it says.
_INVISIBLE_ALPHA = 12

#: What to do with other numbers of channels.
_CHANNELS = "keep one channel, or red, green and blue"


def from_tensor(tensor: torch.Tensor, name: str) -> np.ndarray:
    """(3, H, W) or (1, H, W) uint8, uint16 or float in [0, 1] -> (H, W, 3) uint8."""
    import torch

    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        last = tensor.ndim == 3 and tensor.shape[2] in (1, 3, 4)
        advice = {
            2: "add a first axis, of one channel",
            3: "channels come first in a tensor" if last else _CHANNELS,
            4: "take one image of the batch",
        }
        wanted = advice.get(tensor.ndim, "cut it up")
        raise ImageError(f"expected a tensor (3, H, W) or (1, H, W), got {name}: {wanted}")
    if tensor.layout != torch.strided or tensor.is_meta:
        raise ImageError(f"{name} is sparse or has no values: pass a dense tensor")
    values = tensor.detach().cpu()
    if values.is_floating_point():
        values = values.float()
    return from_array(values.permute(1, 2, 0).numpy(), name)


def from_array(values: np.ndarray, name: str) -> np.ndarray:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8, uint16 or float in [0, 1] -> (H, W, 3) uint8."""
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4):
        advice = "pass one image at a time"
        if values.ndim == 3:
            first = values.shape[0] in (1, 3, 4)
            advice = "move channels last" if first else _CHANNELS
        raise ImageError(f"expected an array (H, W), (H, W, 3) or (H, W, 4), got {name}: {advice}")
    if values.size == 0:
        raise ImageError(f"{name} has no pixels ({values.shape[0]} x {values.shape[1]})")
    colour = to_bytes(values[..., :3], name)
    if values.shape[2] == 4:
        return over_white(colour, to_bytes(values[..., 3:], name, is_alpha=True), name)
    return np.repeat(colour, 3, axis=2) if colour.shape[2] == 1 else np.ascontiguousarray(colour)


def to_bytes(values: np.ndarray, name: str, *, is_alpha: bool = False) -> np.ndarray:
    """uint8, bool, uint16 by its full range, or float in [0, 1] -> uint8 of the same shape.

    Args:
        is_alpha: alpha may use as few bits as it likes; of colour, a warning says so.
    """
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint16:
        if not is_alpha:
            _warn_of_unused_bits(int(values.max()), name)
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if np.issubdtype(values.dtype, np.floating):
        return _unit_floats_to_bytes(values, name)
    raise ImageError(f"expected uint8, uint16 or float in [0, 1], got {name}: convert it first")


def over_white(colour: np.ndarray, alpha: np.ndarray, name: str) -> np.ndarray:
    """(H, W, 3) uint8 with alpha (H, W, 1) uint8 laid over white; alpha that would hide all of it is ignored."""
    if is_invisible(int(alpha.max()), name):
        return np.ascontiguousarray(colour)
    wide, opacity = colour.astype(np.uint32), alpha.astype(np.uint32)
    return ((wide * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


def is_invisible(highest_alpha: int, name: str) -> bool:
    """Whether nothing of an image could be seen, of which a warning is given: cameras' RGB32 has 0 everywhere.

    Args:
        highest_alpha: of all pixels; 255 is opaque.
    """
    if highest_alpha > _INVISIBLE_ALPHA:
        return False
    warnings.warn(
        f"{name} is transparent everywhere (its alpha is {highest_alpha} of 255 at most): alpha is ignored; save it "
        "without alpha, or pass three channels",
        stacklevel=2,
    )
    return True


def warn_of_unknown_channels(count: int, name: str) -> None:
    """Channels that their file does not call alpha: a mask, near infrared, a height."""
    plural = "s" if count > 1 else ""
    warnings.warn(f"{name} has {count} channel{plural} beyond its colours, of no known meaning: ignored", stacklevel=2)


def _warn_of_unused_bits(highest: int, name: str) -> None:
    if not 1 < highest <= _FOURTEEN_BITS:
        return
    used = highest.bit_length()
    warnings.warn(
        f"{name}: a 16-bit image uses {used} bits alone: it is read by its full range and looks dark or black; shift "
        f"all images of a camera alike, by what its own bits lack of 16 (for {used} values << {16 - used})",
        stacklevel=2,
    )


def _unit_floats_to_bytes(values: np.ndarray, name: str) -> np.ndarray:
    bad = np.count_nonzero(~np.isfinite(values))
    if bad:
        raise ImageError(f"{name} has {bad} NaN or infinite values: replace them first")
    low, high = float(values.min()), float(values.max())
    if low < -1e-3 or high > 1 + 1e-3:
        advice = "divide by 255" if low >= 0 and high <= 255 else "scale it to [0, 1]"
        raise ImageError(f"expected float values in [0, 1], got {low:g} to {high:g} in {name}: {advice}")
    return (values.clip(0, 1) * 255 + 0.5).astype(np.uint8)
