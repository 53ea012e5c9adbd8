"""Colour profiles: converted to sRGB, relative colorimetric. Expected values are computed here from the profiles' own
numbers (https://www.color.org/specification/ICC.1-2001-04.pdf, and IEC 61966-2-1 for sRGB)."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from image_files import as_bytes, chunk, cmyk_profile, grey_profile, png16, ramps, rgb_profile, scaled
from PIL import Image, ImageCms

from patchclip.images.load import load_image

#: X, Y, Z at D50 of red, green and blue.
ADOBE = [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)]
SRGB = [(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]

PICTURE = scaled(0.25 + 0.5 * ramps(), 8)
WIDE = rgb_profile(2.2, ADOBE)


def encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light -> sRGB, both in [0, 1]."""
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def wide_to_srgb(image: np.ndarray) -> np.ndarray:
    light = (image / 255) ** 2.2 @ np.array(ADOBE) @ np.linalg.inv(np.array(SRGB))
    return 255 * encoded(light)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF", "pil"])
def test_rgb_profile(kind: str) -> None:
    smooth = np.kron(PICTURE, np.ones((8, 8, 1), np.uint8))
    picture = Image.fromarray(smooth)
    picture.info["icc_profile"] = WIDE
    options = {"quality": 100} if kind in ("JPEG", "WEBP", "AVIF") else {}
    given = picture if kind == "pil" else as_bytes(picture, kind, icc_profile=WIDE, **options)
    found = load_image(given)
    difference = np.abs(found - wide_to_srgb(smooth))
    assert np.median(difference) <= (1 if kind in ("PNG", "TIFF", "pil") else 3)
    assert np.abs(found - smooth.astype(float)).max() > 15  # it is another picture without the profile


@pytest.mark.parametrize("bits", [8, 16])
def test_profile_of_a_jpeg_2000(bits: int) -> None:
    """In place of the name of a colour space; Pillow does not read it."""
    samples = PICTURE.astype(np.uint16) * 257 if bits == 16 else PICTURE
    content = imagecodecs.jpeg2k_encode(samples, level=0, bitspersample=bits, codecformat="jp2")
    start = content.index(b"colr") - 4
    box = struct.pack(">I4s3B", 11 + len(WIDE), b"colr", 2, 0, 0) + WIDE
    header = content.index(b"jp2h") - 4
    longer = int.from_bytes(content[header : header + 4], "big") + len(box) - 15
    whole = content[:header] + longer.to_bytes(4, "big") + content[header + 4 : start] + box + content[start + 15 :]
    assert np.abs(load_image(whole) - wide_to_srgb(PICTURE)).max() <= 1.5


def test_16_bits_with_a_profile() -> None:
    block = chunk(b"iCCP", b"wide\0\0" + zlib.compress(WIDE))
    found = load_image(png16(PICTURE.astype(np.uint16) * 257, before=block))
    assert np.abs(found - wide_to_srgb(PICTURE)).max() <= 1.5


def test_alpha_with_a_profile() -> None:
    alpha = np.full((*PICTURE.shape[:2], 1), 51, np.uint8)
    given = as_bytes(Image.fromarray(np.concatenate([PICTURE, alpha], axis=2)), icc_profile=WIDE)
    expected = 255 + (wide_to_srgb(PICTURE) - 255) * 0.2
    assert np.abs(load_image(given) - expected).max() <= 1.5


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_profile(mode: str) -> None:
    grey = Image.fromarray(PICTURE[..., 0]).convert(mode)
    expected = 255 * encoded((PICTURE[..., 0] / 255) ** 1.5)
    found = load_image(as_bytes(grey, icc_profile=grey_profile(1.5)))
    assert np.abs(found - expected[..., None]).max() <= 1.5


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_profile(kind: str) -> None:
    """Full cyan is a grey of L* 25 by this profile, and (0, 255, 255) without."""
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    light = ((25 + 16) / 116) ** 3
    found = load_image(as_bytes(cyan, kind, icc_profile=cmyk_profile(0.25)))
    assert np.abs(found - 255 * encoded(np.float64(light))).max() <= 3
    assert np.abs(load_image(as_bytes(cyan, kind)).astype(int) - [0, 255, 255]).max() <= 2


def test_rgb_profile_of_a_grey_image() -> None:
    grey = Image.fromarray(PICTURE[..., 0])
    found = load_image(as_bytes(grey, icc_profile=WIDE))
    assert np.abs(found - wide_to_srgb(np.repeat(PICTURE[..., :1], 3, axis=2))).max() <= 1.5


def test_palette_with_a_profile() -> None:
    palette = Image.fromarray(PICTURE).quantize(16)
    expected = wide_to_srgb(np.asarray(palette.convert("RGB")))
    assert np.abs(load_image(as_bytes(palette, icc_profile=WIDE)) - expected).max() <= 1.5


def test_srgb_changes_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(load_image(as_bytes(Image.fromarray(PICTURE), icc_profile=srgb)), PICTURE)


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (b"no profile", "cannot open profile"),
        (WIDE[:200], "cannot open profile"),
        (grey_profile(1.5), "it is for L, the image is RGB"),
        (cmyk_profile(0.25), "it is for CMYK, the image is RGB"),
        (ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(), "a profile for Lab"),
    ],
)
def test_profile_that_cannot_be_used_is_warned_of(profile: bytes, reason: str, tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "photo.png", icc_profile=profile)
    with pytest.warns(UserWarning, match=rf"photo\.png has a colour profile that cannot be used \({reason}") as heard:
        found = load_image(tmp_path / "photo.png")
    assert len(heard) == 1
    np.testing.assert_array_equal(found, PICTURE)


def test_profile_of_a_jpeg_in_many_segments() -> None:
    long = WIDE + bytes(200_000)  # what follows the tags is not read
    picture = Image.fromarray(np.kron(PICTURE, np.ones((8, 8, 1), np.uint8)))
    found = load_image(as_bytes(picture, "JPEG", quality=100, icc_profile=long))
    assert np.median(np.abs(found - wide_to_srgb(np.asarray(picture)))) <= 2
