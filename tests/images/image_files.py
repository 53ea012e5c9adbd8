"""Image files and colour profiles written byte by byte, so that no library that reads them has also written them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

PNG_START = b"\x89PNG\r\n\x1a\n"


def as_bytes(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def ramps(height: int = 12, width: int = 16, channels: int = 3) -> np.ndarray:
    """(H, W, C) float64 from 0 to 1: to the right, down, to both, to the left."""
    down, right = np.mgrid[0:height, 0:width]
    parts = [right / (width - 1), down / (height - 1), (down + right) / (height + width - 2), 1 - right / (width - 1)]
    return np.stack(parts[:channels], axis=-1)


def scaled(values: np.ndarray, bits: int) -> np.ndarray:
    """[0, 1] -> whole numbers of that many bits."""
    kind = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    return np.round(values * (2**bits - 1)).astype(kind)


def tiff(
    samples: np.ndarray,
    photometric: int,
    *,
    planar: bool = False,
    extra: Sequence[int] | None = None,
    sample_format: int = 1,
    colormap: Sequence[int] | None = None,
    tags: Sequence[tuple[int, int, Sequence[int]]] = (),
    order: str = "<",
    bits: int | None = None,
) -> bytes:
    """An uncompressed TIFF of one strip, or one for each plane.

    Args:
        samples: (H, W, S).
        extra: kinds of the extra samples.
        tags: further (number, type, values); type 1 bytes, 3 shorts, 4 longs.
        order: "<" or ">".
        bits: of a sample, packed without gaps; None is all that its kind has.
    """
    height, width, channels = samples.shape
    stored = samples.astype(samples.dtype.newbyteorder(order))
    strips = [stored[..., index].tobytes() for index in range(channels)] if planar else [stored.tobytes()]
    if bits is not None:
        strips = [b"".join(packed_row(row, bits) for row in samples.reshape(height, -1))]
    body = b"".join(strips)
    starts = np.cumsum([8] + [len(strip) for strip in strips])[:-1]
    entries: list[tuple[int, int, Sequence[int]]] = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [bits or samples.dtype.itemsize * 8] * channels),
        (259, 3, [1]),
        (262, 3, [photometric]),
        (273, 4, starts.tolist()),
        (277, 3, [channels]),
        (278, 4, [height]),
        (279, 4, [len(strip) for strip in strips]),
        (284, 3, [2 if planar else 1]),
        (339, 3, [sample_format] * channels),
        *tags,
    ]
    if extra is not None:
        entries.append((338, 3, extra))
    if colormap is not None:
        entries.append((320, 3, colormap))
    directory, values = b"", b""
    values_start = 8 + len(body)
    for number, kind, content in sorted(entries):
        packed = struct.pack(f"{order}{len(content)}{ {1: 'B', 3: 'H', 4: 'I'}[kind] }", *content)
        if len(packed) > 4:
            place = struct.pack(f"{order}I", values_start + len(values))
            values += packed
            packed = place
        directory += struct.pack(f"{order}HHI", number, kind, len(content)) + packed.ljust(4, b"\0")
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, values_start + len(values))
    return start + body + values + struct.pack(f"{order}H", len(entries)) + directory + bytes(4)


def packed_row(row: np.ndarray, bits: int) -> bytes:
    """The highest bit first, padded to whole bytes."""
    digits = "".join(format(value, f"0{bits}b") for value in row.tolist())
    digits += "0" * (-len(digits) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(samples: np.ndarray, *, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG of 16 bits of (H, W, 1 to 4) uint16, with chunks before and after the pixels."""
    height, width, channels = samples.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    return PNG_START + header + before + chunk(b"IDAT", zlib.compress(rows)) + after + chunk(b"IEND", b"")


def psd(channels: np.ndarray, *, layers: int = 0) -> bytes:
    """An RGB PSD of (H, W, C) uint8.

    Args:
        layers: how many it says to have; below 0 the fourth channel is transparency.
    """
    height, width, count = channels.shape
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, count, height, width, 8, 3)
    section = struct.pack(">IIh", 6, 2, layers) if layers else struct.pack(">I", 0)
    return header + struct.pack(">II", 0, 0) + section + struct.pack(">H", 0) + channels.transpose(2, 0, 1).tobytes()


# --- colour profiles --------------------------------------------------------------------------------------------------

#: Of the white D50 of profiles.
_WHITE = (0.9642, 1.0, 0.8249)


def rgb_profile(gamma: float, primaries: Sequence[Sequence[float]]) -> bytes:
    """A profile of version 2.

    Args:
        primaries: X, Y, Z (D50) of red, of green and of blue.
    """
    tags = {b"wtpt": _xyz(_WHITE)}
    for name, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True):
        tags[name] = _xyz(values)
    for name in (b"rTRC", b"gTRC", b"bTRC"):
        tags[name] = _gamma(gamma)
    return _profile(b"RGB ", b"XYZ ", b"mntr", tags)


def grey_profile(gamma: float) -> bytes:
    """A profile of version 2."""
    return _profile(b"GRAY", b"XYZ ", b"mntr", {b"wtpt": _xyz(_WHITE), b"kTRC": _gamma(gamma)})


def cmyk_profile(lightness_of_ink: float) -> bytes:
    """A profile by a table: any full ink gives a grey of that lightness (0 to 1), no ink gives white."""
    corners = [255 if index == 0 else round(lightness_of_ink * 255) for index in range(16)]
    table = b"".join(bytes([lightness, 128, 128]) for lightness in corners)
    matrix = struct.pack(">9i", *(65536 * value for value in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    straight = bytes(range(256))
    content = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + straight * 4 + table + straight * 3
    return _profile(b"CMYK", b"Lab ", b"prtr", {b"wtpt": _xyz(_WHITE), b"A2B0": content, b"A2B1": content})


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _gamma(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _profile(space: bytes, connection: bytes, device: bytes, tags: dict[bytes, bytes]) -> bytes:
    description = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"a\0" + bytes(78)
    tags = {b"desc": description + bytes(-len(description) % 4), b"cprt": b"text\0\0\0\0none\0\0\0\0", **tags}
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(content), len(data))
        content += data
    header = struct.pack(">I4sI4s4s4s", start + len(content), b"none", 0x02400000, device, space, connection)
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(_WHITE)[8:]
    return header.ljust(128, b"\0") + table + content
