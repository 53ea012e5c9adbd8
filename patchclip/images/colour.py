"""A decoded PIL image of any mode -> the upright RGB array that a person sees: orientation, profile, transparency."""

from __future__ import annotations

import io
import warnings
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms, ImageOps

from ..errors import ImageError, PatchclipError
from . import arrays

#: Colour space of an ICC profile -> the mode of the pixels that it is for.
_PROFILE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}

#: A profile that moves no colour by more, of 255, is sRGB.
_SAME_COLOUR = 1


def to_rgb(image: Image.Image, name: str, *, may_modify: bool) -> np.ndarray:
    """(H, W, 3) uint8, upright, in sRGB.

    Args:
        may_modify: nobody else holds the image, so it may be turned in place.

    Raises:
        ImageError: the pixels cannot be decoded, or have values that no picture has.
    """
    try:
        image.load()
        if may_modify:
            ImageOps.exif_transpose(image, in_place=True)
            upright = image
        else:
            upright = ImageOps.exif_transpose(image)
        return _to_srgb(upright, name)
    except (PatchclipError, Image.DecompressionBombError, MemoryError, Warning):  # a warning that was made an error
        raise
    except Exception as error:  # Pillow's plug-ins each raise their own
        raise ImageError(f"{name} cannot be decoded ({error}): the file is truncated or damaged") from error


def _to_srgb(image: Image.Image, name: str) -> np.ndarray:
    profile = image.info.get("icc_profile")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(arrays.to_bytes(_deep_grey(image, name), name))
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return np.asarray(_opaque_to_srgb(image, profile, name))
    layered = image.convert("RGBA")
    is_grey = image.mode in ("1", "L", "LA")
    colour = image.convert("L") if is_grey else layered.convert("RGB")  # a grey profile is for grey
    converted = _opaque_to_srgb(colour, profile, name)
    alpha = layered.getchannel("A")
    highest = int(alpha.getextrema()[1])  # type: ignore[arg-type]
    if arrays.is_invisible(highest, name):
        return np.asarray(converted)
    converted.putalpha(alpha)
    white = Image.new("RGBA", converted.size, "white")
    return np.asarray(Image.alpha_composite(white, converted).convert("RGB"))


def _opaque_to_srgb(image: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    """Without alpha, any mode -> RGB."""
    if image.mode == "LAB":  # of no device: needs no profile
        return _lab_to_srgb().apply(image)
    if profile:
        try:
            return _convert_by_profile(image, profile)
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
            warnings.warn(
                f"{name} has a colour profile that cannot be used ({error}): its colours are taken for sRGB",
                stacklevel=2,
            )
    return image if image.mode == "RGB" else image.convert("RGB")


def _convert_by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    mode, transform = _profile_to_srgb(profile)
    if image.mode not in _PROFILE_MODES.values():
        image = image.convert("L" if image.mode == "1" and mode == "L" else "RGB")
    if mode == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    if image.mode != mode:
        raise ValueError(f"it is for {mode}, the image is {image.mode}")
    if transform is not None:
        return transform.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=8)
def _profile_to_srgb(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The mode that a profile is for, and the way from it to sRGB; None where it is sRGB already."""
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = opened.profile.xcolor_space
    if space not in _PROFILE_MODES:
        raise ValueError(f"a profile for {space.strip()}")
    mode = _PROFILE_MODES[space]
    srgb = ImageCms.createProfile("sRGB")
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    transform = ImageCms.buildTransform(opened, srgb, mode, "RGB", intent)
    if mode == "CMYK":
        return mode, transform
    every_colour = _colour_cube() if mode == "RGB" else Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    plain = np.asarray(every_colour.convert("RGB"), np.int16)
    moved = np.abs(np.asarray(transform.apply(every_colour), np.int16) - plain)
    return mode, None if moved.max() <= _SAME_COLOUR else transform


def _colour_cube() -> Image.Image:
    """RGB of 17 levels a channel, all combinations."""
    levels = np.linspace(0, 255, 17).round().astype(np.uint8)
    red, green, blue = np.meshgrid(levels, levels, levels)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).reshape(17, -1, 3))


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)


def _deep_grey(image: Image.Image, name: str) -> np.ndarray:
    """Pillow's 16 and 32-bit modes as an array of a kind that `arrays.to_bytes` knows."""
    values = np.asarray(image)
    if image.mode == "F":
        return values
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(f"{name} has values from {low} to {high}: expected 16 bits, 0 to 65535; convert it first")
    return values.astype(np.uint16)
