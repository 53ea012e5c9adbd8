"""What reading a file may cost: bytes and reads that a decoder is given, scans of a JPEG.

Decoders take minutes over small hostile files: thousands of scans, 100 MB of Exif, a million empty chunks, a file of
2 GB that holds a small picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from ..errors import ImageError

#: Pictures of a file beyond are not counted.
MAX_PAGES = 100

#: For the header: Exif, XMP, profiles and comments are in it.
_HEADER_BYTES = 16 << 20
_HEADER_READS = 20_000

#: Of a WebP or AVIF.
_WHOLE_BYTES = 1 << 27

#: For the pixels, beside those of the header: 16-bit RGBA takes 8 bytes each, a plain PPM 18.
_BYTES_PER_PIXEL = 20
_PIXEL_READS = 100_000
_PIXELS_PER_READ = 100

#: Scans of a JPEG, each a pass over all pixels; progressive ones of common encoders have about 10.
_MAX_SCANS = 64

# codes of markers
_SEQUENTIAL, _SCAN, _END, _TEMPORARY = (0xC0, 0xC1), 0xDA, 0xD9, 0x01

#: A marker in the compressed data of a JPEG: neither a stuffed byte, nor a fill byte, nor a restart.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def check_pixels(height: int, width: int, name: str, *, max_pixels: int) -> None:
    """Raise ImageError for no pixels, or more than a file may have."""
    if height <= 0 or width <= 0:
        raise ImageError(f"{name} has no pixels ({height} x {width})")
    if height * width > max_pixels:
        raise ImageError(
            f"{name} has {height * width:,} pixels, the limit is {max_pixels:,}: shrink it, cut it up, or raise "
            "max_pixels"
        )


class MeteredFile:
    """A binary file of which a decoder may read so much. It starts with what a header may take.

    Attributes:
        exceeded: the error that was raised; decoders swallow some.
    """

    def __init__(self, file: IO[bytes], name: str):
        self._file = file
        self._name = name
        self._bytes_left = _HEADER_BYTES
        self._reads_left = _HEADER_READS
        self.exceeded: ImageError | None = None

    def allow_whole(self) -> None:
        """For formats whose whole file is read to open it."""
        self._bytes_left, self._reads_left = _WHOLE_BYTES, _PIXEL_READS

    def allow_pixels(self, pixels: int) -> None:
        """For the data of so many pixels, whatever has been read before."""
        self._bytes_left = _HEADER_BYTES + _BYTES_PER_PIXEL * pixels
        self._reads_left = _PIXEL_READS + pixels // _PIXELS_PER_READ

    def check_size(self) -> None:
        """Raise ImageError for a file that is larger than what may be read: its pixels may be missing or elsewhere."""
        if self._file.seek(0, 2) > self._bytes_left:
            raise self._excess()

    def read(self, size: int = -1, /) -> bytes:
        """As that of any file.

        Raises:
            ImageError: more than the picture needs.
        """
        is_whole = size is None or size < 0
        data = self._file.read(self._bytes_left + 1 if is_whole else min(size, self._bytes_left + 1))
        self._bytes_left -= len(data)
        self._reads_left -= 1
        if self._bytes_left < 0 or self._reads_left < 0:
            self.exceeded = self._excess()
            raise self.exceeded
        return data

    def _excess(self) -> ImageError:
        return ImageError(
            f"{self._name} has far more data than its picture needs, as metadata or in small pieces: save the picture "
            "again, without the rest"
        )

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As that of any file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As that of any file."""
        return self._file.tell()


def check_scans(file: MeteredFile, name: str) -> None:
    """Raise ImageError for a JPEG of more scans than a picture needs."""
    file.seek(0)
    data = file.read()
    scans = channels = 0
    for code, start in _segments(data):
        if code in _SEQUENTIAL:
            channels = data[start + 7]
        if code != _SCAN:
            continue
        scans += 1
        if scans == 1:
            is_only = data[start + 2] == channels  # all channels at once: what follows is not read
            if is_only or data.count(bytes([0xFF, _SCAN])) <= _MAX_SCANS:
                return
        if scans > _MAX_SCANS:
            raise ImageError(f"{name} has more than {_MAX_SCANS} scans: save it again as an ordinary JPEG")


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Code of each marker of a JPEG and where its segment starts; markers within segments are of thumbnails."""
    position = 2
    while marker := _MARKER.search(data, position):
        code, start = data[marker.end() - 1], marker.end()
        if code == _END or start + 8 > len(data):
            return
        yield code, start
        position = start
        if code != _TEMPORARY:  # it alone has no length
            position += int.from_bytes(data[start : start + 2], "big")
