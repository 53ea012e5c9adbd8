"""Files of several pages or frames: the first is read, and a warning says how many there are."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from image_files import as_bytes, ramps, scaled, tiff
from PIL import Image, ImageSequence

from patchclip import Detector
from patchclip.images.load import load_image, snapshot

COLOURS = ["red", "lime", "blue"]
FRAMES = [Image.new("RGB", (16, 8), colour) for colour in COLOURS]
RED, LIME, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]


def several(kind: str, frames: list[Image.Image] = FRAMES, **options: object) -> bytes:
    first, *others = (frame.copy() for frame in frames)  # saving leaves marks on an image
    return as_bytes(first, kind, save_all=True, append_images=others, **options)


def joined(*pages: bytes) -> bytes:
    """TIFF files by `tiff`, of one size and kind, as pages of one file."""
    whole = bytearray(pages[0])
    link = len(whole) - 4  # where the place of the next directory is
    for page in pages[1:]:
        shift = len(whole)
        moved = bytearray(page)
        first = int.from_bytes(moved[4:8], "little")
        for index in range(int.from_bytes(moved[first : first + 2], "little")):
            entry = first + 2 + 12 * index
            number = int.from_bytes(moved[entry : entry + 2], "little")
            kind = int.from_bytes(moved[entry + 2 : entry + 4], "little")
            count = int.from_bytes(moved[entry + 4 : entry + 8], "little")
            is_outside = count * {3: 2, 4: 4}[kind] > 4
            places = [entry + 8] if is_outside or number == 273 else []
            if number == 273 and is_outside:  # the strips themselves
                start = int.from_bytes(moved[entry + 8 : entry + 12], "little")
                places += [start + 4 * strip for strip in range(count)]
            for place in places:
                value = int.from_bytes(moved[place : place + 4], "little") + shift
                moved[place : place + 4] = value.to_bytes(4, "little")
        whole[link : link + 4] = (shift + first).to_bytes(4, "little")
        whole += moved
        link = len(whole) - 4
    return bytes(whole)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP", "AVIF", "MPO"])
def test_first_of_several_with_a_warning(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "several.bin"
    path.write_bytes(several(kind))
    with pytest.warns(UserWarning, match=r"several\.bin holds 3 pictures: the first one alone is read") as heard:
        found = load_image(path)
    assert len(heard) == 1
    assert np.abs(found[2, 2].astype(int) - RED).max() <= 3
    load_image(as_bytes(FRAMES[0].copy(), kind))  # a single one brings no warning


def test_icon_of_several_sizes() -> None:
    picture = Image.new("RGB", (64, 64), "red")
    with pytest.warns(UserWarning, match="holds 2 pictures"):
        found = load_image(as_bytes(picture, "ICO", sizes=[(16, 16), (64, 64)]))
    assert found.shape == (64, 64, 3)
    assert load_image(as_bytes(picture, "ICO", sizes=[(64, 64)], bitmap_format="bmp"))[0, 0].tolist() == RED


def test_more_pages_than_are_counted() -> None:
    with pytest.warns(UserWarning, match="holds 100 pictures or more"):
        load_image(several("TIFF", [Image.new("L", (2, 2), value) for value in range(120)]))
    whole = as_bytes(Image.new("P", (2, 2)), "GIF")
    frame = whole[whole.rindex(b",") : -1]
    with pytest.warns(UserWarning, match="holds 100 pictures or more"):
        assert load_image(whole[:-1] + frame * 40_000 + b";").shape == (2, 2, 3)


def test_stack_of_imagej() -> None:
    """It may have one directory for all its images, and say in words how many there are."""
    page = bytearray(tiff(scaled(ramps(channels=1), 8), 1, tags=[(270, 1, b"ImageJ=1.53\nimages=7\nslices=7\n\0")]))
    page[page.index(struct.pack("<HH", 270, 1)) + 2] = 2  # text
    with pytest.warns(UserWarning, match="holds 7 pictures"):
        load_image(bytes(page))


@pytest.mark.parametrize("kind", [1, 4, 5])
def test_smaller_versions_and_masks_are_no_pages(kind: int) -> None:
    """As pyramids and Photoshop write them."""
    page = tiff(scaled(ramps(), 8), 2)
    smaller = tiff(scaled(ramps(6, 8), 8), 2, tags=[(254, 4, [kind])])
    assert load_image(joined(page, smaller, smaller)).shape == (12, 16, 3)
    with pytest.warns(UserWarning, match="holds 2 pictures"):
        load_image(joined(page, smaller, page))


def test_second_image_of_an_mpo_that_is_a_preview() -> None:
    content = bytearray(several("MPO", FRAMES[:2]))
    start = content.index(b"MPF\0") + 4
    assert content[start : start + 2] == b"II"
    entries = content.index(b"\x02\xb0\x07\x00", start)  # the tag of the entries
    place = start + int.from_bytes(content[entries + 8 : entries + 12], "little")
    content[place + 16 : place + 20] = (0x010001).to_bytes(4, "little")  # "Large Thumbnail (VGA Equivalent)"
    assert np.abs(load_image(bytes(content))[2, 2].astype(int) - RED).max() <= 3


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP", "AVIF", "MPO"])
def test_pil_image_gives_the_frame_it_is_at(kind: str) -> None:
    for take in (load_image, lambda image: load_image(snapshot(image))):
        with Image.open(io.BytesIO(several(kind))) as opened:
            for index, colour in ((2, BLUE), (0, RED), (1, LIME)):
                opened.seek(index)
                assert np.abs(take(opened)[2, 2].astype(int) - colour).max() <= 3
                assert opened.tell() == index


def test_frames_of_a_16_bit_tiff_are_read_with_all_bits() -> None:
    first, second = (np.full((4, 4, 3), 257 * value + 200, np.uint16) for value in (100, 200))
    pages = joined(tiff(first, 2, planar=True), tiff(second, 2, planar=True))
    with Image.open(io.BytesIO(pages)) as opened:
        found = [load_image(snapshot(frame))[0, 0].tolist() for frame in ImageSequence.Iterator(opened)]
    assert found == [[101, 101, 101], [201, 201, 201]]


def test_frames_of_an_animation_in_a_stream(tiny: Detector) -> None:
    with Image.open(io.BytesIO(several("GIF"))) as opened:
        results = list(tiny.predict_batch(ImageSequence.Iterator(opened), progress=False))
    assert [result.image[2, 2].tolist() for result in results] == [RED, LIME, BLUE]


def test_damage_in_a_later_frame_leaves_the_first(tmp_path: Path) -> None:
    noise = [Image.fromarray(np.random.default_rng(k).integers(0, 256, (64, 64), np.uint8)) for k in range(2)]
    content = several("GIF", noise)
    with pytest.warns(UserWarning, match="holds 2 pictures"):
        found = load_image(content[:-100])
    np.testing.assert_array_equal(found[..., 0], np.asarray(noise[0]))
