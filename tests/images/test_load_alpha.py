"""Alpha: laid over white, and ignored with a warning where it would hide everything or is not alpha at all."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from image_files import as_bytes, png16, psd, ramps, scaled, tiff
from PIL import Image

from patchclip import ImageError
from patchclip.images.load import load_image

RGB = scaled(ramps(), 8)
HEIGHT, WIDTH = RGB.shape[:2]


def with_alpha(alpha: int | np.ndarray) -> np.ndarray:
    return np.concatenate([RGB, np.broadcast_to(np.uint8(alpha), (HEIGHT, WIDTH, 1))], axis=2)


def bmp_v4(rgba: np.ndarray) -> bytes:
    """32 bits with masks for all four channels, rows from the bottom up."""
    pixels = rgba[::-1, :, [2, 1, 0, 3]].tobytes()
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, WIDTH, HEIGHT, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks + bytes(52)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels


def tga(rgba: np.ndarray, *, alpha_bits: int) -> bytes:
    header = struct.pack("<BBB5xHHHHBB", 0, 0, 2, 0, 0, WIDTH, HEIGHT, 32, 0x20 | alpha_bits)  # rows from the top
    return header + rgba[:, :, [2, 1, 0, 3]].tobytes()


def palette_png() -> bytes:
    """Two colours, both transparent."""
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 10, 20, 0, 0, 255])
    palette.putdata([0, 1])
    return as_bytes(palette, transparency=b"\0\0")


def forms(rgba: np.ndarray) -> dict[str, object]:
    """The same picture as files, PIL images and arrays."""
    picture = Image.fromarray(rgba)
    wide = rgba.astype(np.uint16) * 257
    return {
        "png": as_bytes(picture),
        "png of 16 bits": png16(wide),
        "bmp": bmp_v4(rgba),
        "tga": tga(rgba, alpha_bits=8),
        "tiff": tiff(rgba, 2, extra=[2]),
        "tiff of 16 bits, planar": tiff(wide, 2, extra=[2], planar=True),
        "webp": as_bytes(picture, "WEBP", lossless=True, exact=True),
        "psd": psd(rgba, layers=-1),
        "pil": picture,
        "uint8": rgba,
        "uint16": wide,
        "float": rgba / 255,
    }


KINDS = list(forms(with_alpha(0)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [0, 1, 12])
def test_alpha_that_hides_everything_is_ignored(kind: str, alpha: int) -> None:
    """Frames of cameras in RGB32 have 0 in every fourth byte; laid over white, each would be a white image."""
    with pytest.warns(UserWarning, match=rf"transparent everywhere \(its alpha is {alpha} of 255 at most\)"):
        found = load_image(forms(with_alpha(alpha))[kind])
    np.testing.assert_allclose(found, RGB, atol=1)


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_that_shows_something_is_used(kind: str) -> None:
    alpha = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    alpha[0, 0], alpha[-1, -1] = 255, 128
    found = load_image(forms(with_alpha(alpha))[kind]).astype(float)
    expected = 255 + (RGB - 255.0) * alpha / 255
    np.testing.assert_allclose(found, expected, atol=1.5)


def test_grey_with_alpha_0() -> None:
    grey = np.dstack([RGB[..., 0], np.zeros((HEIGHT, WIDTH), np.uint8)])
    picture = Image.fromarray(grey)
    for given in (picture, as_bytes(picture), png16(grey.astype(np.uint16) * 257), tiff(grey, 1, extra=[2])):
        with pytest.warns(UserWarning, match="transparent everywhere"):
            np.testing.assert_array_equal(load_image(given), np.repeat(grey[..., :1], 3, axis=2))


def test_palette_of_transparent_colours() -> None:
    with pytest.warns(UserWarning, match="transparent everywhere"):
        assert load_image(palette_png()).tolist() == [[[200, 10, 20], [0, 0, 255]]]


def test_the_warning_names_the_file(tmp_path: Path) -> None:
    Image.fromarray(with_alpha(0)).save(tmp_path / "frame.png")
    with pytest.warns(UserWarning, match=r"frame\.png is transparent everywhere"):
        load_image(tmp_path / "frame.png")


@pytest.mark.parametrize("alpha", [0, 100])
def test_tga_that_declares_no_alpha(alpha: int) -> None:
    with pytest.warns(UserWarning, match="1 channel beyond its colours"):
        found = load_image(tga(with_alpha(alpha), alpha_bits=0))
    np.testing.assert_array_equal(found, RGB)


@pytest.mark.parametrize("layers", [0, 1])
def test_saved_selection_of_a_psd_is_no_alpha(layers: int) -> None:
    with pytest.warns(UserWarning, match="1 channel beyond its colours"):
        found = load_image(psd(with_alpha(100), layers=layers))
    np.testing.assert_array_equal(found, RGB)
    np.testing.assert_array_equal(load_image(psd(with_alpha(255), layers=layers)), RGB)
    np.testing.assert_array_equal(load_image(psd(RGB)), RGB)


@pytest.mark.parametrize("bits", [8, 16])
def test_fourth_channel_of_a_jpeg_2000(bits: int) -> None:
    """It is alpha where the file says so, in the box "cdef"; Pillow takes any fourth channel for it."""
    samples = with_alpha(100).astype(np.uint16) * 257 if bits == 16 else with_alpha(100)
    content = imagecodecs.jpeg2k_encode(samples, level=0, bitspersample=bits, codecformat="jp2")
    with pytest.warns(UserWarning, match="1 channel beyond its colours"):
        np.testing.assert_allclose(load_image(content), RGB, atol=1)
    if bits == 8:
        named = as_bytes(Image.fromarray(with_alpha(100)), "JPEG2000")
        np.testing.assert_allclose(load_image(named), 255 + (RGB - 255.0) * 100 / 255, atol=1.5)


def test_psd_of_separate_inks_is_refused() -> None:
    content = bytearray(psd(RGB))
    content[25] = 7  # its colour mode
    with pytest.raises(ImageError, match="PSD of separate inks"):
        load_image(bytes(content))


def test_fourth_byte_that_a_bmp_does_not_name_is_ignored() -> None:
    content = bytearray(bmp_v4(with_alpha(0)))
    content[14 + 52 : 14 + 56] = bytes(4)  # the mask of alpha
    np.testing.assert_array_equal(load_image(bytes(content)), RGB)
