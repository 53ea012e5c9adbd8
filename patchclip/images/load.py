"""Anything a user has -> the upright RGB image that a person sees."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ImageError

if TYPE_CHECKING:
    import torch

ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | np.ndarray | torch.Tensor"

#: Larger images are refused: decode them in parts, or shrink them first.
MAX_PIXELS = 89_000_000  # Pillow warns of more

#: Where no value of 16 bits is above it, they are those of a camera with 12 bits or fewer.
_TWELVE_BITS = 4095

#: What to do with other numbers of channels.
_CHANNELS = "keep one channel, or red, green and blue"


def _is_tensor(image: object) -> bool:
    """Whether it is a torch tensor; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def _is_array(image: object) -> bool:
    return isinstance(image, np.ndarray) or _is_tensor(image)


def describe(image: Any) -> str:
    """A short name for messages."""
    if isinstance(image, (str, os.PathLike)):
        return str(image)
    if isinstance(image, bytes):
        return f"<{len(image)} bytes>"
    if isinstance(image, Image.Image):
        return getattr(image, "filename", "") or f"<PIL image {image.mode} {image.size[0]} x {image.size[1]}>"
    if _is_array(image):
        return f"<{type(image).__name__} {tuple(image.shape)} {image.dtype}>"
    return f"<{type(image).__name__}>"


def load_image(image: Any) -> np.ndarray:
    """The upright RGB image, as a person sees it.

    Args:
        image: a path, the bytes of a file, a PIL image, a numpy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of
            uint8, uint16 (full range) or float in [0, 1], or a torch tensor (3, H, W) or (1, H, W) of the same kinds.
            EXIF orientation is applied, transparency is laid over white, 16 bits become 8 by their full range, and
            an animation gives its first frame, a PIL image the one it is at.

    Returns:
        (H, W, 3) uint8; an array of that kind is given back as it is.

    Raises:
        ImageError: not an image, truncated, empty, more than `MAX_PIXELS`, NaN or infinite, or out of range.
    """
    if _is_tensor(image):
        return _from_tensor(image)
    if isinstance(image, np.ndarray):
        return _from_array(image, describe(image))
    if isinstance(image, Image.Image):
        return _from_pil(image, describe(image))
    if isinstance(image, (str, os.PathLike, bytes)):
        return _from_file(image, describe(image))
    raise ImageError(
        f"expected a path, bytes, a PIL image, a numpy array or a torch tensor; got {type(image).__name__}"
    )


def require_several(images: Any, whose: str = "") -> None:
    """Raise ValueError for one image where several belong: its rows or letters would be taken for images.

    Args:
        whose: for the message, as " for class 'bottle'".
    """
    is_array = _is_array(images)
    is_stack = is_array and images.ndim not in (0, 2, 3)  # of images, or a row of paths
    is_single = is_array or isinstance(images, (str, bytes, os.PathLike, Image.Image))
    if is_single and not is_stack:
        remedy = "put it into a list"
        if is_array and images.ndim == 3 and min(images.shape[::2]) > 4:
            remedy += ", or give a stack of grey ones an axis of channels"
        raise ValueError(f"expected a list of images{whose}, got one, {describe(images)}: {remedy}")
    if isinstance(images, Mapping) or not (hasattr(images, "__iter__") or hasattr(images, "__getitem__")):
        remedy = ": put the images of all its classes into one" if isinstance(images, Mapping) else ""
        raise ValueError(f"expected a list of images{whose}, got {describe(images)}{remedy}")


def snapshot(image: Any) -> Any:
    """A copy of an image in memory: its owner may overwrite it, seek to another frame or close it before a thread
    reads it or the result draws its overlay."""
    try:
        if isinstance(image, np.ndarray):
            return image.copy()
        if isinstance(image, Image.Image) and image.width * image.height <= MAX_PIXELS:  # or `load_image` refuses it
            copy = image.copy()
            vars(copy)["filename"] = getattr(image, "filename", "")  # for messages; Pillow's copy has none
            return copy
    except Exception:  # a picture is decoded to be copied; `load_image` will say what is wrong with it
        return image
    return image.clone() if _is_tensor(image) else image


def fingerprint(image: np.ndarray) -> str:
    """The same for the same pixels: 16 hexadecimal digits of (H, W, 3) uint8."""
    return hashlib.blake2b(image.tobytes(), digest_size=8, key=repr(image.shape).encode()).hexdigest()


def _from_file(source: str | os.PathLike[str] | bytes, name: str) -> np.ndarray:
    try:
        if isinstance(source, bytes):
            if not source:
                raise ImageError("expected the bytes of an image file, got none")
        elif not os.fspath(source):
            raise ImageError("expected the path of an image, got an empty one")
        elif (path := Path(source)).is_dir():
            raise ImageError(f"{name} is a folder: pass the images in it")
        elif not path.exists():
            raise ImageError(f"{name} does not exist")
        elif path.stat().st_size == 0:
            raise ImageError(f"{name} is empty (0 bytes)")
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            return _from_pil(opened, name, may_modify=True)
    except (ImageError, MemoryError, Warning):  # a warning, where somebody has made it an error
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name} is no image in a format that Pillow reads") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name} has more than {MAX_PIXELS:,} pixels: shrink it or cut it up first") from None
    except PermissionError:
        raise ImageError(f"{name} cannot be read: permission denied") from None
    except Exception as error:  # Pillow's plug-ins each raise their own
        raise ImageError(f"{name} cannot be opened ({error}): the file is truncated or damaged") from error


def _from_pil(image: Image.Image, name: str, *, may_modify: bool = False) -> np.ndarray:
    """`may_modify`: nobody else holds the image, so it may be turned in place."""
    width, height = image.size
    _check_size(height, width, name)
    try:
        image.load()
        if may_modify:
            ImageOps.exif_transpose(image, in_place=True)
            upright = image
        else:
            upright = ImageOps.exif_transpose(image)
        if upright.mode == "RGB" and "transparency" not in upright.info:
            return np.asarray(upright)
        if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
            return _from_array(_deep_grey(upright, name), name)
        if upright.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in upright.info:
            layered = upright.convert("RGBA")
            white = Image.new("RGBA", layered.size, "white")
            return np.asarray(Image.alpha_composite(white, layered).convert("RGB"))
        return np.asarray(upright.convert("RGB"))
    except (ImageError, MemoryError, Warning):  # a warning, where somebody has made it an error
        raise
    except Exception as error:  # Pillow's plug-ins each raise their own
        raise ImageError(f"{name} cannot be decoded ({error}): the file is truncated or damaged") from error


def _deep_grey(image: Image.Image, name: str) -> np.ndarray:
    """Pillow's 16 and 32-bit modes as an array of a kind that `_from_array` knows."""
    values = np.asarray(image)
    if image.mode == "F":
        return values
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(f"{name} has values from {low} to {high}: expected 16 bits, 0 to 65535; convert it first")
    return values.astype(np.uint16)


def _from_tensor(tensor: torch.Tensor) -> np.ndarray:
    import torch

    name = describe(tensor)
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
    return _from_array(values.permute(1, 2, 0).numpy(), name)


def _from_array(values: np.ndarray, name: str) -> np.ndarray:
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4):
        advice = "pass one image at a time"
        if values.ndim == 3:
            first = values.shape[0] in (1, 3, 4)
            advice = "move channels last" if first else _CHANNELS
        raise ImageError(f"expected an array (H, W), (H, W, 3) or (H, W, 4), got {name}: {advice}")
    _check_size(values.shape[0], values.shape[1], name)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype == np.uint16:
        if 1 < values.max() <= _TWELVE_BITS:
            used = int(values.max()).bit_length()
            warnings.warn(
                f"a 16-bit image uses {used} bits alone: it is read by its full range and looks nearly black; shift "
                f"all images of a camera alike, by what its own bits lack of 16 (for {used} values << {16 - used})",
                stacklevel=2,
            )
        values = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif np.issubdtype(values.dtype, np.floating):
        values = _unit_floats_to_bytes(values, name)
    elif values.dtype == bool:
        values = values.astype(np.uint8) * 255
    elif values.dtype != np.uint8:
        raise ImageError(f"expected uint8, uint16 or float in [0, 1], got {name}: convert it first")
    if values.shape[2] == 4:
        colour, alpha = values[..., :3].astype(np.uint32), values[..., 3:].astype(np.uint32)
        return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.repeat(values, 3, axis=2) if values.shape[2] == 1 else np.ascontiguousarray(values)


def _unit_floats_to_bytes(values: np.ndarray, name: str) -> np.ndarray:
    bad = np.count_nonzero(~np.isfinite(values))
    if bad:
        raise ImageError(f"{name} has {bad} NaN or infinite values: replace them first")
    low, high = float(values.min()), float(values.max())
    if low < -1e-3 or high > 1 + 1e-3:
        advice = "divide by 255" if low >= 0 and high <= 255 else "scale it to [0, 1]"
        raise ImageError(f"expected float values in [0, 1], got {low:g} to {high:g} in {name}: {advice}")
    return (values.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _check_size(height: int, width: int, name: str) -> None:
    if height == 0 or width == 0:
        raise ImageError(f"{name} has no pixels ({height} x {width})")
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"{name} has {height * width:,} pixels, the limit is {MAX_PIXELS:,}: shrink it or cut it up first"
        )
