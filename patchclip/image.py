"""Anything a user has -> the upright RGB image a person sees -> normalised pixels."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.nn import functional as F

from .errors import ImageError

ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | np.ndarray | torch.Tensor"

#: Larger images are refused: decode them in parts, or shrink them first.
MAX_PIXELS = 89_000_000  # Pillow warns of more

#: Where no value of 16 bits is above it, they are those of a camera with 12 bits or fewer.
_TWELVE_BITS = 4095

#: What to do with other numbers of channels.
_CHANNELS = "keep one channel, or red, green and blue"


def describe(image: object) -> str:
    """A short name for messages."""
    if isinstance(image, (str, os.PathLike)):
        return str(image)
    if isinstance(image, bytes):
        return f"<{len(image)} bytes>"
    if isinstance(image, Image.Image):
        return getattr(image, "filename", "") or f"<PIL image {image.mode} {image.size[0]} x {image.size[1]}>"
    if isinstance(image, (np.ndarray, torch.Tensor)):
        return f"<{type(image).__name__} {tuple(image.shape)} {image.dtype}>"
    return f"<{type(image).__name__}>"


def load_image(image: ImageLike) -> np.ndarray:
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
    if isinstance(image, torch.Tensor):
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


def refuse_single(images: object, whose: str = "") -> None:
    """Raise ValueError for what is no row of images: one image, whose rows or letters would be taken for some."""
    stack = isinstance(images, (np.ndarray, torch.Tensor)) and images.ndim not in (0, 2, 3)  # or a row of paths
    if isinstance(images, (str, bytes, os.PathLike, Image.Image, np.ndarray, torch.Tensor)) and not stack:
        remedy = "put it into a list"
        if isinstance(images, (np.ndarray, torch.Tensor)) and images.ndim == 3 and min(images.shape[::2]) > 4:
            remedy += ", or give a stack of grey ones an axis of channels"
        raise ValueError(f"expected a list of images{whose}, got one, {describe(images)}: {remedy}")
    if isinstance(images, Mapping) or not (hasattr(images, "__iter__") or hasattr(images, "__getitem__")):
        remedy = ": put the images of all its classes into one" if isinstance(images, Mapping) else ""
        raise ValueError(f"expected a list of images{whose}, got {describe(images)}{remedy}")


def own_copy(image: ImageLike) -> ImageLike:
    """Whoever made an image may fill it anew, turn to another frame or close it, before a thread reads it or the
    result draws its overlay."""
    try:
        if isinstance(image, np.ndarray):
            return image.copy()
        if isinstance(image, Image.Image) and image.width * image.height <= MAX_PIXELS:  # or `load_image` refuses it
            copy = image.copy()
            vars(copy)["filename"] = getattr(image, "filename", "")  # for messages; Pillow's copy has none
            return copy
    except Exception:  # a picture is decoded to be copied; `load_image` will say what is wrong with it
        return image
    return image.clone() if isinstance(image, torch.Tensor) else image


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
            return _from_pil(opened, name, own=True)
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


def _from_pil(image: Image.Image, name: str, *, own: bool = False) -> np.ndarray:
    """`own`: the image is nobody else's and may be turned in place."""
    width, height = image.size
    _check_size(height, width, name)
    try:
        image.load()
        if own:
            ImageOps.exif_transpose(image, in_place=True)
        upright = image if own else ImageOps.exif_transpose(image)
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


def resize(
    image: np.ndarray, size_hw: tuple[int, int], interpolation: str = "bicubic", *, exact: bool = True
) -> np.ndarray:
    """(H, W, 3) uint8 -> (h, w, 3) uint8, antialiased, as open_clip's own preprocessing does.

    Args:
        exact: by Pillow, as there; else by torch, which is within one step of 255 of it and five times as fast.
    """
    if image.shape[:2] == size_hw:
        return image
    if not exact:
        pixels = torch.from_numpy(np.require(image, requirements="W")).permute(2, 0, 1)[None]  # torch wants to write
        small = F.interpolate(pixels, size_hw, mode=interpolation, antialias=True)
        return small[0].permute(1, 2, 0).numpy()
    method = Image.Resampling.BILINEAR if interpolation == "bilinear" else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize(size_hw[::-1], method))


def to_pixels(images: Sequence[np.ndarray], mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Images of one size -> the backbone's input.

    Args:
        images: B of (h, w, 3) uint8.
        mean, std: (3, 1, 1) float32, on the device of the result.

    Returns:
        (B, 3, h, w) float32, normalised.
    """
    stacked = torch.from_numpy(np.stack(images)).to(mean.device).permute(0, 3, 1, 2)  # (B, 3, h, w) uint8
    return (stacked.float() / 255 - mean) / std


def model_size(image_hw: tuple[int, int], side: int, patch: int, *, squash: bool) -> tuple[int, int]:
    """The size an image is resized to before the backbone: multiples of the patch, about side x side in area.

    Args:
        squash: always a square; else a rectangle of the image's own proportions and the square's area.

    Returns:
        (height, width) in pixels; a rectangle has at least three patches a side.
    """
    cells = max(1, round(side / patch))
    if squash:
        return cells * patch, cells * patch
    stretch = (image_hw[0] / image_hw[1]) ** 0.5
    rows = min(max(3, round(cells * stretch)), max(3, cells * cells // 3))
    columns = max(3, round(cells * cells / rows))
    return rows * patch, columns * patch


def augmented(image: np.ndarray, rotations: int, flips: bool) -> list[np.ndarray]:
    """The image itself, then its turned and mirrored copies for the bank.

    Args:
        image: (H, W, 3) uint8; rotations: 1, 2, 4 or 8 evenly spaced ones (8 mirrors at the border what a turn by
            45 degrees uncovers); flips: mirror each of them too.
    """
    turned = []
    for k in range(rotations):
        quarters, rest = divmod(8 * k // rotations, 2)
        copy = np.rot90(image, quarters)
        turned.append(_turn(copy, 45.0, 1.0) if rest else copy.copy())  # torch takes no negative strides
    return turned + [copy[:, ::-1].copy() for copy in turned] if flips else turned


def calibration_views(image: np.ndarray) -> list[np.ndarray]:
    """Six mild variations of one normal image: mirrored, turned by up to 4 degrees, 4 and 8 % closer.

    They stand in for other normal images when there is only one, and vary less than those would.
    """
    mirrored = [image[:, ::-1].copy(), image[::-1].copy()]
    moved = [_turn(image, 4.0, 1.0), _turn(image, -4.0, 1.0), _turn(image, 0.0, 1.08), _turn(image, 2.0, 1.04)]
    return mirrored + moved


def _turn(image: np.ndarray, degrees: float, scale: float) -> np.ndarray:
    import cv2

    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
