"""Anything a user has -> the upright RGB image that a person sees."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from ..errors import ImageError
from .arrays import from_array, from_tensor
from .files import read_file, read_picture

if TYPE_CHECKING:
    import torch

ImageLike: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | np.ndarray | torch.Tensor"
)

#: Files with more pixels are refused, unless `max_pixels=` allows them.
MAX_PIXELS = 89_000_000


class UnusableImage(NamedTuple):
    """What `snapshot` gives for an image that cannot be decoded; `load_image` raises its error."""

    error: ImageError


def _is_bytes(image: object) -> bool:
    return isinstance(image, (bytes, bytearray, memoryview))


def _is_file(image: object) -> bool:
    return hasattr(image, "read")


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
    if _is_bytes(image):
        return f"<{len(image)} bytes>"
    if isinstance(getattr(image, "name", None), str) and _is_file(image):
        return image.name
    if isinstance(image, Image.Image):
        return getattr(image, "filename", "") or f"<PIL image {image.mode} {image.size[0]} x {image.size[1]}>"
    if _is_array(image):
        return f"<{type(image).__name__} {tuple(image.shape)} {image.dtype}>"
    return f"<{type(image).__name__}>"


def load_image(image: Any, *, max_pixels: int | None = None) -> np.ndarray:
    """The upright sRGB image, as a person sees it.

    A file is read as JPEG, MPO, PNG, TIFF, BMP, GIF, WebP, AVIF, JPEG 2000, PNM, PFM, PSD, ICO, PCX or TGA
    (`formats.FORMATS`), whatever its name ends in. EXIF orientation is applied, colours are converted to sRGB by
    the file's profile, transparency is laid over white, and 16 bits become 8 by their full range. Of a file of several
    pages or frames the first is read; a PIL image gives the frame it is at. A warning names the file where that may not
    be what was meant: further pages, 14 bits of 16 or fewer in use, a profile that is damaged, alpha that would hide
    everything, channels of unknown meaning.

    Args:
        image: a path; the bytes of a file; an open binary file, read from its start (it stays open, at its position);
            a PIL image; a numpy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16 (full range) or float
            in [0, 1]; or a torch tensor (3, H, W) or (1, H, W) of the same kinds. Channels are red, green, blue: of
            OpenCV's BGR arrays pass `image[..., ::-1]`, since nothing in an array tells their order.
        max_pixels: that a file may have; None is `MAX_PIXELS`. What is decoded already has no limit.

    Returns:
        (H, W, 3) uint8; an array of that kind is given back as it is.

    Raises:
        ImageError: not an image, in another format, truncated, damaged, empty, more than `max_pixels`, far more data
            than pixels, NaN or infinite, or out of range.
    """
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if isinstance(image, UnusableImage):
        raise image.error
    if _is_tensor(image):
        return from_tensor(image, describe(image))
    if isinstance(image, np.ndarray):
        return from_array(image, describe(image))
    if isinstance(image, Image.Image):
        return read_picture(image, describe(image), max_pixels=limit)
    if isinstance(image, (str, os.PathLike)) or _is_bytes(image) or _is_file(image):
        return read_file(image, describe(image), max_pixels=limit)
    raise ImageError(
        "expected a path, bytes, an open file, a PIL image, a numpy array or a torch tensor; got "
        f"{type(image).__name__}"
    )


def require_several(images: Any, whose: str = "") -> None:
    """Raise ValueError for one image where several belong: its rows or letters would be taken for images.

    Args:
        whose: for the message, as " for class 'bottle'".
    """
    is_array = _is_array(images)
    is_stack = is_array and images.ndim not in (0, 2, 3)  # of images, or a row of paths
    is_file = _is_bytes(images) or _is_file(images)
    is_single = is_array or is_file or isinstance(images, (str, os.PathLike, Image.Image))
    if is_single and not is_stack:
        remedy = "put it into a list"
        if is_array and images.ndim == 3 and min(images.shape[::2]) > 4:
            remedy += ", or give a stack of grey ones an axis of channels"
        raise ValueError(f"expected a list of images{whose}, got one, {describe(images)}: {remedy}")
    if isinstance(images, Mapping) or not (hasattr(images, "__iter__") or hasattr(images, "__getitem__")):
        remedy = ": put the images of all its classes into one" if isinstance(images, Mapping) else ""
        raise ValueError(f"expected a list of images{whose}, got {describe(images)}{remedy}")


def snapshot(image: Any, *, max_pixels: int | None = None) -> Any:
    """An image that does not change: the owner of an array, a PIL image or an open file may overwrite it, seek to
    another frame or close it before a thread reads it or the result draws its overlay.

    Args:
        max_pixels: see `load_image`.

    Returns:
        A copy; paths and bytes as they are; PIL images and files decoded, or `UnusableImage`.
    """
    if isinstance(image, np.ndarray):
        return image.copy()
    if _is_tensor(image):
        return image.clone()
    if isinstance(image, io.BytesIO):
        return image.getvalue()
    if isinstance(image, (bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, Image.Image) or _is_file(image):
        try:
            return load_image(image, max_pixels=max_pixels)
        except ImageError as error:
            return UnusableImage(error)
    return image


def list_images(
    images: Any, whose: str = "", *, max_pixels: int | None = None, keep: Callable[..., Any] = snapshot
) -> list[Any]:
    """Several images as a list: those of a sequence as they are, of an iterator snapshots, since what it yields may be
    overwritten by its next item.

    Args:
        whose: see `require_several`; max_pixels: see `load_image`.
        keep: `snapshot`, or what does the same for an image with more beside it.

    Raises:
        ValueError: one image in place of several.
    """
    require_several(images, whose)
    if isinstance(images, Sequence):
        return list(images)
    return [keep(image, max_pixels=max_pixels) for image in images]


def fingerprint(image: np.ndarray) -> str:
    """The same for the same pixels: 16 hexadecimal digits of (H, W, 3) uint8."""
    return hashlib.blake2b(image.tobytes(), digest_size=8, key=repr(image.shape).encode()).hexdigest()
