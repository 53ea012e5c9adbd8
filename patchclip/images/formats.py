"""The formats of image files that are read, and what their headers say beside what Pillow tells of it."""

from __future__ import annotations

import io
import struct
from typing import IO, cast

from PIL import Image
from PIL.ImageFile import ImageFile

from ..errors import ImageError
from . import arrays
from .jpeg2000 import read_header
from .limits import MAX_PAGES, MeteredFile, check_pixels

#: What is read, whatever a file's name ends in; "JPEG" includes MPO, "PPM" the other PNM and PFM. None of them runs
#: another program.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "AVIF", "JPEG2000", "PPM", "PSD", "ICO", "DIB", "PCX", "TGA")

#: Formats whose whole file Pillow reads to open it.
_READ_AT_ONCE = ("WEBP", "AVIF")

#: First bytes of an icon.
ICON = b"\0\0\1\0"
_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_ICONS = 256

#: Colour mode of a PSD.
_PSD_MULTICHANNEL = b"\0\7"

#: Of an MPO's index, the entries of its images.
_MPO_ENTRIES = 0xB002


def open_with_pillow(file: IO[bytes] | MeteredFile, prefix: bytes, name: str) -> ImageFile:
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
    raise unknown_format(name)


def unknown_format(name: str) -> ImageError:
    """The error of a file that none of the formats fits."""
    return ImageError(
        f"{name} is no image in a format that patchclip reads ({', '.join(FORMATS)}), or its header is damaged: "
        "convert it to PNG"
    )


def count_frames(opened: ImageFile, metered: MeteredFile) -> int:
    """Pictures in a file, without the previews of an MPO; `MAX_PAGES` stands for more."""
    if opened.format == "PSD":  # layers
        return 1
    if opened.format == "MPO":
        kinds = [entry["Attribute"]["MPType"] for entry in vars(opened)["mpinfo"][_MPO_ENTRIES]]
        return max(1, sum(not kind.startswith("Large Thumbnail") for kind in kinds))
    try:
        return int(getattr(opened, "n_frames", 1))
    except Exception:  # too many to count, or damage in a later frame; the first may be whole
        frames = 2 if metered.exceeded is None else MAX_PAGES
        metered.exceeded = None
        metered.allow_pixels(opened.width * opened.height)
        opened.seek(0)
        return frames


def open_icon(file: IO[bytes], name: str, *, max_pixels: int) -> tuple[IO[bytes], int]:
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


def check_psd(metered: MeteredFile, name: str) -> None:
    """Raise ImageError for a PSD that shows one of several inks."""
    metered.seek(24)
    if metered.read(2) == _PSD_MULTICHANNEL:
        raise ImageError(f"{name} is a PSD of separate inks, of which one alone would be read: save it as RGB")


def has_alpha(metered: MeteredFile, prefix: bytes, opened: ImageFile) -> bool:
    """Whether the last channel of a file is transparency, as its header says."""
    if opened.format == "TGA":
        return bool(prefix[17] & 0x0F)
    if opened.format == "JPEG2000":
        return read_header(metered).names_alpha
    if opened.format != "PSD":
        return True
    metered.seek(26)
    for _ in range(2):  # the sections of the colour table and of resources
        metered.seek(int.from_bytes(metered.read(4), "big"), 1)
    section = metered.read(10)  # its bytes, bytes of its layers, how many; below 0 where the first channel is alpha
    has_layers = len(section) == 10 and section[4:8] != bytes(4)
    return has_layers and int.from_bytes(section[8:], "big", signed=True) < 0


def without_alpha(image: Image.Image, name: str) -> Image.Image:
    """RGBA -> RGB, LA -> L: the last channel is no alpha, of which a warning is given where it is not all opaque."""
    if image.getchannel("A").getextrema() != (255, 255):
        arrays.warn_of_unknown_channels(1, name)
    return image.convert(image.mode[:-1])
