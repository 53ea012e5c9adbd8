"""Every kind of image a user may have, and every fault."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from patchclip import ImageError
from patchclip.images import load
from patchclip.images.load import fingerprint, load_image, require_several, snapshot

RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [128, 128, 128], [255, 255, 255]]], np.uint8)


def as_bytes(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def test_path_bytes_pil_array_and_tensor_agree(tmp_path: Path) -> None:
    picture = Image.fromarray(RGB)
    picture.save(tmp_path / "a.png")
    tensor = torch.from_numpy(RGB).permute(2, 0, 1)
    kinds = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        as_bytes(picture),
        picture,
        RGB,
        RGB / 255,
        RGB.astype(np.uint16) * 257,
    ]
    for given in [*kinds, tensor, tensor.float() / 255, (tensor.float() / 255).to(torch.float16)]:
        found = load_image(given)
        assert found.shape == (2, 3, 3)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, RGB)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1)])
def test_grey_array_becomes_three_equal_channels(shape: tuple[int, ...]) -> None:
    grey = np.arange(20, dtype=np.uint8).reshape(shape)
    found = load_image(grey)
    assert found.shape == (4, 5, 3)
    assert (found == grey.reshape(4, 5, 1)).all()


def test_sixteen_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 32896], [65535, 25700, 514]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    expected = np.array([[0, 1, 128], [255, 100, 2]])
    for given in (deep, tmp_path / "deep.png", Image.fromarray(deep.astype(np.int32))):
        np.testing.assert_array_equal(load_image(given)[..., 0], expected)


def test_float_tiff_in_unit_range(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 1.0]], np.float32)).save(tmp_path / "a.tiff")
    assert load_image(tmp_path / "a.tiff")[0, :, 0].tolist() == [0, 255]


def test_alpha_lies_over_white() -> None:
    clear_red = np.array([[[255, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 51]]], np.uint8)
    expected = np.array([[[255, 255, 255], [255, 0, 0], [204, 204, 204]]])
    np.testing.assert_array_equal(load_image(clear_red), expected)
    np.testing.assert_array_equal(load_image(as_bytes(Image.fromarray(clear_red))), expected)


def test_palette_with_and_without_transparency() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 10, 20, 0, 0, 255])
    palette.putdata([0, 1])
    assert load_image(as_bytes(palette)).tolist() == [[[200, 10, 20], [0, 0, 255]]]
    assert load_image(as_bytes(palette, transparency=1)).tolist() == [[[200, 10, 20], [255, 255, 255]]]


def test_cmyk_bilevel_and_grey_alpha() -> None:
    assert load_image(Image.new("CMYK", (1, 1), (0, 255, 255, 0)))[0, 0].tolist() == [255, 0, 0]
    assert load_image(Image.new("1", (1, 1), 1))[0, 0].tolist() == [255, 255, 255]
    two = Image.merge("LA", [Image.new("L", (2, 1), 0), Image.fromarray(np.array([[0, 255]], np.uint8))])
    assert load_image(two)[0, :, 0].tolist() == [255, 0]


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    found = load_image(as_bytes(Image.fromarray(RGB), exif=exif))
    np.testing.assert_array_equal(found, np.rot90(RGB, -1))


@pytest.mark.filterwarnings("ignore")
def test_damaged_exif_is_refused_or_read_past() -> None:
    """Pillow writes the tags anew to turn an image, and then raises whatever they make it stumble over."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 6, "a description", 72.0
    whole = as_bytes(Image.fromarray(np.repeat(RGB, 8, 1)), "JPEG", exif=exif)
    end = whole.index(b"a description") + 13
    refused = 0
    for position in range(whole.index(b"Exif"), end):
        for value in (0, 3, 7, 255):
            try:
                found = load_image(whole[:position] + bytes([value]) + whole[position + 1 :])
                assert found.shape in ((2, 24, 3), (24, 2, 3))
            except ImageError:
                refused += 1
    assert refused


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    given = as_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="holds 2 pictures"):
        assert load_image(given)[0, 0].tolist() == [255, 0, 0]


def test_foreign_byte_order() -> None:
    deep = np.array([[0, 65535]], np.uint16)
    np.testing.assert_array_equal(load_image(deep.astype(">u2")), load_image(deep))


def test_faulty_files_are_named(tmp_path: Path) -> None:
    whole = as_bytes(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")
    faults = {
        "cut.jpg": (whole[: len(whole) // 2], "truncated"),
        "header.jpg": (whole[:300], "truncated"),
        "cut.webp": (as_bytes(Image.new("RGB", (64, 64), "red"), "WEBP")[:40], "truncated"),
        "empty.png": (b"", "empty"),
        "text.png": (b"hello", "no image"),
    }
    for name, (content, reason) in faults.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=reason) as caught:
            load_image(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(ImageError, match="does not exist"):
        load_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="folder"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match="cannot be opened"):
        load_image("long" * 2000)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (np.zeros((3, 8, 8), np.uint8), "move channels last"),
        (np.zeros((2, 8, 8, 3), np.uint8), "one image at a time"),
        (np.full((4, 4), np.nan), "16 NaN"),
        (np.full((4, 4), 200.0), "divide by 255"),
        (np.full((4, 4), -0.5), r"scale it to \[0, 1\]"),
        (np.zeros((4, 4), np.int64), "convert it first"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (torch.zeros(1, 3, 4, 4), "take one image"),
        (torch.zeros(4, 4, 3), "channels come first"),
        (torch.zeros(4, 8, 8), "red, green and blue"),
        (np.zeros((8, 8, 2)), "red, green and blue"),
        (torch.zeros(3, 4, 4, device="meta"), "no values"),
        (torch.zeros(3, 4, 4).to_sparse(), "sparse"),
        ("", "empty one"),
        (Image.fromarray(np.array([[-1, 70000]], np.int32)), "16 bits"),
        (b"", "got none"),
        (3.5, "got float"),
    ],
)
def test_what_is_no_image(given: object, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        load_image(given)


def test_a_copied_picture_keeps_its_name(tmp_path: Path) -> None:
    Image.fromarray(np.array([[-1, 70000]], np.int32)).save(tmp_path / "deep.tif")
    with Image.open(tmp_path / "deep.tif") as opened, pytest.raises(ImageError, match=r"deep\.tif has values"):
        load_image(snapshot(opened))


def test_too_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "MAX_PIXELS", 5)
    content = as_bytes(Image.fromarray(RGB))
    for given in (content, snapshot(Image.open(io.BytesIO(content)))):
        with pytest.raises(ImageError, match="the limit is 5"):
            load_image(given)
    for given in (RGB, Image.fromarray(RGB)):  # in memory already
        assert load_image(given).shape == (2, 3, 3)


def test_sixteen_bits_of_a_camera_with_fewer_are_warned_of() -> None:
    for highest, bits in ((812, 10), (4095, 12), (16383, 14)):
        with pytest.warns(UserWarning, match=f"uses {bits} bits alone.*values << {16 - bits}"):
            load_image(np.array([[0, highest]], np.uint16))
    load_image(np.array([[0, 16384]], np.uint16))
    load_image(np.zeros((2, 2), np.uint16))  # black is black


def test_torch_is_not_imported_and_tensors_are_known_all_the_same(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    code = f"""
import sys
import numpy as np
from patchclip.images.load import load_image, require_several, snapshot
path = {str(tmp_path / "a.png")!r}
image = load_image(path)
load_image(open(path, "rb").read())
load_image(snapshot(image))
require_several([path])
assert "torch" not in sys.modules
import torch
tensor = torch.from_numpy(image).permute(2, 0, 1)
assert np.array_equal(load_image(tensor), image)
try:
    require_several(tensor)
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "expected a list of images, got one, <Tensor (3, 2, 3) torch.uint8>: put it into a list\n"


def test_a_snapshot_does_not_change_with_its_owner(tmp_path: Path) -> None:
    picture = Image.fromarray(RGB)
    owners = (RGB.copy(), torch.from_numpy(RGB.copy()), picture)
    copies = [snapshot(owner) for owner in owners]
    owners[0][:] = 0
    owners[1][:] = 0
    picture.paste((0, 0, 0), (0, 0, 3, 2))
    for copied in copies:
        np.testing.assert_array_equal(np.asarray(copied), RGB)
    path = tmp_path / "a.png"
    assert snapshot(path) is path  # a file is read later


def test_one_image_is_no_list_of_images(tmp_path: Path) -> None:
    for single in (RGB, RGB[..., 0], torch.zeros(3, 4, 4), tmp_path, "a.png", b"bytes", Image.fromarray(RGB)):
        with pytest.raises(ValueError, match=r"got one, .*: put it into a list"):
            require_several(single)
    with pytest.raises(ValueError, match="give a stack of grey ones an axis of channels"):
        require_several(np.zeros((5, 6, 7), np.uint8))
    with pytest.raises(ValueError, match="for class 'a', got <dict>: put the images of all its classes into one"):
        require_several({"b": [RGB]}, " for class 'a'")
    with pytest.raises(ValueError, match="expected a list of images, got <int>"):
        require_several(5)
    for several in ([RGB], (RGB,), iter([RGB]), RGB[None], np.array(["a.png", "b.png"])):
        require_several(several)


def test_a_fingerprint_is_of_the_pixels_and_their_shape() -> None:
    first = fingerprint(RGB)
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert fingerprint(RGB.copy()) == first
    assert fingerprint(np.ascontiguousarray(RGB[:, ::-1])) != first
    assert fingerprint(RGB.reshape(3, 2, 3)) != first
