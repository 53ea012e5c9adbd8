"""JPEG 2000: what Pillow does not read of it, which is profiles, what a fourth channel is, and more than 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .limits import MeteredFile

#: Start of a codestream, up to the segment of sizes.
_CODESTREAM = b"\xff\x4f\xff\x51"

#: Boxes of the header: a profile, the colour space YCC, and the meaning of channels.
_PROFILE, _YCC, _MEANINGS = b"colr\x02", b"colr\x01\0\0\0\0\0\x12", b"cdef"


class Header(NamedTuple):
    """Of a file.

    Attributes:
        start: of the codestream, in bytes.
        size: width and height in pixels.
        channels: how many.
        bits: of every channel, which has a sample for each pixel; 0 for others.
        names_alpha: whether it says what its channels mean.
        is_ycc: whether its colours are YCC.
        profile: its colour profile; None without.
    """

    start: int
    size: tuple[int, int]
    channels: int
    bits: int
    names_alpha: bool
    is_ycc: bool
    profile: bytes | None


def read_header(file: MeteredFile) -> Header:
    """Read what precedes the pixels.

    Raises:
        ValueError: there is no picture in it.
    """
    file.seek(0)
    data = file.read()
    start = data.find(_CODESTREAM)
    if start < 0:
        raise ValueError("it has no codestream")
    boxes = data[:start]
    fields = np.frombuffer(data, ">u4", 4, start + 8).tolist() if len(data) >= start + 24 else [0] * 4
    channels = int.from_bytes(data[start + 40 : start + 42], "big")
    components = {data[start + 42 + 3 * index : start + 45 + 3 * index] for index in range(channels)}
    bits = 0
    if len(components) == 1:
        [component] = components  # bits - 1, with the sign above them; distances of its samples
        is_unsigned_and_full = len(component) == 3 and component[0] < 128 and component[1:] == b"\1\1"
        bits = component[0] + 1 if is_unsigned_and_full else 0
    profile = None
    if (found := boxes.find(_PROFILE)) >= 4:
        length = int.from_bytes(boxes[found - 4 : found], "big")
        profile = boxes[found + 7 : found - 4 + length]
    size = (fields[0] - fields[2], fields[1] - fields[3])
    return Header(start, size, channels, bits, _MEANINGS in boxes, _YCC in boxes, profile)


def read_samples(file: MeteredFile, header: Header) -> np.ndarray:
    """(H, W, 1, 3 or 4) uint16, scaled to its full range."""
    import imagecodecs

    file.seek(header.start)  # behind the boxes: with them it would apply the profile too
    samples = imagecodecs.jpeg2k_decode(file.read(), numthreads=1)
    highest = (1 << header.bits) - 1
    return (samples.astype(np.uint32) * 65535 // highest).astype(np.uint16)
