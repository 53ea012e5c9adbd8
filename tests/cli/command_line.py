"""The command's type in tests, and a video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from click.testing import Result

Command = Callable[..., Result]


def write_video(path: Path, frames: Sequence[np.ndarray], *, rate_hz: int = 10) -> Path:
    """Motion JPEG, which every OpenCV writes and reads; frames are RGB (H, W, 3) uint8."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate_hz, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path
