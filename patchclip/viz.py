"""Pictures: heatmaps over images, labelled boxes, contact sheets. Knows arrays only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from .fonts import choose_font

#: A heatmap of 1 is this value of a 16-bit picture.
_FULL_16_BIT = 65535

Label = tuple[tuple[int, int, int, int], str]

_BOX_COLOUR = (255, 255, 255)
_LABEL_GROUND = (20, 20, 20)


def to_16_bit(heatmap: np.ndarray) -> Image.Image:
    """A heatmap (H, W) in [0, 1] as a grey picture of 16 bits, where 65535 is 1."""
    return Image.fromarray(np.round(heatmap * _FULL_16_BIT).astype(np.uint16))


def colour_level(heatmap: np.ndarray, threshold: float) -> np.ndarray:
    """A fixed scale anchored to the threshold: 0 -> 0, threshold -> 0.5, far above -> 1.

    The same value has the same colour in every image; nothing is stretched per image.

    Args:
        heatmap: any shape, in [0, 1]; threshold: above 0.

    Returns:
        v^2 / (v^2 + threshold^2), the same shape.
    """
    squared = (heatmap / max(threshold, 1e-9)) ** 2
    return squared / (squared + 1)


def colour_map(level: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1] -> (H, W, 3) uint8 RGB, OpenCV's "turbo": blue, green, yellow, red."""
    import cv2

    return cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]


def blend(image: np.ndarray, heatmap: np.ndarray, threshold: float) -> np.ndarray:
    """The image (H, W, 3) uint8, coloured where the heatmap (H, W) comes near the threshold or above; same size."""
    level = colour_level(heatmap, threshold)
    opacity = (0.55 * np.clip((level - 0.2) / 0.4, 0, 1))[..., None]  # clear below half of the threshold
    blended = image * (1 - opacity) + colour_map(level) * opacity
    return blended.astype(np.uint8)


def overlay(
    image: np.ndarray,
    heatmap: np.ndarray,
    threshold: float,
    labels: Sequence[Label] = (),
    *,
    max_side: int = 1024,
) -> Image.Image:
    """The image, coloured where the heatmap comes near the threshold or above, with labelled boxes.

    Args:
        image: (H, W, 3) uint8; heatmap: (H, W) float32.
        labels: boxes (left, top, right, bottom) in pixels with a text each; all are drawn, the first ten with text.
        max_side: longer side of the picture at most.

    A larger image is shrunk first, a smaller one than 256 pixels enlarged to them, for labels that can be read. Letters
    of a label that no font on this machine has are drawn as codes, see `fonts.choose_font`.
    """
    import cv2

    longest = max(image.shape[:2])
    scale = min(max_side, max(longest, 256)) / longest
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    if scale < 1:
        image, heatmap = (cv2.resize(values, size, interpolation=cv2.INTER_AREA) for values in (image, heatmap))
    picture = Image.fromarray(blend(image, heatmap, threshold)).resize(size)
    draw = ImageDraw.Draw(picture)
    font_size = max(11, round(max(picture.size) / 45))
    width = max(1, round(max(picture.size) / 400))
    for number, (box, text) in enumerate(labels):
        left, top, right, bottom = (round(side * scale) for side in box)
        draw.rectangle(
            (left, top, max(left + 1, right - 1), max(top + 1, bottom - 1)), outline=_BOX_COLOUR, width=width
        )
        if number < 10:
            _write_label(draw, (left, top, right, bottom), text, font_size, picture.size)
    return picture


def _write_label(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    text: str,
    font_size: int,
    size: tuple[int, int],
) -> None:
    """Above the box, or below it where there is no room, and inside the picture."""
    left, top, _, bottom = box
    font, text = choose_font(text, font_size)
    across, down = (int(side) + 4 for side in draw.textbbox((0, 0), text, font=font)[2:])
    x = max(0, min(left, size[0] - across))
    y = top - down if top >= down else min(bottom, size[1] - down)
    draw.rectangle((x, y, x + across, y + down - 1), fill=_LABEL_GROUND)
    draw.text((x + 2, y + 1), text, fill=_BOX_COLOUR, font=font)


def contact_sheet(
    pictures: Sequence[Image.Image], titles: Sequence[str], *, columns: int, side: int = 256
) -> Image.Image:
    """Pictures in rows, each fitted into a square, with a title under it."""
    fitted = [picture.copy() for picture in pictures]
    for picture in fitted:
        picture.thumbnail((side, side))
    height = max(picture.height for picture in fitted)
    strip = side // 12 + 8  # for the title
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (side + 4) - 4, rows * (height + strip)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (picture, title) in enumerate(zip(fitted, titles, strict=True)):
        x, y = number % columns * (side + 4), number // columns * (height + strip)
        sheet.paste(picture, (x + (side - picture.width) // 2, y + (height - picture.height) // 2))
        font, drawn_title = choose_font(title, max(11, side // 18))
        draw.text((x + 2, y + height + 2), drawn_title, fill="black", font=font)
    return sheet
