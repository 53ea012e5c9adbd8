"""Files of more than 8 bits: every bit counts, and bits that are not used are warned of."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from image_files import as_bytes, chunk, png16, ramps, scaled, tiff
from PIL import Image

from patchclip import ImageError
from patchclip.images.load import load_image

RAMPS = ramps()
EIGHT_BITS = np.round(RAMPS * 255)


def pnm(samples: np.ndarray, maximum: int, *, plain: bool = False) -> bytes:
    height, width, channels = samples.shape
    magic = {(1, False): "P5", (3, False): "P6", (1, True): "P2", (3, True): "P3"}[channels, plain]
    header = f"{magic}\n# drawn\n{width} {height}\n{maximum}\n".encode()
    if plain:
        return header + " ".join(map(str, samples.ravel())).encode() + b"\n"
    return header + samples.astype(">u2" if maximum > 255 else "u1").tobytes()


def jpeg2000(samples: np.ndarray, bits: int) -> bytes:
    return imagecodecs.jpeg2k_encode(samples, level=0, bitspersample=bits, codecformat="jp2")


SIXTEEN = scaled(RAMPS, 16)

FULL_RANGE = {
    "png": png16(SIXTEEN),
    "tiff": tiff(SIXTEEN, 2),
    "tiff, big-endian": tiff(SIXTEEN, 2, order=">"),
    "tiff, planar": tiff(SIXTEEN, 2, planar=True),
    "tiff, planar, big-endian": tiff(SIXTEEN, 2, planar=True, order=">"),
    "ppm": pnm(SIXTEEN, 65535),
    "plain ppm": pnm(SIXTEEN, 65535, plain=True),
    "jpeg 2000": jpeg2000(SIXTEEN, 16),
    "array": SIXTEEN,
}


@pytest.mark.parametrize("kind", FULL_RANGE)
def test_colour_of_16_bits(kind: str) -> None:
    found = load_image(FULL_RANGE[kind])
    assert found.dtype == np.uint8
    assert found.shape == EIGHT_BITS.shape
    assert np.abs(found - EIGHT_BITS).max() <= 1


def test_16_bits_are_rounded_and_not_cut() -> None:
    """200 of 257 steps above a value of 8 bits is nearer to the next one; Pillow's high byte is the one below."""
    values = np.array([[[257 * 10 + 200, 257 * 20 - 100, 65535]]], np.uint16)
    for given in (png16(values), tiff(values, 2), pnm(values, 65535), values):
        assert load_image(given).tolist() == [[[11, 20, 255]]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("maximum", [1, 100, 1023, 4095, 40000])
@pytest.mark.parametrize("plain", [False, True])
def test_pnm_is_scaled_by_its_own_maximum(channels: int, maximum: int, plain: bool) -> None:
    values = np.round(RAMPS[..., :channels] * maximum).astype(np.int64)
    found = load_image(pnm(values, maximum, plain=plain))
    assert np.abs(found - values * 255 / maximum).max() <= 0.5 + 1e-6


def test_plain_bilevel_pnm() -> None:
    assert load_image(b"P1\n3 2\n# 1 is black\n0 1 0\n110\n")[..., 0].tolist() == [[255, 0, 255], [0, 0, 255]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pnm(SIXTEEN, 65535)[:-1], "values in place of"),
        (b"P3\n2 2\n255\n1 2 3 4", "4 values in place of 12"),
        (b"P2\n2 1\n255\n1 x", "not all of its values are numbers"),
        (b"P2\n2 1\n100\n1 200", "above its maximum of 100"),
        (b"P5\n2 1\n100\n\x01\xff", "above its maximum of 100"),
    ],
)
def test_damaged_pnm(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=rf"bytes> .*{reason}.*truncated or damaged"):
        load_image(content)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["png", "tif", "ppm", "jp2", "array"])
def test_few_of_16_bits_are_warned_of(bits: int, channels: int, kind: str, tmp_path: Path) -> None:
    values = scaled(RAMPS[..., :channels], bits)
    contents = {
        "png": png16,
        "tif": lambda samples: tiff(samples, 1 if channels == 1 else 2),
        "ppm": lambda samples: pnm(samples, 65535),
        "jp2": lambda samples: jpeg2000(samples if channels == 3 else samples[..., 0], 16),
    }
    path = tmp_path / f"camera.{kind}"
    given: object = path
    if kind == "array":
        given = values
    else:
        path.write_bytes(contents[kind](values))
    with pytest.warns(UserWarning, match=f"uses {bits} bits alone.*values << {16 - bits}") as heard:
        found = load_image(given)
    assert kind == "array" or str(path) in str(heard[0].message)
    assert found.max() == np.round((2**bits - 1) / 257)


def test_alpha_of_16_bits_is_no_sign_of_used_bits() -> None:
    values = np.concatenate([scaled(RAMPS, 12), np.full((*RAMPS.shape[:2], 1), 65535, np.uint16)], axis=2)
    for given in (values, png16(values), tiff(values, 2, extra=[2])):
        with pytest.warns(UserWarning, match="uses 12 bits alone"):
            load_image(given)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_range_that_the_file_names_needs_no_warning(bits: int) -> None:
    """12 bits in a JPEG 2000 or TIFF of 12 bits, and in a PPM with that maximum, are all of them."""
    values = scaled(RAMPS, bits)
    maximum = 2**bits - 1
    packed_tiffs = [tiff(values, 2, bits=bits, order=order) for order in "<>"]
    for content in (jpeg2000(values, bits), pnm(values, maximum), *packed_tiffs):
        assert np.abs(load_image(content) - EIGHT_BITS).max() <= 1
    grey = values[:, :-1, :1]  # an odd width: rows end within a byte
    for order in "<>":
        found = load_image(tiff(grey, 1, bits=bits, order=order))
        assert np.abs(found - EIGHT_BITS[:, :-1, :1]).max() <= 1


def test_dark_picture_of_16_bits_is_read() -> None:
    values = np.full((4, 4, 1), 16384, np.uint16)  # 15 bits
    assert (load_image(values) == 64).all()
    assert (load_image(np.zeros((4, 4), np.uint16)) == 0).all()


def test_16_bit_png_is_upright_also_where_exif_follows_the_pixels() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    block = chunk(b"eXIf", exif.tobytes()[6:])
    expected = np.rot90(load_image(png16(SIXTEEN)), -1)
    for content in (png16(SIXTEEN, before=block), png16(SIXTEEN, after=block)):
        np.testing.assert_array_equal(load_image(content), expected)


def test_16_bit_grey_png_with_a_transparent_value() -> None:
    values = np.full((4, 4, 1), 30000, np.uint16)
    values[1:3, 1:3] = 0
    found = load_image(png16(values, before=chunk(b"tRNS", b"\0\0")))
    assert found[0, 0].tolist() == [117, 117, 117]  # 30000 / 257
    assert found[1, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("channels", [2, 4])
def test_16_bit_png_with_alpha_lies_over_white(channels: int) -> None:
    values = np.zeros((1, 3, channels), np.uint16)
    values[0, :, -1] = [65535, 0, 257 * 51]
    assert load_image(png16(values))[0, :, 0].tolist() == [0, 255, 204]


def test_truncated_16_bit_png_is_refused_at_every_length() -> None:
    content = png16(SIXTEEN)
    for length in range(1, len(content) - 12):
        with pytest.raises(ImageError):
            load_image(content[:length])


def test_pil_images_of_16_bits(tmp_path: Path) -> None:
    """Opened and not decoded, a file is read as by its path; Pillow itself would cut it to 8 bits."""
    values = np.array([[[257 * 10 + 200, 257 * 20 - 100, 65535]]], np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(png16(values))
    with Image.open(path) as opened:
        assert load_image(opened).tolist() == [[[11, 20, 255]]]
    grey = Image.fromarray(SIXTEEN[..., 0])
    assert np.abs(load_image(grey)[..., 0] - EIGHT_BITS[..., 0]).max() <= 1
    assert np.abs(load_image(as_bytes(grey))[..., 0] - EIGHT_BITS[..., 0]).max() <= 1
