"""Files that would keep a decoder busy for minutes, or fill the memory: refused at once, with a remedy."""

from __future__ import annotations

import io
import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import PNG_START, as_bytes, chunk, ramps, scaled, tiff
from PIL import Image, ImageFile

from patchclip import ImageError
from patchclip.images.load import load_image

PICTURE = Image.fromarray(scaled(ramps(64, 64), 8))

EXCESS = "far more data than its picture needs.*save the picture again"


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PNG_START + header + b"".join(chunks) + chunk(b"IEND", b"")


def icon(content: bytes) -> bytes:
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(content), 22) + content


def jpeg_of_many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan follows again and again."""
    whole = as_bytes(Image.new("L", (64, 64), 128), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * count + b"\xff\xd9"


def jpeg_with(segment: bytes) -> bytes:
    whole = as_bytes(PICTURE, "JPEG")
    return whole[:2] + segment + whole[2:]


def gif_with(block: bytes) -> bytes:
    whole = as_bytes(PICTURE.quantize(16), "GIF")
    start = 13 + 3 * 16
    return whole[:start] + block + whole[start:]


def psd_of_many_resources() -> bytes:
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 64, 64, 8, 3)
    resources = b"8BIM" + bytes(8)
    return header + struct.pack(">II", 0, 12_000_000) + resources * 1_000_000 + bytes(64 * 64 * 3 + 6)


def deflate_bomb_in_tiff() -> bytes:
    """A strip of 16 x 12 pixels that unpacks to 200 MB."""
    content = bytearray(tiff(scaled(ramps(), 16), 2, tags=[]))
    bomb = zlib.compress(bytes(200_000_000), 9)
    first = int.from_bytes(content[4:8], "little")
    for index in range(int.from_bytes(content[first : first + 2], "little")):
        entry = first + 2 + 12 * index
        number = int.from_bytes(content[entry : entry + 2], "little")
        value = {259: 8, 273: len(content), 279: len(bomb)}.get(number)
        if value is not None:
            content[entry + 8 : entry + 12] = value.to_bytes(4, "little")
    return bytes(content) + bomb


PIXELS = chunk(b"IDAT", zlib.compress(bytes(64 * (64 * 3 + 1))))
EXIF = b"\xff\xe1\xff\xffExif\0\0" + bytes(65527)
ZEROS = zlib.compress(bytes(100_000_000), 9)

HOSTILE: dict[str, tuple[bytes, str]] = {
    "jpeg of 2,000 scans": (jpeg_of_many_scans(2000), "more than 64 scans: save it again"),
    "20 MB of exif": (jpeg_with(EXIF * 300), EXCESS),
    "empty segments": (jpeg_with(b"\xff\xfe\0\2" * 200_000), EXCESS),
    "fill bytes": (jpeg_with(b"\xff" * 200_000), EXCESS),
    "bytes between segments": (jpeg_with(b"\xff\xfe\0\2" + bytes(200_000)), EXCESS),
    "empty chunks": (png(64, 64, chunk(b"teXt", b"") * 200_000, PIXELS), EXCESS),
    "empty chunks of pixels": (png(64, 64, chunk(b"IDAT", b"") * 200_000, PIXELS), EXCESS),
    "text that unpacks to 100 MB": (png(64, 64, chunk(b"zTXt", b"a\0\0" + ZEROS), PIXELS), "too large"),
    "profile that unpacks to 100 MB": (png(64, 64, chunk(b"iCCP", b"a\0\0" + ZEROS), PIXELS), "too large"),
    "16-bit pixels that unpack to 100 MB": (
        PNG_START
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 12, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", ZEROS)
        + chunk(b"IEND", b""),
        "more data than pixels",
    ),
    "strip that unpacks to 200 MB": (deflate_bomb_in_tiff(), "truncated or damaged"),
    "png of 3.6 billion pixels": (png(60000, 60000, PIXELS), "3,600,000,000 pixels, the limit is 89,000,000"),
    "such a png in an icon": (icon(png(60000, 60000, PIXELS)), "3,600,000,000 pixels, the limit is 89,000,000"),
    "such a bitmap in an icon": (
        icon(struct.pack("<IiiHHIIiiII", 40, 60000, 120000, 1, 32, 0, 0, 0, 0, 0, 0)),
        "3,600,000,000 pixels, the limit is 89,000,000",
    ),
    "gif with 5 MB of comments": (gif_with(b"!\xfe" + (b"\xff" + b"a" * 255) * 20_000 + b"\0"), EXCESS),
    "bytes between the blocks of a gif": (gif_with(bytes(200_000)), EXCESS),
    "comment in a ppm": (b"P6\n#" + b"a" * 200_000 + b"\n4 4\n255\n" + bytes(48), EXCESS),
    "resources of a psd": (psd_of_many_resources(), EXCESS),
    "runs of a bmp": (
        b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078)
        + struct.pack("<IiiHHIIiiII", 40, 64, 64, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024) + b"\xff\1" * 9_000_000,
        EXCESS,
    ),
    "eps under another name": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n{}loop\n", "no image in a format"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    content, reason = HOSTILE[kind]
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    for given in (path, content, io.BytesIO(content)):
        started = time.process_time()
        with pytest.raises(ImageError, match=reason) as caught:
            load_image(given)
        assert time.process_time() - started < 5
    with pytest.raises(ImageError, match=r"photo\.png "):
        load_image(path)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TGA", "PPM", "GIF", "WEBP", "AVIF", "JPEG2000", "PCX"])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_sparse_file_of_2_gb(kind: str, share: float, tmp_path: Path) -> None:
    """As an interrupted download leaves it: room for all of it, and zeros where the picture should be."""
    content = as_bytes(PICTURE, kind)
    path = tmp_path / "photo.bin"
    with path.open("wb") as file:
        file.write(content[: int(share * len(content))])
        os.truncate(file.fileno(), 2 << 30)
    started = time.process_time()
    with pytest.raises(ImageError, match=r"photo\.bin "):
        load_image(path)
    assert time.process_time() - started < 5


def test_usual_metadata_is_read(tmp_path: Path) -> None:
    """Thumbnails with scans of their own, a long profile, a film after the picture, a progressive JPEG."""
    thumbnails = b"\xff\xe2" + struct.pack(">H", 2 + 4 * 100) + b"\xff\xda\0\1" * 100
    usual = jpeg_with(b"\xff\xe1\xff\xff" + b"http://ns.adobe.com/xmp/extension/\0".ljust(65533, b" ") + thumbnails)
    expected = load_image(as_bytes(PICTURE, "JPEG"))
    np.testing.assert_array_equal(load_image(usual + bytes(1_000_000)), expected)
    progressive = as_bytes(PICTURE, "JPEG", progressive=True)
    assert load_image(progressive[:2] + thumbnails + progressive[2:]).shape == (64, 64, 3)
    assert load_image(jpeg_of_many_scans(20)).shape == (64, 64, 3)


def test_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ImageError, match="is a pipe or a device: pass the bytes"):
            load_image(path)


@pytest.mark.parametrize("kind", ["SGI", "DDS", "EPS", "SPIDER", "MSP", "QOI"])
def test_formats_that_are_not_listed(kind: str, tmp_path: Path) -> None:
    picture = PICTURE.convert({"SPIDER": "F", "MSP": "1"}.get(kind, "RGB"))
    (tmp_path / "a.png").write_bytes(as_bytes(picture, kind))
    with pytest.raises(
        ImageError, match=r"a\.png is no image in a format that patchclip reads \(JPEG, PNG.*convert it"
    ):
        load_image(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened, pytest.raises(ImageError, match="no image in a format"):
        load_image(opened)


def test_globals_of_pillow_stay_as_they_are() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    load_image(as_bytes(PICTURE, "TIFF"), max_pixels=10**9)
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
