"""TIFF in all its photometrics, depths, planes and byte orders; the files are written without a TIFF library."""

from __future__ import annotations

import numpy as np
import pytest
from image_files import as_bytes, ramps, scaled, tiff
from PIL import Image

from patchclip import ImageError
from patchclip.images.load import load_image

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8

#: Kinds of extra samples.
UNSPECIFIED, PREMULTIPLIED, ALPHA = 0, 1, 2

FOUR = ramps(channels=4)
COLOUR, GREY = FOUR[..., :3], FOUR[..., :1]

UNKNOWN = pytest.mark.filterwarnings("ignore:.*channels? beyond its colours")


def largest_difference(content: bytes, expected: np.ndarray) -> float:
    """From an image in [0, 1], in steps of 255."""
    found = load_image(content)
    assert found.shape == (*expected.shape[:2], 3)
    return float(np.abs(found - 255 * expected).max())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True])
def test_every_photometric(order: str, bits: int, planar: bool) -> None:
    inks = scaled(np.concatenate([COLOUR, 0 * GREY], axis=2), bits)
    cases = {
        RGB: (scaled(COLOUR, bits), COLOUR),
        CMYK: (inks, 1 - COLOUR),  # cyan takes away red
        BLACK_IS_ZERO: (scaled(GREY, bits), GREY),
        WHITE_IS_ZERO: (scaled(GREY, bits), 1 - GREY),
    }
    for photometric, (samples, expected) in cases.items():
        content = tiff(samples, photometric, order=order, planar=planar and samples.shape[2] > 1)
        assert largest_difference(content, expected) <= 1, photometric


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_fewer_bits(order: str, bits: int) -> None:
    highest = 2**bits - 1
    grey, colour = np.round(GREY * highest) / highest, np.round(COLOUR * highest) / highest
    colormap = np.linspace(0, 65535, 2**bits).astype(int).tolist() * 3
    samples = np.round(GREY * highest).astype(np.uint8)
    for photometric, expected in ((BLACK_IS_ZERO, grey), (WHITE_IS_ZERO, 1 - grey), (PALETTE, grey)):
        palette = colormap if photometric == PALETTE else None
        content = tiff(samples, photometric, bits=bits, order=order, colormap=palette)
        assert largest_difference(content, expected) <= 1
    samples = np.round(COLOUR * highest).astype(np.uint8)
    assert largest_difference(tiff(samples, RGB, bits=bits, order=order), colour) <= 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.int8, np.uint32, np.int32])
def test_other_numbers(order: str, kind: type) -> None:
    """Floats in [0, 1], signed ones up to their largest, those of 32 bits by 16."""
    highest = {np.int16: 32767, np.int8: 127, np.uint32: 65535, np.int32: 65535}.get(kind, 1)
    sample_format = 3 if highest == 1 else 1 if kind is np.uint32 else 2
    for expected, photometric in ((GREY, BLACK_IS_ZERO), (COLOUR, RGB)):
        samples = expected.astype(kind) if highest == 1 else np.round(expected * highest).astype(kind)
        content = tiff(samples, photometric, sample_format=sample_format, order=order)
        assert largest_difference(content, expected) <= 1.6


@pytest.mark.parametrize(
    ("samples", "sample_format", "reason"),
    [
        (np.array([[[-5], [7]]], np.int16), 2, "values from -5 to 7"),
        (np.array([[[0], [70000]]], np.uint32), 1, "values from 0 to 70000: expected 16 bits"),
        (np.array([[[0.0], [np.nan]]], np.float32), 3, "1 NaN"),
        (np.array([[[0.0], [200.0]]], np.float32), 3, "divide by 255"),
    ],
)
def test_numbers_without_a_range(samples: np.ndarray, sample_format: int, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        load_image(tiff(samples, BLACK_IS_ZERO, sample_format=sample_format))


@pytest.mark.parametrize("scale", [1, 257])
def test_palette_of_8_and_of_16_bits(scale: int) -> None:
    """The standard wants 16 bits; writers that put 8 bits there are common."""
    colormap = [scale * value for value in (*range(256), *range(255, -1, -1), *[128] * 256)]
    expected = np.concatenate([GREY, 1 - GREY, 0 * GREY + 128 / 255], axis=2)
    assert largest_difference(tiff(scaled(GREY, 8), PALETTE, colormap=colormap), expected) <= 0.51


@UNKNOWN
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extra", [None, [UNSPECIFIED], [UNSPECIFIED, UNSPECIFIED]])
def test_channels_that_are_not_called_alpha_are_ignored(planar: bool, bits: int, extra: list[int] | None) -> None:
    others = [GREY] * (1 if extra is None else len(extra))
    for expected, photometric in ((COLOUR, RGB), (GREY, BLACK_IS_ZERO)):
        samples = scaled(np.concatenate([expected, *others], axis=2), bits)
        assert largest_difference(tiff(samples, photometric, extra=extra, planar=planar), expected) <= 1


def test_ignored_channels_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"bytes> has 1 channel beyond its colours, of no known meaning"):
        load_image(tiff(scaled(FOUR, 8), RGB))
    with pytest.warns(UserWarning, match=r"has 2 channels beyond its colours"):
        load_image(tiff(scaled(np.concatenate([FOUR, GREY], axis=2), 16), RGB))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True])
def test_alpha_lies_over_white(bits: int, planar: bool) -> None:
    alpha = 0.2 + 0.8 * FOUR[..., 3:]
    for expected, photometric in ((COLOUR, RGB), (GREY, BLACK_IS_ZERO)):
        laid = expected * alpha + 1 - alpha
        straight = scaled(np.concatenate([expected, alpha], axis=2), bits)
        assert largest_difference(tiff(straight, photometric, extra=[ALPHA], planar=planar), laid) <= 2
        premultiplied = scaled(np.concatenate([expected * alpha, alpha], axis=2), bits)
        assert largest_difference(tiff(premultiplied, photometric, extra=[PREMULTIPLIED], planar=planar), laid) <= 2


@UNKNOWN
def test_alpha_after_another_channel() -> None:
    alpha = np.full_like(GREY, 0.5)
    samples = scaled(np.concatenate([COLOUR, GREY, alpha], axis=2), 16)
    content = tiff(samples, RGB, extra=[UNSPECIFIED, ALPHA])
    assert largest_difference(content, COLOUR * 0.5 + 0.5) <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [8, 16])
def test_orientation(orientation: int, bits: int) -> None:
    """The tag says where the first row and the first column of the file belong."""
    turns = {
        1: lambda image: image,
        2: lambda image: image[:, ::-1],
        3: lambda image: image[::-1, ::-1],
        4: lambda image: image[::-1],
        5: lambda image: image.transpose(1, 0, 2),
        6: lambda image: np.rot90(image, -1),
        7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
        8: lambda image: np.rot90(image),
    }
    content = tiff(scaled(COLOUR, bits), RGB, tags=[(274, 3, [orientation])])
    assert largest_difference(content, turns[orientation](COLOUR)) <= 1


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd"])
def test_compressions_of_pillow(compression: str) -> None:
    picture = Image.fromarray(scaled(np.kron(COLOUR, np.ones((8, 8, 1))), 8))
    found = load_image(as_bytes(picture, "TIFF", compression=compression))
    assert np.abs(found.astype(int) - np.asarray(picture)).mean() < (2 if compression == "jpeg" else 0.01)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_fax(compression: str) -> None:
    drawn = Image.fromarray(np.kron(np.eye(4), np.ones((8, 8))) > 0)
    found = load_image(as_bytes(drawn, "TIFF", compression=compression))
    np.testing.assert_array_equal(found[..., 0], np.asarray(drawn) * np.uint8(255))


def test_lab_and_ycbcr() -> None:
    for lab, expected in (((138, 209, 198), (255, 0, 0)), ((128, 128, 128), (119, 119, 119))):  # L* 54 and 50 of 100
        picture = Image.merge("LAB", [Image.new("L", (2, 2), value) for value in lab])
        assert np.abs(load_image(as_bytes(picture, "TIFF")).astype(int) - expected).max() <= 6
    ycbcr = Image.new("RGB", (8, 8), (200, 100, 50)).convert("YCbCr")
    raw = tiff(np.asarray(ycbcr), YCBCR, tags=[(530, 3, [1, 1])])
    assert np.abs(load_image(raw).astype(int) - [200, 100, 50]).max() <= 2
    assert np.abs(load_image(as_bytes(ycbcr, "TIFF")).astype(int) - [200, 100, 50]).max() <= 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(scaled(COLOUR, 16), LAB), "photometric interpretation 8, which is not read: save it as grey or RGB"),
        (tiff(scaled(FOUR, 16), CMYK, tags=[(332, 3, [2])]), "photometric interpretation 5"),  # inks of other names
        (
            tiff(scaled(COLOUR, 8), YCBCR, tags=[(530, 3, [2, 2])]),
            "photometric interpretation 6",
        ),  # half of the colours
        (tiff(scaled(COLOUR, 8), YCBCR), "photometric interpretation 6"),  # the same, by default
        (tiff(scaled(GREY, 16), RGB), "1 channels of 16 bits, photometric interpretation 2"),
        (tiff(scaled(GREY, 16), 32803), "photometric interpretation 32803"),  # a camera's raw mosaic
        (tiff(scaled(COLOUR, 8), RGB, tags=[(254, 4, [1]), (330, 4, [8])]), "is a thumbnail of another"),
    ],
)
def test_kinds_that_are_not_read(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        load_image(content)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True])
def test_missing_pixels_are_refused_at_every_length(bits: int, planar: bool) -> None:
    """The directory comes first here, so that it is whole."""
    content = tiff(scaled(COLOUR, bits), RGB, planar=planar)
    body = COLOUR.size * bits // 8
    first = int.from_bytes(content[4:8], "little")
    moved = bytearray(content)
    shift = len(content)
    directory = content[first:]
    moved += content[8 : 8 + body]  # the pixels again, at the end
    for index in range(len(directory) // 12):
        entry = first + 2 + 12 * index
        if int.from_bytes(moved[entry : entry + 2], "little") == 273:
            count = int.from_bytes(moved[entry + 4 : entry + 8], "little")
            place = int.from_bytes(moved[entry + 8 : entry + 12], "little") if count > 1 else entry + 8
            for strip in range(count):
                start = place + 4 * strip
                offset = int.from_bytes(moved[start : start + 4], "little") - 8 + shift
                moved[start : start + 4] = offset.to_bytes(4, "little")
    assert largest_difference(bytes(moved), COLOUR) <= 1
    for length in range(shift, len(moved), 7):
        with pytest.raises(ImageError, match="truncated or damaged"):
            load_image(bytes(moved[:length]))
