"""A damaged file is refused in every form in which it can be given, at its turn, and not half decoded."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from image_files import as_bytes, png16, ramps, scaled, tiff
from PIL import Image

from patchclip import Detector, ImageError
from patchclip.images.load import load_image, snapshot

PICTURE = Image.fromarray(np.kron(scaled(ramps(), 8), np.ones((6, 6, 1), np.uint8)))

WHOLE: dict[str, bytes] = {
    "png": as_bytes(PICTURE),
    "jpeg": as_bytes(PICTURE, "JPEG", quality=90),
    "progressive jpeg": as_bytes(PICTURE, "JPEG", quality=90, progressive=True),
    "tiff, lzw": as_bytes(PICTURE, "TIFF", compression="tiff_lzw"),
    "tiff, deflate": as_bytes(PICTURE, "TIFF", compression="tiff_adobe_deflate"),
    "tiff, jpeg": as_bytes(PICTURE, "TIFF", compression="jpeg"),
    "tiff of 16 bits": tiff(scaled(ramps(), 16), 2),
    "png of 16 bits": png16(scaled(ramps(), 16)),
    "webp": as_bytes(PICTURE, "WEBP"),
    "gif": as_bytes(PICTURE.quantize(64), "GIF"),
    "bmp": as_bytes(PICTURE, "BMP"),
    "jpeg 2000": as_bytes(PICTURE, "JPEG2000"),
    "ppm": as_bytes(PICTURE, "PPM"),
    "avif": as_bytes(PICTURE, "AVIF"),
}


def damaged(whole: bytes, index: int) -> bytes:
    """Cut short, with three flipped bits, or with 32 other bytes, behind the first quarter."""
    draw = random.Random(index)
    content = bytearray(whole)
    place = draw.randrange(len(content) // 4, len(content))
    if index % 3 == 0:
        return bytes(content[:place])
    if index % 3 == 1:
        for _ in range(3):
            content[draw.randrange(len(content) // 4, len(content))] ^= 1 << draw.randrange(8)
    else:
        content[place : place + 32] = draw.randbytes(len(content[place : place + 32]))
    return bytes(content)


def opened_forms(content: bytes, path: Path) -> Iterator[object]:
    """PIL images of a file, where Pillow opens it."""
    path.write_bytes(content)
    for source in (io.BytesIO(content), path):
        try:
            opened = Image.open(source)
        except Exception:  # Pillow's plug-ins each raise their own
            continue
        with opened:
            yield opened


def is_refused(given: object) -> bool:
    try:
        load_image(given)
    except ImageError:
        return True
    return False


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.filterwarnings("ignore")
def test_damaged_file_is_refused_in_all_forms(kind: str, tmp_path: Path) -> None:
    refused = opened_count = 0
    path = tmp_path / "damaged.bin"
    for index in range(40):
        content = damaged(WHOLE[kind], index)
        expected = is_refused(content)
        for opened in opened_forms(content, path):
            assert is_refused(snapshot(opened)) == expected
            assert is_refused(opened) == expected
            assert is_refused(opened) == expected  # Pillow's second look at it would find an empty picture
            opened_count += expected
        assert is_refused(path) == expected
        assert is_refused(io.BytesIO(content)) == expected
        refused += expected
    assert refused > 5
    assert opened_count > 3 or kind.startswith("tiff")


@pytest.fixture
def torn() -> bytes:
    content = WHOLE["jpeg"]
    return content[: len(content) // 2]


def test_stream_gives_the_error_at_its_turn(tiny: Detector, torn: bytes) -> None:
    images = [PICTURE, Image.open(io.BytesIO(torn)), PICTURE]
    found = list(tiny.predict_batch(iter(images), progress=False, errors="return"))
    assert [isinstance(result, ImageError) for result in found] == [False, True, False]
    results = tiny.predict_batch(iter(images), progress=False)
    next(results)
    with pytest.raises(ImageError, match="truncated"):
        next(results)


def test_every_way_to_a_detector_refuses_it(local_model: str, torn: bytes, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model)
    for call in (
        detector.predict,
        detector.prepare,
        lambda image: detector.fit((entry for entry in [*normals, image]), progress=False),
        lambda image: detector.fit([*normals, image], progress=False),
        lambda image: detector.calibrate((entry for entry in [*normals, image]), progress=False),
    ):
        with pytest.raises(ImageError, match="truncated"):
            call(Image.open(io.BytesIO(torn)))


def test_the_error_of_a_pil_image_names_its_file(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "torn.jpg").write_bytes(torn)
    with Image.open(tmp_path / "torn.jpg") as opened, pytest.raises(ImageError, match=r"torn\.jpg .*truncated"):
        load_image(snapshot(opened))


def test_closed_pil_image(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        pass
    with pytest.raises(ImageError, match=r"a\.png was closed before it was decoded: pass its path"):
        load_image(opened)


def test_pil_image_is_left_as_it_was() -> None:
    buffer = io.BytesIO(WHOLE["jpeg"])
    opened = Image.open(buffer)
    position = buffer.tell()
    expected = load_image(WHOLE["jpeg"])
    np.testing.assert_array_equal(load_image(snapshot(opened)), expected)
    assert buffer.tell() == position
    np.testing.assert_array_equal(np.asarray(opened), expected)


def test_changed_pil_image_is_read_as_it_is(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        opened.paste((1, 2, 3), (0, 0, 4, 4))
        assert load_image(snapshot(opened))[0, 0].tolist() == [1, 2, 3]


def test_draft_of_a_jpeg_keeps_its_size() -> None:
    large = Image.fromarray(np.kron(np.asarray(PICTURE), np.ones((8, 8, 1), np.uint8)))
    with Image.open(io.BytesIO(as_bytes(large, "JPEG"))) as opened:
        opened.draft("RGB", (large.width // 4, large.height // 4))
        assert load_image(snapshot(opened)).shape == (large.height // 4, large.width // 4, 3)
