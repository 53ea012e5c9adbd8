"""16-bit files that Pillow cuts to 8 bits, or decodes value by value in Python: PNG, JPEG 2000, PNM."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import MissingDependencyError
from . import arrays
from .jpeg2000 import read_header, read_samples

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
        samples = _read_png(file, opened)
    elif opened.format == "JPEG2000":
        samples = _read_jpeg2000(file, opened)
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
    image.info.update({key: opened.info[key] for key in _KEPT_INFO if key in opened.info})
    return image


def _codecs() -> Any:
    try:
        import imagecodecs
    except ImportError as error:
        raise MissingDependencyError("reading 16-bit files takes: pip install imagecodecs") from error
    return imagecodecs


def _read_png(file: MeteredFile, opened: ImageFile) -> np.ndarray | None:
    """(H, W, 1 to 4) uint16."""
    file.seek(16)
    header = file.read(9)  # width, height, bits of a channel
    if header[8:] != b"\x10":
        return None
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    data_left = _PNG_OTHER_BYTES + _PNG_BYTES_PER_PIXEL * width * height
    kept = [_PNG_START]
    kinds = []
    file.seek(len(_PNG_START))
    while len(start := file.read(8)) == 8:
        rest = file.read(int.from_bytes(start[:4], "big") + 4)
        kind = start[4:]
        kinds.append(kind)
        if kind in _PNG_CHUNKS:
            kept += [start, rest]
        data_left -= len(rest) * (kind == b"IDAT")
        if data_left < 0:
            raise ValueError("it has more data than pixels")
        if kind == b"IEND":
            break
    samples = _with_channels(_codecs().png_decode(b"".join(kept)))
    if kinds[-2:] != [b"IDAT", b"IEND"]:
        opened.getexif()  # there may be some behind the pixels
    return samples


def _read_jpeg2000(file: MeteredFile, opened: ImageFile) -> np.ndarray | None:
    """(H, W, 1, 3 or 4) uint16. The profile, which Pillow does not read, goes to its picture."""
    header = read_header(file)
    if header.profile is not None:
        opened.info.setdefault("icc_profile", header.profile)
    if not 8 < header.bits <= 16 or header.channels not in (1, 3, 4) or header.is_ycc:
        return None
    if header.size != opened.size:
        raise ValueError("its header has another size than its picture")
    _codecs()
    return _with_channels(read_samples(file, header))


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
