"""Bytes, open files and the limit of pixels; through the detector too."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import as_bytes, png16, ramps, scaled, tiff
from PIL import Image

from patchclip import Detector, ImageError
from patchclip.images.load import load_image, require_several, snapshot

RGB = scaled(ramps(), 8)
PNG = as_bytes(Image.fromarray(RGB))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_bytes_of_any_kind(kind: type) -> None:
    for content in (PNG, tiff(RGB, 2), png16(RGB.astype(np.uint16) * 257)):
        given = kind(content)
        np.testing.assert_array_equal(load_image(given), RGB)
        np.testing.assert_array_equal(load_image(snapshot(given)), RGB)
    with pytest.raises(ImageError):
        load_image(kind(b""))


@pytest.mark.parametrize("content", [PNG, tiff(RGB, 2), tiff(RGB.astype(np.uint16) * 257, 2)])
def test_open_file_stays_open_and_where_it_was(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with (tmp_path / "a.bin").open("rb") as file:
        for position in (0, 5, len(content)):
            file.seek(position)
            np.testing.assert_array_equal(load_image(file), RGB)
            assert not file.closed
            assert file.tell() == position
        np.testing.assert_array_equal(load_image(snapshot(file)), RGB)


def test_position_after_an_error(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(PNG[:60])
    with (tmp_path / "torn.png").open("rb") as file:
        file.seek(3)
        with pytest.raises(ImageError, match=r"torn\.png "):
            load_image(file)
        assert file.tell() == 3


def test_file_without_positions() -> None:
    class Stream(io.RawIOBase):
        def __init__(self, content: bytes):
            self.left = content

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            found, self.left = self.left, b""
            return found

    np.testing.assert_array_equal(load_image(Stream(PNG)), RGB)


def test_file_in_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", PNG)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive, archive.open("a.png") as file:
        np.testing.assert_array_equal(load_image(file), RGB)


def test_file_open_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    with (tmp_path / "a.png").open() as file, pytest.raises(ImageError, match=r'a\.png is open as text.*mode "rb"'):
        load_image(file)


def test_snapshot_of_a_buffer_does_not_change() -> None:
    array = bytearray(PNG)
    buffer = io.BytesIO(PNG)
    copies = [snapshot(array), snapshot(memoryview(array)), snapshot(buffer)]
    array[:] = bytes(len(array))
    buffer.truncate(0)
    for copied in copies:
        np.testing.assert_array_equal(load_image(copied), RGB)


@pytest.mark.parametrize("single", [PNG, bytearray(PNG), memoryview(PNG), io.BytesIO(PNG)])
def test_one_file_is_no_list_of_images(single: object) -> None:
    with pytest.raises(ValueError, match=r"got one, .*: put it into a list"):
        require_several(single)


def test_files_in_a_stream(tiny: Detector, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    with (tmp_path / "a.png").open("rb") as file:
        given = [PNG, bytearray(PNG), memoryview(PNG), io.BytesIO(PNG), file, tmp_path / "a.png", io.BytesIO(PNG[:60])]
        found = list(tiny.predict_batch(iter(given), progress=False, errors="return"))
    assert isinstance(found.pop(), ImageError)
    for result in found:
        np.testing.assert_array_equal(result.image, RGB)


# --- the limit of pixels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "WEBP", "AVIF", "BMP", "JPEG2000", "ICO"])
def test_limit_is_for_files(kind: str, tmp_path: Path) -> None:
    picture = Image.fromarray(RGB)
    path = tmp_path / "a.bin"
    path.write_bytes(as_bytes(picture, kind, **({"sizes": [(16, 12)]} if kind == "ICO" else {})))
    assert load_image(path, max_pixels=192).shape == (12, 16, 3)
    message = "has 192 pixels, the limit is 191: shrink it, cut it up, or raise max_pixels"
    with pytest.raises(ImageError, match=rf"a\.bin {message}"):
        load_image(path, max_pixels=191)
    with Image.open(path) as opened:
        if kind != "ICO":  # which Pillow decodes to open it
            with pytest.raises(ImageError, match=message):
                load_image(opened, max_pixels=191)
        opened.load()
        assert load_image(opened, max_pixels=191).shape == (12, 16, 3)


def test_no_limit_for_what_is_in_memory() -> None:
    tensor = torch.from_numpy(RGB).permute(2, 0, 1)
    for given in (RGB, RGB / 255, tensor, Image.fromarray(RGB)):
        np.testing.assert_array_equal(load_image(given, max_pixels=1), RGB)
        np.testing.assert_array_equal(load_image(snapshot(given, max_pixels=1)), RGB)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_limit_above_that_of_pillow(kind: str) -> None:
    """`Image.open` refuses 179 million pixels and more; here the limit decides, and then what is in the file."""
    content = bytearray(tiff(RGB, 2) if kind == "TIFF" else as_bytes(Image.fromarray(RGB), kind))
    directory = int.from_bytes(content[4:8], "little")
    places = {"PNG": (16, 20), "BMP": (18, 22), "TIFF": (directory + 10, directory + 22)}[kind]
    for place in places:  # of the width and the height
        content[place : place + 4] = (20000).to_bytes(4, "big" if kind == "PNG" else "little")
    if kind == "PNG":
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with pytest.raises(ImageError, match="400,000,000 pixels, the limit is 89,000,000"):
        load_image(bytes(content))
    with pytest.raises(ImageError, match="truncated or damaged"):
        load_image(bytes(content), max_pixels=400_000_000)


def test_limit_of_a_detector(local_model: str, tmp_path: Path, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model, max_pixels=191)
    for call in (
        detector.predict,
        detector.prepare,
        lambda image: detector.fit([image, image], progress=False),
        lambda image: list(detector.predict_batch([image], progress=False)),
    ):
        for given in (PNG, io.BytesIO(PNG), Image.open(io.BytesIO(PNG))):
            with pytest.raises(ImageError, match="the limit is 191"):
                call(given)
    detector.predict(RGB)
    detector.save(tmp_path / "a.safetensors")
    assert Detector.load(tmp_path / "a.safetensors").options["max_pixels"] == 191
    for value in (0, -1, 2.5, "many", None):
        with pytest.raises(ValueError, match="max_pixels"):
            Detector(local_model, max_pixels=value)  # type: ignore[arg-type]


def test_help_says_that_arrays_are_rgb() -> None:
    page = (Path(__file__).parents[2] / "docs" / "options.md").read_text()
    for text in (load_image.__doc__, Detector.predict.__doc__, page):
        assert text is not None
        assert "BGR" in text
        assert "image[..., ::-1]" in text
