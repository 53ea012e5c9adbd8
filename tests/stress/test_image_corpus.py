"""Thousands of image files of all kinds against what was written into them.

`python -m pytest -m stress -s tests/stress/test_image_corpus.py` prints a line of figures for each test.
"""

from __future__ import annotations

import io
import itertools
import warnings
from collections import Counter
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from patchclip.images.formats import FORMATS
from patchclip.images.load import load_image

pytestmark = pytest.mark.stress

LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "JPEG2000")


def ramps(height: int, width: int) -> np.ndarray:
    """(H, W, 4) float64 in [0, 1], smooth, no two channels alike; the fourth from 0.4 to 1."""
    down, right = np.mgrid[0:height, 0:width]
    across, along = right / (width - 1), down / (height - 1)
    return np.stack([across, along, (across + along) / 2, 0.4 + 0.6 * across], axis=-1)


FOUR = ramps(24, 36)


def load_quietly(given: object) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_image(given)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return colour * alpha + 1 - alpha


# --- files by Pillow --------------------------------------------------------------------------------------------------


def pictures() -> dict[str, tuple[Image.Image, np.ndarray]]:
    """Mode -> a picture of that mode, and what it shows, (H, W, 3) in [0, 1]."""
    bytes_ = np.round(FOUR * 255).astype(np.uint8)
    rgb = Image.fromarray(bytes_[..., :3])
    grey = np.repeat(FOUR[..., :1], 3, axis=2)
    bilevel = Image.fromarray(bytes_[..., 0] > 127)
    palette = rgb.quantize(64)
    lab = ImageCms.profileToProfile(
        rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    lab.info.clear()
    wide = np.round(FOUR[..., 0] * 65535)
    in_white, grey_in_white = (over_white(colour, FOUR[..., 3:]) for colour in (FOUR[..., :3], grey))
    return {
        "1": (bilevel, np.repeat(np.asarray(bilevel)[..., None], 3, axis=2).astype(float)),
        "L": (Image.fromarray(bytes_[..., 0]), grey),
        "LA": (Image.fromarray(bytes_[..., [0, 3]]), grey_in_white),
        "P": (palette, np.asarray(palette.convert("RGB")) / 255),
        "RGB": (rgb, FOUR[..., :3]),
        "RGBX": (rgb.convert("RGBX"), FOUR[..., :3]),
        "RGBA": (Image.fromarray(bytes_), in_white),
        "RGBa": (Image.fromarray(bytes_).convert("RGBa"), in_white),
        "CMYK": (rgb.convert("CMYK"), FOUR[..., :3]),
        "YCbCr": (rgb.convert("YCbCr"), FOUR[..., :3]),
        "HSV": (rgb.convert("HSV"), FOUR[..., :3]),
        "LAB": (lab, FOUR[..., :3]),
        "I": (Image.fromarray(wide.astype(np.int32)), grey),
        "I;16": (Image.fromarray(wide.astype(np.uint16)), grey),
        "I;16B": (Image.fromarray(wide.astype(">u2")), grey),
        "F": (Image.fromarray(FOUR[..., 0].astype(np.float32)), grey),
    }


#: Where Pillow writes less than it was given: transparency that the format or its writer has no room for, and 16 bits
#: or floats that it clips.
WRITES_OTHERWISE = {
    *itertools.product(("LA", "RGBA", "RGBa"), ("BMP", "DIB", "PPM", "GIF", "JPEG2000")),
    *itertools.product(("I", "I;16", "I;16B", "F"), ("AVIF", "GIF", "WEBP", "JPEG2000")),
    *itertools.product(("I", "F"), ("ICO", "PNG")),
    ("LAB", "AVIF"),
}


def test_every_mode_and_format_of_pillow() -> None:
    Image.init()
    files, worst, wrong = Counter(), 0.0, []
    for mode, (picture, shown) in pictures().items():
        np.testing.assert_allclose(load_quietly(picture), shown * 255, atol=40 if mode == "LAB" else 6)
        for kind in (*FORMATS, "MPO"):
            options = {"sizes": [picture.size], "lossless": True} if kind == "ICO" else {}
            buffer = io.BytesIO()
            try:
                picture.copy().save(buffer, kind, **options)
            except Exception:  # a mode that it does not write
                continue
            found = load_quietly(buffer.getvalue())
            files[kind] += 1
            if (mode, kind) in WRITES_OTHERWISE:
                continue
            assert found.shape == shown.shape
            difference = float(np.abs(found - shown * 255).mean())
            worst = max(worst, difference)
            if difference > (6 if kind in LOSSY or kind == "GIF" or mode == "LAB" else 1.5):
                wrong.append((mode, kind, difference))
    print(f"\nfiles by Pillow: {files.total()} of {len(files)} formats, largest mean difference {worst:.2f} of 255")
    assert not wrong
    assert files.total() >= 80


def test_lossy_files_as_opencv_reads_them() -> None:
    rgb = np.round(np.kron(FOUR[..., :3], np.ones((4, 4, 1))) * 255).astype(np.uint8)
    files, worst = 0, 0.0
    for kind, quality, mode in itertools.product(("JPEG", "WEBP", "AVIF"), (30, 60, 90), ("RGB", "L")):
        for options in [{}, {"progressive": True}, {"subsampling": 0}] if kind == "JPEG" else [{}]:
            buffer = io.BytesIO()
            Image.fromarray(rgb).convert(mode).save(buffer, kind, quality=quality, **options)
            other = cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            found = load_quietly(buffer.getvalue())
            files += 1
            worst = max(worst, float(np.abs(found.astype(int) - other).mean()))
    print(f"\nlossy files: {files}, largest mean difference from OpenCV {worst:.2f} of 255")
    assert worst < 1.5


# --- files by tifffile ------------------------------------------------------------------------------------------------


def tiff_files() -> Iterator[tuple[str, bytes, np.ndarray]]:
    """Description, content, and what it shows, in all combinations that tifffile writes."""
    inks = np.concatenate([FOUR[..., :3], 0 * FOUR[..., :1]], axis=2)
    kinds = {
        "minisblack": (FOUR[..., :1], FOUR[..., :1], None),
        "miniswhite": (FOUR[..., :1], 1 - FOUR[..., :1], None),
        "rgb": (FOUR[..., :3], FOUR[..., :3], None),
        "rgb and one": (FOUR, FOUR[..., :3], ["unspecified"]),
        "rgb and two": (np.concatenate([FOUR, FOUR[..., :1]], axis=2), FOUR[..., :3], ["unspecified"] * 2),
        "rgb and alpha": (FOUR, over_white(FOUR[..., :3], FOUR[..., 3:]), ["unassalpha"]),
        "separated": (inks, 1 - FOUR[..., :3], None),
    }
    numbers = {"u1": 255, "u2": 65535, "u4": 65535, "f2": 1, "f4": 1, "f8": 1}
    for (name, (samples, shown, extra)), (number, highest) in itertools.product(kinds.items(), numbers.items()):
        scaled = samples * highest if highest == 1 else np.round(samples * highest)
        for planar, order, tile, compression in itertools.product(
            ("contig", "separate"), "<>", (None, (16, 16)), (None, "lzw", "zlib", "packbits", "lzma", "zstd")
        ):
            channels = samples.shape[2]
            if channels == 1 and planar == "separate":
                continue
            data = scaled.astype(number)
            data = data[..., 0] if channels == 1 else data.transpose(2, 0, 1) if planar == "separate" else data
            for predictor in (False, True) if compression in ("lzw", "zlib", "zstd") else (False,):
                buffer = io.BytesIO()
                try:
                    tifffile.imwrite(
                        buffer,
                        np.ascontiguousarray(data),
                        photometric=name.split()[0],
                        planarconfig=planar if channels > 1 else None,
                        byteorder=order,
                        tile=tile,
                        compression=compression,
                        predictor=predictor,
                        extrasamples=extra,
                        metadata=None,
                    )
                except (ValueError, NotImplementedError):  # predictors of some numbers
                    continue
                description = f"{name} {number} {planar} {order} {tile} {compression} {predictor}"
                yield description, buffer.getvalue(), np.broadcast_to(shown, (*shown.shape[:2], 3))


def test_every_tiff_of_tifffile() -> None:
    files, worst, wrong = 0, 0.0, []
    for description, content, shown in tiff_files():
        files += 1
        found = load_quietly(content)
        difference = float(np.abs(found - shown * 255).max()) if found.shape == shown.shape else np.inf
        worst = max(worst, difference)
        if difference > 2:
            wrong.append((description, difference))
    print(f"\nfiles by tifffile: {files}, {files - len(wrong)} right, largest difference {worst:.2f} of 255")
    assert not wrong
    assert files >= 1000


def test_files_above_the_limit_of_pillow() -> None:
    """180 million pixels, for those who raise max_pixels; Pillow's own `Image.open` refuses them."""
    large = Image.new("L", (16384, 11000), 77)
    kinds = {"PNG": {}, "JPEG": {}, "BMP": {}, "PPM": {}, "TIFF": {"compression": "tiff_lzw"}}
    for kind, options in kinds.items():
        buffer = io.BytesIO()
        large.save(buffer, kind, **options)
        found = load_image(buffer.getvalue(), max_pixels=200_000_000)
        assert found.shape == (11000, 16384, 3)
        assert (found[::1000, ::1000] == 77).all()
    print(f"\nfiles of 180 million pixels: {len(kinds)} right")
