"""16-bit files that Pillow cuts to 8 bits, or decodes value by value in Python: PNG, JPEG 2000, PNM."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import MissingDependencyError
from . import arrays

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

    from .limits import MeteredFile

#: What `colour.to_rgb` reads from a picture's header.
_KEPT_INFO = ("icc_profile", "exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")

#: What the pixels of a PNG depend on; a decoder would unpack the others too.
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_START = b"\x89PNG\r\n\x1a\n"

#: Of 16-bit RGBA, compressed as badly as can be.
_PNG_BYTES_PER_PIXEL = 10
_PNG_OTHER_BYTES = 1 << 16

#: Start of a JPEG 2000 codestream, up to its sizes.
_CODESTREAM = b"\xff\x4f\xff\x51"

#: The colour space YCC in the header of a JPEG 2000 file.
_YCC = b"colr\x01\x00\x00\x00\x00\x00\x12"

_PLAIN_NUMBERS = re.compile(rb"[0-9\s]*")


def read_deep(file: MeteredFile, opened: ImageFile, name: str) -> Image.Image | None:
    """The picture of a file of more than 8 bits, as 8 bits a channel, with its header; None for others.

    Args:
        opened: the same file, opened by Pillow.

    Raises:
        MissingDependencyError: imagecodecs is not installed.
        Exception: truncated or damaged; decoders raise a dozen kinds.
    """
    samples = None
    if opened.format == "PNG":
        samples = _read_png(file)
    elif opened.format == "JPEG2000":
        samples = _read_jpeg2000(file, opened.size)
    elif opened.format == "PPM":
        samples = _read_pnm(file, opened)
    if samples is None:
        return None
    colour, alpha = samples, None
    if samples.shape[2] in (2, 4):
        colour, alpha = samples[..., :-1], samples[..., -1:]
    pixels = arrays.to_bytes(colour, name)
    if alpha is not None:
        pixels = np.concatenate([pixels, arrays.to_bytes(alpha, name, is_alpha=True)], axis=2)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if opened.format == "PNG":
        opened.getexif()  # it may follow the pixels
    image.info.update({key: opened.info[key] for key in _KEPT_INFO if key in opened.info})
    return image


def _codecs() -> Any:
    try:
        import imagecodecs
    except ImportError as error:
        raise MissingDependencyError("reading 16-bit files takes: pip install imagecodecs") from error
    return imagecodecs


def _read_png(file: MeteredFile) -> np.ndarray | None:
    """(H, W, 1 to 4) uint16."""
    file.seek(16)
    header = file.read(9)  # width, height, bits of a channel
    if header[8:] != b"\x10":
        return None
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    data_left = _PNG_OTHER_BYTES + _PNG_BYTES_PER_PIXEL * width * height
    kept = [_PNG_START]
    file.seek(len(_PNG_START))
    while len(start := file.read(8)) == 8:
        rest = file.read(int.from_bytes(start[:4], "big") + 4)
        if start[4:] in _PNG_CHUNKS:
            kept += [start, rest]
        data_left -= len(rest) * (start[4:] == b"IDAT")
        if data_left < 0:
            raise ValueError("it has more data than pixels")
        if start[4:] == b"IEND":
            break
    return _with_channels(_codecs().png_decode(b"".join(kept)))


def _read_jpeg2000(file: MeteredFile, size: tuple[int, int]) -> np.ndarray | None:
    """(H, W, 1, 3 or 4) uint16, scaled to its full range."""
    file.seek(0)
    data = file.read()
    start = data.find(_CODESTREAM)
    sizes = data[start + 8 : start + 24]
    width_height = tuple(int.from_bytes(sizes[index : index + 4], "big") for index in range(0, 16, 4))
    channels = int.from_bytes(data[start + 40 : start + 42], "big")
    components = {data[start + 42 + 3 * index : start + 45 + 3 * index] for index in range(channels)}
    if start < 0 or len(components) != 1 or channels not in (1, 3, 4) or _YCC in data[:start]:
        return None
    [component] = components  # bits - 1, and the distances of its samples
    if len(component) < 3 or not 8 <= component[0] < 16 or component[1:] != b"\1\1":
        return None
    if (width_height[0] - width_height[2], width_height[1] - width_height[3]) != size:
        raise ValueError("its header has another size than its picture")
    samples = _with_channels(_codecs().jpeg2k_decode(data, numthreads=1))
    highest = (2 << component[0]) - 1
    return (samples.astype(np.uint32) * 65535 // highest).astype(np.uint16)


def _read_pnm(file: MeteredFile, opened: ImageFile) -> np.ndarray | None:
    """(H, W, 1 or 3) uint16 for a maximum of 65535, scaled to uint8 for others."""
    codec, _, offset, arguments = opened.tile[0]
    if codec not in ("ppm", "ppm_plain"):
        return None
    is_bilevel = opened.mode == "1"  # 1 is black there
    mode, maximum = "1", 1
    if isinstance(arguments, tuple):
        mode, maximum = str(arguments[0]), int(arguments[1])
    if mode not in ("1", "L", "RGB"):
        return None
    width, height = opened.size
    channels = len(mode)
    count = width * height * channels
    file.seek(offset)
    if codec == "ppm":
        kind = np.dtype(">u2" if maximum > 255 else "u1")
        data = file.read(count * kind.itemsize)
        values = np.frombuffer(data, kind, len(data) // kind.itemsize)
    else:
        text = file.read()
        if b"#" in text:
            text = re.sub(rb"#[^\r\n]*", b"", text)
        if not _PLAIN_NUMBERS.fullmatch(text):
            raise ValueError("not all of its values are numbers")
        if is_bilevel:  # digits need no space between them
            values = ord("1") - np.frombuffer(text.translate(None, b" \t\n\v\f\r"), np.uint8)[:count]
        else:
            values = np.fromstring(text, np.int32, sep=" ")[:count]
    if len(values) < count:
        raise ValueError(f"{len(values):,} values in place of {count:,}")
    if values.max() > maximum:
        raise ValueError(f"values up to {values.max()}, above its maximum of {maximum}")
    values = values.reshape(height, width, channels)
    if maximum == 65535:
        return values.astype(np.uint16)
    return ((values.astype(np.uint32) * 255 + maximum // 2) // maximum).astype(np.uint8)


def _with_channels(samples: np.ndarray) -> np.ndarray:
    return samples if samples.ndim == 3 else samples[..., None]
