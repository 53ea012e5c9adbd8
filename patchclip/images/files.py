"""Image files, by path, bytes or open file -> the picture that they hold."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from ..errors import ImageError, PatchclipError
from . import colour
from .deep import read_deep
from .formats import (
    FORMATS,
    ICON,
    check_psd,
    count_frames,
    has_alpha,
    open_icon,
    open_with_pillow,
    unknown_format,
    without_alpha,
)
from .limits import MAX_PAGES, MeteredFile, check_pixels, check_scans
from .tiff import is_tiff, read_tiff

_PREFIX = 18


def read_file(source: Any, name: str, *, max_pixels: int) -> np.ndarray:
    """(H, W, 3) uint8 of a path, a bytes-like object or an open binary file.

    Raises:
        ImageError: see `load.load_image`.
    """
    with _faults_reported(name), _open_binary(source, name) as file:
        return _decode(file, name, max_pixels=max_pixels)


def read_picture(image: Image.Image, name: str, *, max_pixels: int) -> np.ndarray:
    """(H, W, 3) uint8 of a PIL image at its frame. One that is opened and not decoded yet is read as its file is.

    Raises:
        ImageError: see `load.load_image`.
    """
    if not isinstance(image, ImageFile) or _is_decoded(image):
        check_pixels(image.height, image.width, name, max_pixels=sys.maxsize)
        return colour.to_rgb(image, name, may_modify=False)
    frame = image.tell()
    source = image.fp
    if getattr(source, "closed", False):
        source = None
    is_whole = not image.decoderconfig  # else `draft` has asked for a smaller one
    with _faults_reported(name):
        if source is not None and is_whole and (frame == 0 or image.format == "TIFF"):
            with _position_kept(source) as file:
                return _decode(file, name, max_pixels=max_pixels, page_index=frame, announces_pages=False)
        if image.format not in (*FORMATS, "MPO"):
            raise unknown_format(name)
        check_pixels(image.height, image.width, name, max_pixels=max_pixels)
        if source is not None and image.format == "JPEG":
            with _position_kept(source) as file:
                metered = MeteredFile(file, name)
                metered.allow_pixels(image.width * image.height)
                check_scans(metered, name)
        try:
            return colour.to_rgb(image, name, may_modify=False)
        except ImageError:
            if source is not None:
                raise
            raise ImageError(
                f"{name} was closed before it was decoded: pass its path, or call its load() first"
            ) from None


def _is_decoded(image: ImageFile) -> bool:
    pixels = vars(image).get("_im", vars(image).get("im"))  # Pillow 11.1 renamed it
    return pixels is not None and not image.tile


# --- the ways to a binary file ----------------------------------------------------------------------------------------


@contextmanager
def _open_binary(source: Any, name: str) -> Iterator[IO[bytes]]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        if not len(source):
            raise ImageError("expected the bytes of an image file, got none")
        yield io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        _check_path(source, name)
        with open(source, "rb") as file:
            yield file
    elif isinstance(source, io.TextIOBase):
        raise ImageError(f'{name} is open as text: open it with mode "rb"')
    elif hasattr(source, "seekable") and source.seekable():
        with _position_kept(source) as file:
            yield file
    else:
        yield io.BytesIO(source.read())


@contextmanager
def _position_kept(file: IO[bytes]) -> Iterator[IO[bytes]]:
    position = file.tell()
    try:
        yield file
    finally:
        file.seek(position)


def _check_path(source: str | os.PathLike[str], name: str) -> None:
    if not os.fspath(source):
        raise ImageError("expected the path of an image, got an empty one")
    path = Path(source)
    if path.is_dir():
        raise ImageError(f"{name} is a folder: pass the images in it")
    if not path.exists():
        raise ImageError(f"{name} does not exist")
    if not path.is_file():
        raise ImageError(f"{name} is a pipe or a device: pass the bytes that come from it")
    if path.stat().st_size == 0:
        raise ImageError(f"{name} is empty (0 bytes)")


@contextmanager
def _faults_reported(name: str) -> Iterator[None]:
    """Every error of opening a file is an ImageError that names it."""
    try:
        yield
    except (PatchclipError, MemoryError, Warning):  # a warning, where somebody has made it an error
        raise
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name} has more pixels than Pillow decodes: shrink it, cut it up or save it as TIFF"
        ) from None
    except PermissionError:
        raise ImageError(f"{name} cannot be read: permission denied") from None
    except Exception as error:  # Pillow's plug-ins each raise their own
        raise ImageError(f"{name} cannot be opened ({error}): the file is truncated or damaged") from error


# --- decoding ---------------------------------------------------------------------------------------------------------


def _decode(
    file: IO[bytes], name: str, *, max_pixels: int, page_index: int = 0, announces_pages: bool = True
) -> np.ndarray:
    """(H, W, 3) uint8 of an open file.

    Args:
        page_index: of a TIFF.
        announces_pages: warn of further pages.
    """
    file.seek(0)
    prefix = file.read(_PREFIX)
    image: Image.Image | None
    if is_tiff(prefix):
        image, pages = read_tiff(file, name, max_pixels=max_pixels, page_index=page_index)
        if image is None:
            image = open_with_pillow(file, prefix, name)
            image.seek(page_index)
        metered = None
    else:
        pages = 1
        if prefix.startswith(ICON):
            file, pages = open_icon(file, name, max_pixels=max_pixels)
            prefix = file.read(_PREFIX)
        metered = MeteredFile(file, name)
        image, frames = _decode_metered(metered, prefix, name, max_pixels=max_pixels)
        pages = max(pages, frames)
    rgb = colour.to_rgb(image, name, may_modify=True)
    if metered is not None and metered.exceeded is not None:  # a decoder has swallowed it
        raise metered.exceeded
    if announces_pages and pages > 1:
        warnings.warn(
            f"{name} holds {pages} pictures{' or more' * (pages >= MAX_PAGES)}: the first one alone is read; pass the "
            "others one by one, as PIL images or files",
            stacklevel=2,
        )
    return rgb


def _decode_metered(metered: MeteredFile, prefix: bytes, name: str, *, max_pixels: int) -> tuple[Image.Image, int]:
    """The picture of a file that is no TIFF, decoded when it is asked for its pixels, and the number of pictures."""
    opened = open_with_pillow(metered, prefix, name)
    pixels = opened.width * opened.height
    check_pixels(opened.height, opened.width, name, max_pixels=max_pixels)
    metered.allow_pixels(pixels)
    if opened.format == "PSD":
        check_psd(metered, name)
    frames = count_frames(opened, metered)
    if frames == 1 and opened.format != "PSD":  # which has layers
        metered.allow_pixels(pixels)
        metered.check_size()
    if opened.format in ("JPEG", "MPO"):
        metered.allow_pixels(pixels)
        check_scans(metered, name)
    metered.allow_pixels(pixels)
    image = read_deep(metered, opened, name) or opened
    metered.allow_pixels(pixels)
    if image.mode in ("RGBA", "LA") and not has_alpha(metered, prefix, opened):
        image.load()
        image = without_alpha(image, name)
    return image, frames
