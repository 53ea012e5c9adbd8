"""Thousands of damaged image files: never a crash, a hang or another error than ImageError, and alike in all forms.

`python -m pytest -m stress -s tests/stress/test_image_mutations.py` prints a line of figures.
"""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from patchclip import ImageError
from patchclip.images.load import load_image, snapshot

pytestmark = pytest.mark.stress

MUTATIONS_OF_A_KIND = 120


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


def whole_files() -> dict[str, bytes]:
    """Kind -> a file of it, with metadata where the kind has any."""
    rgb = Image.fromarray(np.round(np.kron(FOUR[..., :3], np.ones((2, 2, 1))) * 255).astype(np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(np.round(np.kron(FOUR[..., 3], np.ones((2, 2))) * 255).astype(np.uint8)))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    marked = {"icc_profile": profile, "exif": exif}
    by_pillow = {
        "jpeg": (rgb, "JPEG", marked),
        "progressive jpeg": (rgb, "JPEG", {"progressive": True}),
        "cmyk jpeg": (rgb.convert("CMYK"), "JPEG", {}),
        "mpo": (rgb, "MPO", {"save_all": True, "append_images": [rgb]}),
        "png": (rgba, "PNG", marked),
        "palette png": (rgb.quantize(64), "PNG", {"transparency": 3}),
        "apng": (rgb, "PNG", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        "gif": (rgb.quantize(64), "GIF", {"save_all": True, "append_images": [rgb.rotate(90).quantize(64)]}),
        "webp": (rgba, "WEBP", marked),
        "avif": (rgb, "AVIF", marked),
        "jpeg 2000": (rgb, "JPEG2000", {}),
        "bmp": (rgb, "BMP", {}),
        "ico": (rgba, "ICO", {"sizes": [(16, 16), (32, 32)]}),
        "tga": (rgba, "TGA", {"compression": "tga_rle"}),
        "pcx": (rgb, "PCX", {}),
        "ppm": (rgb, "PPM", {}),
        "tiff, lzw": (rgb, "TIFF", {"compression": "tiff_lzw", "icc_profile": profile}),
        "tiff, jpeg": (rgb, "TIFF", {"compression": "jpeg"}),
        "tiff, fax": (rgb.convert("1"), "TIFF", {"compression": "group4"}),
    }
    files = {}
    for kind, (picture, name, options) in by_pillow.items():
        buffer = io.BytesIO()
        picture.copy().save(buffer, name, **options)
        files[kind] = buffer.getvalue()
    wide = np.round(FOUR * 65535).astype(np.uint16)
    files["png of 16 bits"] = cv2.imencode(".png", wide)[1].tobytes()
    files["ppm of 16 bits"] = cv2.imencode(".ppm", wide[..., :3])[1].tobytes()
    for name, options in {
        "tiff of 16 bits": {},
        "tiff of 16 bits, lzw": {"compression": "lzw", "predictor": True},
        "tiff of 16 bits, planes of tiles": {"planarconfig": "separate", "tile": (16, 16), "compression": "zlib"},
    }.items():
        data = (
            wide[..., :3] if "planarconfig" not in options else np.ascontiguousarray(wide[..., :3].transpose(2, 0, 1))
        )
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, data, photometric="rgb", metadata=None, **options)
        files[name] = buffer.getvalue()
    psd = b"8BPS\0\1" + bytes(6) + b"\0\3" + (24).to_bytes(4, "big") + (36).to_bytes(4, "big") + b"\0\x08\0\3"
    files["psd"] = psd + bytes(14) + (wide[..., :3] >> 8).astype(np.uint8).transpose(2, 0, 1).tobytes()
    return files


def mutated(content: bytes, draw: random.Random) -> bytes:
    """One of: cut short, bits flipped, bytes overwritten, removed, repeated, or set to extremes."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 5))):
        place = draw.randrange(len(data))
        length = draw.choice((1, 2, 4, 16, 64))
        way = draw.randrange(6)
        if way == 0:
            del data[max(1, place) :]
        elif way == 1:
            data[place] ^= 1 << draw.randrange(8)
        elif way == 2:
            data[place : place + length] = draw.randbytes(length)
        elif way == 3:
            del data[place : place + length]
        elif way == 4:
            data[place:place] = data[place : place + length]
        else:
            data[place : place + length] = draw.choice((b"\0", b"\xff", b"\x7f")) * length
        data = data or bytearray(1)
    return bytes(data)


def outcome(given: object) -> tuple[str, np.ndarray | None]:
    try:
        return "read", load_quietly(given)
    except ImageError:
        return "refused", None


def check_mutations(kind: str, count: int) -> dict[str, float]:
    """Every form of a mutated file has the same outcome; runs in a process of its own, which a decoder may kill."""
    whole = whole_files()[kind]
    draw = random.Random(kind)
    found = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutated.bin"
        for _ in range(count):
            content = mutated(whole, draw)
            path.write_bytes(content)
            started = time.process_time()
            verdict, pixels = outcome(content)
            slowest = max(slowest, time.process_time() - started)
            found[verdict] += 1
            forms: list[object] = [path, io.BytesIO(content)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    forms.append(Image.open(io.BytesIO(content)))
                except Exception:  # Pillow's plug-ins each raise their own
                    found["not opened by Pillow"] += 1
            for given in forms:
                assert outcome(snapshot(given))[0] == verdict
                again, same_pixels = outcome(given)
                assert again == verdict
                assert pixels is None or np.array_equal(same_pixels, pixels)
    return {**found, "slowest_s": slowest}


def test_mutated_files() -> None:
    figures, slowest, broken = Counter(), 0.0, []
    for kind in whole_files():
        command = [sys.executable, __file__, kind, str(MUTATIONS_OF_A_KIND)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            broken.append((kind, "hangs"))
            continue
        if done.returncode != 0:
            broken.append((kind, done.returncode, done.stderr[-1000:]))
            continue
        counts = json.loads(done.stdout.splitlines()[-1])
        slowest = max(slowest, counts.pop("slowest_s"))
        figures.update(counts)
    total = figures["read"] + figures["refused"]
    print(
        f"\nmutated files: {total} of {len(whole_files())} kinds, {figures['refused']} refused alike in all forms, "
        f"{figures['read']} read alike, slowest {slowest:.2f} s, {len(broken)} crashes or wrong errors"
    )
    assert not broken
    assert total >= 3000


if __name__ == "__main__":
    print(json.dumps(check_mutations(sys.argv[1], int(sys.argv[2]))))
