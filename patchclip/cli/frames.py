"""Images and the frames of videos and cameras, one after the other, as a detector takes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ImageError
from ..images.load import ImageLike, UnusableImage
from .inputs import IMAGE, STREAM, Source

#: Frames that a file may have fewer than its header says: headers are estimates.
_MISSING_FRAMES = 0.02


@dataclass(frozen=True)
class Item:
    """What has a row: an image, a frame, or a video that broke.

    Attributes:
        source: the file or the stream.
        frame: index of the frame, from 0; None for an image.
        time_s: of the frame, from the start.
    """

    source: Source
    frame: int | None = None
    time_s: float | None = None

    @property
    def key(self) -> tuple[str, int | None]:
        """What tells it from other rows."""
        return self.source.name, self.frame


def each_item(
    sources: Sequence[Source], *, every: int, most_frames: int | None, is_done: Callable[[Item], bool]
) -> Iterator[tuple[Item, ImageLike]]:
    """Each image and frame with its item; a video or stream that ends early has an item with an error at its end.

    Args:
        every: of a video or stream each so manieth frame.
        most_frames: that are read of each at most; None for all.
        is_done: items that are left out.
    """
    for source in sources:
        if source.kind == IMAGE:
            if not is_done(Item(source)):
                yield Item(source), source.path
            continue
        for item, image in _frames(source, every, most_frames, is_done):
            if not is_done(item):
                yield item, image


def _frames(
    source: Source, every: int, most_frames: int | None, is_done: Callable[[Item], bool]
) -> Iterator[tuple[Item, ImageLike]]:
    capture = open_capture(source)
    try:
        if not capture.isOpened():
            yield Item(source), _broken(f"{source.name} cannot be opened as a video: check the address, or convert it")
            return
        expected = _frame_count(capture, source)
        rate_hz = capture.get(_cv2().CAP_PROP_FPS)
        index = 0
        while most_frames is None or index < most_frames * every:
            if not capture.grab():
                break
            item = Item(source, index, _time_s(capture, index, rate_hz))
            if index % every == 0 and not is_done(item):
                readable, frame = capture.retrieve()
                if not readable:
                    break
                yield item, frame[..., ::-1].copy()  # BGR
            index += 1
        else:
            return
        if source.kind == STREAM or index < expected * (1 - _MISSING_FRAMES):
            of_all = f" of {expected}" if expected else ""
            yield Item(source), _broken(f"{source.name} ended after frame {index}{of_all}: the stream broke")
    finally:
        capture.release()


def _broken(message: str) -> Any:
    """In the place of an image: its turn gives the error."""
    return UnusableImage(ImageError(message))


def _cv2() -> Any:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # it would write beside our lines
    import cv2

    if hasattr(cv2, "setLogLevel"):
        cv2.setLogLevel(0)
    return cv2


def open_capture(source: Source) -> Any:
    """OpenCV's capture of a file, a camera or an address; it may not be opened."""
    address: str | int = int(source.path) if source.path.isdecimal() and source.kind == STREAM else source.path
    return _cv2().VideoCapture(address)


def _frame_count(capture: Any, source: Source) -> int:
    """As the header of a file says; 0 where it is not known."""
    if source.kind == STREAM:
        return 0
    return max(0, int(capture.get(_cv2().CAP_PROP_FRAME_COUNT)))


def _time_s(capture: Any, index: int, rate_hz: float) -> float:
    """Of the frame that was grabbed; by the rate, where the file has no times."""
    milliseconds = capture.get(_cv2().CAP_PROP_POS_MSEC)
    if milliseconds > 0:
        return round(milliseconds / 1000, 3)
    return round(index / rate_hz, 3) if rate_hz > 0 else 0.0
