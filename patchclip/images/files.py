"""Image files, by path, bytes or open file -> the picture that they hold."""

from __future__ import annotations

import io
import os
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from ..errors import ImageError, PatchclipError
from . import colour
from .deep import read_deep
from .limits import MeteredFile, check_pixels, check_scans
from .tiff import MAX_PAGES, is_tiff, read_tiff

#: What is read, whatever a file's name ends in; "JPEG" includes MPO, "PPM" the other PNM and PFM. None runs another
#: program, and none is decoded in Python alone.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "AVIF", "JPEG2000", "PPM", "PSD", "ICO", "DIB", "PCX", "TGA")

#: Formats whose whole file Pillow reads to open it.
_READ_AT_ONCE = ("WEBP", "AVIF")

_PREFIX = 18
_ICON = b"\0\0\1\0"
_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_ICONS = 256

#: Of an MPO's index, the entries of its images.
_MPO_ENTRIES = 0xB002


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
    if source is not None and source.closed:
        source = None
    is_whole = not image.decoderconfig  # else `draft` has asked for a smaller one
    with _faults_reported(name):
        if source is not None and is_whole and (frame == 0 or image.format == "TIFF"):
            with _position_kept(source) as file:
                return _decode(file, name, max_pixels=max_pixels, page_index=frame, announces_pages=False)
        if image.format not in (*FORMATS, "MPO"):
            raise _unknown_format(name)
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
    elif source.seekable():
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
            image = _open_with_pillow(file, prefix, name)
            image.seek(page_index)
        metered = None
    else:
        pages = 1
        if prefix.startswith(_ICON):
            file, pages = _open_icon(file, name, max_pixels=max_pixels)
            prefix = file.read(_PREFIX)
        metered = MeteredFile(file, name)
        image, frames = _decode_metered(metered, prefix, name, max_pixels=max_pixels)
        pages = max(pages, frames)
    rgb = colour.to_rgb(image, name, may_modify=True)
    if metered is not None and metered.exceeded is not None:  # a decoder has swallowed it
        raise metered.exceeded
    if announces_pages and pages > 1:
        warnings.warn(
            f"{name} holds {pages} pictures{' or more' * (pages == MAX_PAGES)}: the first one alone is read; pass the "
            "others one by one, as PIL images or files",
            stacklevel=2,
        )
    return rgb


def _decode_metered(metered: MeteredFile, prefix: bytes, name: str, *, max_pixels: int) -> tuple[Image.Image, int]:
    """The picture of a file that is no TIFF, decoded when it is asked for its pixels, and the number of pictures."""
    opened = _open_with_pillow(metered, prefix, name)
    pixels = opened.width * opened.height
    check_pixels(opened.height, opened.width, name, max_pixels=max_pixels)
    metered.allow_pixels(pixels)
    frames = _count_frames(opened)
    if frames == 1 and opened.format != "PSD":  # which has layers
        metered.allow_pixels(pixels)
        metered.check_size()
    if opened.format in ("JPEG", "MPO"):
        metered.allow_pixels(pixels)
        check_scans(metered, name)
    metered.allow_pixels(pixels)
    image = read_deep(metered, opened, name)
    if image is not None:
        return image, frames
    metered.allow_pixels(pixels)
    if opened.mode == "RGBA" and not _has_alpha(metered, prefix, opened):
        return _without_alpha(opened, name), frames
    return opened, frames


def _open_with_pillow(file: IO[bytes] | MeteredFile, prefix: bytes, name: str) -> ImageFile:
    """As `Image.open` does with `formats=`, but without its limit of pixels, which is a global of Pillow's."""
    Image.preinit()
    for format_name in FORMATS:
        if format_name not in Image.OPEN:
            Image.init()
        if format_name not in Image.OPEN:  # an older Pillow
            continue
        factory, accepts = Image.OPEN[format_name]
        accepted = accepts(prefix) if accepts is not None else True
        if not accepted or isinstance(accepted, str):  # what this Pillow was built without
            continue
        if isinstance(file, MeteredFile) and format_name in _READ_AT_ONCE:
            file.allow_whole()
        file.seek(0)
        try:
            opened = factory(cast("IO[bytes]", file), "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # another format's
            if isinstance(file, MeteredFile) and file.exceeded is not None:
                raise file.exceeded from None
            continue
        return opened
    raise _unknown_format(name)


def _unknown_format(name: str) -> ImageError:
    return ImageError(
        f"{name} is no image in a format that patchclip reads ({', '.join(FORMATS)}), or its header is damaged: "
        "convert it to PNG"
    )


def _count_frames(opened: ImageFile) -> int:
    """Pictures in a file: frames of an animation, images of an MPO without its previews."""
    if opened.format == "PSD":  # layers
        return 1
    try:
        if opened.format == "MPO":
            kinds = [entry["Attribute"]["MPType"] for entry in vars(opened)["mpinfo"][_MPO_ENTRIES]]
            return sum(not kind.startswith("Large Thumbnail") for kind in kinds)
        return int(getattr(opened, "n_frames", 1))
    except Exception:  # damage in a later frame: the first may be whole
        return 2


def _open_icon(file: IO[bytes], name: str, *, max_pixels: int) -> tuple[IO[bytes], int]:
    """The file of the largest picture in an icon, where that is a PNG, else the icon; the number of pictures."""
    file.seek(4)
    count = int.from_bytes(file.read(2), "little")
    entries = [file.read(16) for _ in range(min(count, _MAX_ICONS))]
    if not entries or len(entries[-1]) < 16:
        raise ImageError(f"{name} has no icons in it: the file is truncated or damaged")
    largest = min(entries, key=_icon_order)
    size, offset = struct.unpack("<II", largest[8:16])
    file.seek(offset)
    header = file.read(16)
    file.seek(offset)
    if header.startswith(_PNG):
        return io.BytesIO(file.read(size)), count
    width, height = struct.unpack("<ii", header[4:12])
    check_pixels(abs(height) // 2, width, name, max_pixels=max_pixels)
    file.seek(0)
    return file, count


def _icon_order(entry: bytes) -> tuple[int, int]:
    """As Pillow chooses: the largest first."""
    width, height, bits = entry[0] or 256, entry[1] or 256, int.from_bytes(entry[6:8], "little")
    return -width * height, bits or 256


def _has_alpha(metered: MeteredFile, prefix: bytes, opened: ImageFile) -> bool:
    """Whether the fourth channel of a file is transparency, as its header says."""
    if opened.format == "TGA":
        return bool(prefix[17] & 0x0F)
    if opened.format != "PSD":
        return True
    metered.seek(26)
    for _ in range(2):  # the sections of the colour table and of resources
        metered.seek(int.from_bytes(metered.read(4), "big"), 1)
    section = metered.read(10)  # its bytes, bytes of its layers, how many; below 0 where the first channel is alpha
    has_layers = len(section) == 10 and section[4:8] != bytes(4)
    return has_layers and int.from_bytes(section[8:], "big", signed=True) < 0


def _without_alpha(opened: ImageFile, name: str) -> Image.Image:
    opened.load()
    if opened.getchannel("A").getextrema() != (255, 255):
        warnings.warn(
            f"{name} has 1 channel beyond its colours, of no known meaning: ignored",
            stacklevel=2,
        )
    return opened.convert("RGB")
