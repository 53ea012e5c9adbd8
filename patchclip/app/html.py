"""Pieces of the page as HTML; every text that comes from outside is escaped here and nowhere else.

Elements with `data-act` are buttons: a click is reported to Python with that word and the number in `data-index`.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..printable import printable
from ..result import Result
from .inspected import Box

_JPEG_QUALITY = 80


@dataclass(frozen=True, kw_only=True)
class Card:
    """A thumbnail with a caption.

    Attributes:
        index: that a click reports.
        name: of the file.
        note: below it: a score, a verdict, or what is wrong.
        kind: "plain", "normal", "unusual" or "broken": its colour.
        picture: (h, w, 3) uint8; None for an image that cannot be used.
        is_chosen: shown large, or ticked.
        action: reported by a click; None for no button.
        hint: what a click does.
    """

    index: int
    name: str
    note: str
    kind: str
    picture: np.ndarray | None
    is_chosen: bool = False
    action: str | None = None
    hint: str = ""


def escape(text: str) -> str:
    """For HTML, with control characters as codes."""
    return html.escape(printable(text))


def data_uri(image: np.ndarray) -> str:
    """(h, w, 3) uint8 as a JPEG in an address, so that no file is left behind."""
    is_written, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not is_written:
        raise ValueError(f"expected (h, w, 3) uint8, got {image.shape} {image.dtype}")
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"


def message(text: str, kind: str = "plain") -> str:
    """A sentence; kinds are "plain", "normal", "unusual" and "broken"."""
    role = ' role="alert"' if kind == "broken" else ""
    return f'<p class="pc-message pc-{kind}"{role}>{escape(text)}</p>' if text else ""


def cards(entries: Sequence[Card], *, empty: str) -> str:
    """A grid of thumbnails, or what to do where there is none."""
    if not entries:
        return f'<p class="pc-empty">{escape(empty)}</p>'
    return f'<div class="pc-cards">{"".join(map(_card, entries))}</div>'


def _card(card: Card) -> str:
    picture = '<span class="pc-no-picture" aria-hidden="true">!</span>'
    if card.picture is not None:
        picture = f'<img src="{data_uri(card.picture)}" alt="">'
    name, note = escape(card.name), escape(card.note)
    inside = f'{picture}<span class="pc-name">{name}</span><span class="pc-note">{note}</span>'
    chosen = " pc-chosen" if card.is_chosen else ""
    attributes = f'class="pc-card pc-{card.kind}{chosen}" title="{name}: {note}"'
    if card.action is None:
        return f"<div {attributes}>{inside}</div>"
    pressed = "true" if card.is_chosen else "false"
    act = f'data-act="{card.action}" data-index="{card.index}" aria-pressed="{pressed}"'
    return f'<button type="button" {attributes} {act} aria-label="{escape(card.hint)} {name}: {note}">{inside}</button>'


def picture(view: tuple[np.ndarray, np.ndarray], result: Result, labels: Sequence[str]) -> str:
    """The photograph and the heatmap with a slider between them, and a box with a number around each marked place.

    Args:
        view: the image, and the same with its heatmap over it.
        labels: of the boxes.
    """
    plain, coloured = view
    height, width = plain.shape[:2]
    boxes = []
    for index, (region, label) in enumerate(zip(result.regions, labels, strict=True)):
        boxes.append(_box(index, region.box_xyxy, result.heatmap.shape, label))
    return (
        f'<div class="pc-view" style="--ratio: {width / height:.4f}">'
        f'<div class="pc-picture" style="aspect-ratio: {width} / {height}">'
        f'<img src="{data_uri(plain)}" alt="the photograph">'
        f'<img class="pc-heat" src="{data_uri(coloured)}" alt="the heatmap over it">'
        f'<span class="pc-cut" aria-hidden="true"></span>{"".join(boxes)}</div>'
        '<label class="pc-compare"><span>photograph</span>'
        '<input type="range" min="0" max="100" value="0" aria-label="how much of the photograph is shown">'
        "<span>heatmap</span></label></div>"
    )


def _box(index: int, box_xyxy: Box, image_hw: tuple[int, ...], label: str) -> str:
    height, width = image_hw
    left, top, right, bottom = box_xyxy
    style = (
        f"left: {100 * left / width:.2f}%; top: {100 * top / height:.2f}%; "
        f"width: {100 * (right - left) / width:.2f}%; height: {100 * (bottom - top) / height:.2f}%"
    )
    side = "pc-inside" if top < 0.12 * height else "pc-above"
    text = escape(f"{index + 1} {label}")
    return f'<div class="pc-box {side}" style="{style}"><span>{text}</span></div>'


def verdict(headline: str, sentence: str, places: Sequence[str], *, kind: str, name: str) -> str:
    """The verdict of the image that is shown large."""
    items = "".join(f"<li>{escape(place)}</li>" for place in places)
    listed = f'<ol class="pc-places">{items}</ol>' if items else ""
    return (
        f'<div class="pc-verdict pc-{kind}"><p class="pc-name">{escape(name)}</p><p class="pc-headline">'
        f"{escape(headline)}</p><p>{escape(sentence)}</p>{listed}</div>"
    )
