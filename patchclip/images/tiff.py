"""TIFF files that Pillow reads wrongly or not at all, by tifffile.

More than 8 bits, planes with other channels, palettes, channels of unknown meaning. Of 1,486 files of all photometrics,
depths, planes, byte orders and compressions, tifffile with imagecodecs gives the right samples of 1,482, OpenCV of 342
(186 wrong without an error), Pillow of 202.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from ..errors import ImageError, MissingDependencyError
from . import arrays
from .limits import MAX_PAGES, check_pixels

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

#: None, LZW, deflate (8 and 32946), PackBits, LZMA, ZSTD: these unpack to a size that is known beforehand.
_BYTE_COMPRESSIONS = (1, 5, 8, 32773, 32946, 34925, 50000)

#: Bytes of samples for each pixel that is allowed.
_MAX_BYTES_PER_PIXEL = 16

# photometric interpretations
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8

#: Photometric interpretation -> channels of colour.
_CHANNELS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _LAB: 3}

#: Those whose samples are decoded here.
_DECODED = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK)

#: Pillow warns of TIFF files with more.
_MANY_PIXELS = 89_000_000

# kinds of extra samples
_PREMULTIPLIED_ALPHA, _ALPHA = 1, 2

# sample formats
_UNSIGNED, _SIGNED = 1, 2

# bits of a page's kind
_REDUCED, _MASK = 1, 4

# numbers of tags
_ORIENTATION, _SUB_IFDS, _INK_SET, _SUBSAMPLING, _ICC_PROFILE = 274, 330, 332, 530, 34675

_SAVE_PLAINLY = "save it as grey or RGB of 8 or 16 bits"


class TiffPicture(NamedTuple):
    """A page of a file.

    Attributes:
        image: of 8 bits a channel, with its profile and orientation; None for one that Pillow reads right.
        pages: how many the file has, without reduced versions and masks; `MAX_PAGES` stands for more.
    """

    image: Image.Image | None
    pages: int


def is_tiff(prefix: bytes) -> bool:
    """Whether a file that starts so is a TIFF or a BigTIFF."""
    return prefix[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tiff(file: IO[bytes], name: str, *, max_pixels: int, page_index: int) -> TiffPicture:
    """Read a page, unless Pillow reads such pages right.

    Raises:
        ImageError: truncated, damaged, too large, or of a kind that is not read.
        MissingDependencyError: tifffile or imagecodecs is not installed.
    """
    try:
        import imagecodecs  # noqa: F401  # tifffile reads LZW with it alone
        import tifffile
    except ImportError as error:
        raise MissingDependencyError("reading TIFF files takes: pip install tifffile imagecodecs") from error
    file.seek(0)
    with _damage_reported(name), tifffile.TiffFile(file) as opened:
        page = opened.pages[page_index].aspage()
        pages = _count_pages(opened)
        check_pixels(page.imagelength, page.imagewidth, name, max_pixels=max_pixels)
        if page.subfiletype & _REDUCED and page_index == 0 and (pages > 1 or _SUB_IFDS in page.tags):
            raise ImageError(
                f"the first picture in {name} is a thumbnail of another: save that one as a file of its own"
            )
        if _is_plain(page):
            return TiffPicture(None, pages)
        _check(page, opened.filehandle.size, name, max_pixels=max_pixels)
        image = _decode(page, name)
        image.info["icc_profile"] = page.tags.valueof(_ICC_PROFILE)
        image.getexif()[_ORIENTATION] = page.tags.valueof(_ORIENTATION, default=1)
        return TiffPicture(image, pages)


@contextmanager
def _damage_reported(name: str) -> Iterator[None]:
    try:
        yield
    except (ImageError, MemoryError, Warning):  # a warning, where somebody has made it an error
        raise
    except Exception as error:  # tifffile and its codecs raise a dozen kinds
        raise ImageError(f"{name} cannot be decoded ({error}): the file is truncated or damaged") from error


def _count_pages(opened: TiffFile) -> int:
    pages = 1
    for index in range(1, MAX_PAGES):
        try:
            kind = opened.pages[index].aspage().subfiletype
        except Exception:  # the end, or damage there: the page that is read is another
            break
        pages += not kind & (_REDUCED | _MASK)
    if opened.is_imagej:  # one page may stand for many images
        images = (opened.imagej_metadata or {}).get("images")
        pages = max(pages, images) if isinstance(images, int) else pages
    return pages


def _check(page: TiffPage, file_size: int, name: str, *, max_pixels: int) -> None:
    """Raise ImageError for a page that is too large, or whose data is not all there."""
    tile_pixels = page.tilewidth * page.tilelength if page.is_tiled else 0
    if tile_pixels > max_pixels or page.nbytes > _MAX_BYTES_PER_PIXEL * max_pixels:
        raise ImageError(f"{name} has {page.nbytes:,} bytes of samples, or tiles that are larger: {_SAVE_PLAINLY}")
    if page.imagedepth > 1:
        raise ImageError(f"{name} is a volume of {page.imagedepth} slices: save the one you mean as a file of its own")
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    is_whole = len(segments) >= math.prod(page.chunked)
    if not is_whole or any(offset <= 0 or size <= 0 or offset + size > file_size for offset, size in segments):
        raise ImageError(f"{name} cannot be decoded (some of its pixels are missing): the file is truncated or damaged")


def _is_plain(page: TiffPage) -> bool:
    """Whether Pillow reads it right: 8 bits a channel or fewer, and no other channels."""
    photometric = int(page.photometric)
    if page.sampleformat != _UNSIGNED or photometric == _PALETTE:
        return False
    is_grey = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    if page.bitspersample != 8 and not (is_grey and page.bitspersample in (1, 2, 4)):
        return False
    if photometric == _YCBCR and page.compression == 1 and page.tags.valueof(_SUBSAMPLING) != (1, 1):
        return False
    can_decode = int(page.compression) in _BYTE_COMPRESSIONS
    if can_decode and photometric in _DECODED and page.imagewidth * page.imagelength > _MANY_PIXELS:
        return False
    extra_channels = page.samplesperpixel - _CHANNELS.get(photometric, 0)
    is_alpha = extra_channels == 1 and tuple(page.extrasamples) in ((_ALPHA,), (_PREMULTIPLIED_ALPHA,))
    return extra_channels == 0 or (is_alpha and not can_decode)


def _decode(page: TiffPage, name: str) -> Image.Image:
    """The picture of a page, 8 bits a channel."""
    photometric = int(page.photometric)
    has_colours = photometric in _DECODED and page.samplesperpixel >= _CHANNELS[photometric]
    has_other_inks = photometric == _CMYK and page.tags.valueof(_INK_SET, default=1) != 1
    if not has_colours or has_other_inks:
        raise ImageError(
            f"{name} has {page.samplesperpixel} channels of {page.bitspersample} bits, photometric interpretation "
            f"{photometric}, which is not read: {_SAVE_PLAINLY}"
        )
    if int(page.compression) not in _BYTE_COMPRESSIONS:
        raise ImageError(
            f"{name} has {page.samplesperpixel} channels of {page.bitspersample} bits in compression "
            f"{int(page.compression)}, which is not read: save it with LZW, deflate or none"
        )
    planes = page.asarray(squeeze=False, maxworkers=1)  # (planes, 1, H, W, channels)
    samples = np.moveaxis(planes[:, 0], 0, -2).reshape(*planes.shape[2:4], -1)  # (H, W, S)
    channels = _CHANNELS[photometric]
    if photometric == _PALETTE:
        colour = _look_up(samples[..., 0], page.colormap)
    else:
        has_range = photometric == _CMYK  # of inks: little of them is no sign of unused bits
        colour = _to_bytes(samples[..., :channels], page, name, has_range=has_range)
    if photometric == _WHITE_IS_ZERO:
        colour = 255 - colour
    alpha_index = _alpha_index(page, channels, name)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[colour.shape[2]]
    if alpha_index is None or mode == "CMYK":
        return _to_image(mode, colour)
    alpha = _to_bytes(samples[..., alpha_index : alpha_index + 1], page, name, has_range=True)
    if page.extrasamples[alpha_index - channels] == _PREMULTIPLIED_ALPHA:
        colour = _divide(colour, alpha)
    return _to_image(f"{mode}A", np.concatenate([colour, alpha], axis=2))


def _to_image(mode: str, pixels: np.ndarray) -> Image.Image:
    height, width = pixels.shape[:2]
    return Image.frombytes(mode, (width, height), pixels.tobytes())


def _look_up(indices: np.ndarray, colormap: np.ndarray | None) -> np.ndarray:
    """(H, W) -> (H, W, 3) uint8."""
    if colormap is None:
        raise ValueError("a palette without colours")
    if colormap.max() > 255:  # else its writer has put 8 bits into the 16
        colormap = colormap >> 8
    return colormap.astype(np.uint8)[:, indices.astype(np.intp)].transpose(1, 2, 0)


def _to_bytes(samples: np.ndarray, page: TiffPage, name: str, *, has_range: bool) -> np.ndarray:
    """Samples of any kind -> uint8, by the full range of their bits; floats by [0, 1].

    Args:
        has_range: no warning of bits that are not used.
    """
    bits = int(page.bitspersample)
    if samples.dtype.kind == "f" or samples.dtype == bool:
        return arrays.to_bytes(samples, name)
    if samples.dtype.kind not in "iu":
        raise ImageError(f"{name} has samples of {samples.dtype}: {_SAVE_PLAINLY}")
    if page.sampleformat == _SIGNED or bits > 16:
        highest_allowed = 65535 if bits > 16 else (1 << (bits - 1)) - 1
        low, high = int(samples.min()), int(samples.max())
        if low < 0 or high > highest_allowed:
            raise ImageError(
                f"{name} has values from {low} to {high}: expected 16 bits, 0 to {highest_allowed}; convert it first"
            )
        bits = min(16, bits - 1)
    if bits in (8, 16):
        return arrays.to_bytes(samples.astype(f"u{bits // 8}"), name, is_alpha=has_range)
    highest = (1 << bits) - 1
    wide = samples.astype(np.uint32) * 65535 // highest
    return arrays.to_bytes(wide.astype(np.uint16), name, is_alpha=has_range or page.sampleformat == _UNSIGNED)


def _alpha_index(page: TiffPage, channels: int, name: str) -> int | None:
    """The channel that is alpha by its tag; of others a warning is given."""
    kinds = [int(kind) for kind in page.extrasamples][: page.samplesperpixel - channels]
    alphas = [index for index, kind in enumerate(kinds) if kind in (_PREMULTIPLIED_ALPHA, _ALPHA)]
    others = page.samplesperpixel - channels - len(alphas[:1])
    if others:
        arrays.warn_of_unknown_channels(others, name)
    return channels + alphas[0] if alphas else None


def _divide(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colour that was multiplied by alpha -> as it was before; (H, W, C) and (H, W, 1) uint8."""
    opacity = np.maximum(alpha, 1).astype(np.uint32)
    divided = (colour.astype(np.uint32) * 255 + opacity // 2) // opacity
    return np.where(alpha > 0, divided.clip(0, 255), colour).astype(np.uint8)
