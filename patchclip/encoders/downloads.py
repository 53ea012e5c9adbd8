"""When weights may be downloaded, and what is said where they cannot be."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from ..errors import PatchclipError, WeightsUnavailableError

_CONNECT_TIMEOUT_S = 3.0

#: Whether weights that are not on this machine may be downloaded.
downloads_allowed: ContextVar[bool] = ContextVar("downloads_allowed", default=True)

NEEDS_PERMISSION = (
    "are not on this machine, and a detector's file may not download them unasked: pass allow_download=True to "
    "Detector.load if you trust the file, or pretrained= with the weights"
)

WEIGHTS_REMEDY = (
    'pass pretrained="path/to/checkpoint.safetensors" with weights that you have on disk, '
    'or use the embedded model, Detector("tiny-7")'
)


@contextmanager
def downloads(*, allowed: bool) -> Iterator[None]:
    """Whether models that are loaded inside, in this thread, may be downloaded; else only the cache serves."""
    token = downloads_allowed.set(allowed)
    try:
        yield
    finally:
        downloads_allowed.reset(token)


@contextmanager
def failures_in_words(what: str) -> Iterator[None]:
    """Around downloads."""
    try:
        yield
    except PatchclipError:
        raise
    except Exception as error:  # every hub client raises its own kinds
        if not downloads_allowed.get():
            raise WeightsUnavailableError(f"{what} {NEEDS_PERMISSION}") from error
        cause = str(error).strip().split("\n")[0]
        raise WeightsUnavailableError(
            f"{what} could not be downloaded ({cause}): check the network, {WEIGHTS_REMEDY}"
        ) from error


@contextmanager
def root_logger_silenced() -> Iterator[None]:
    """What libraries log on the root logger itself is dropped, and does not configure it; other loggers go on."""
    root, handler = logging.getLogger(), logging.NullHandler()

    def drop(record: logging.LogRecord) -> bool:
        return False

    root.addHandler(handler)
    root.addFilter(drop)
    try:
        yield
    finally:
        root.removeFilter(drop)
        root.removeHandler(handler)


@contextmanager
def offline_unless_reachable() -> Iterator[None]:
    """Without a network the hub's client would retry for most of a minute; its cache serves all the same."""
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname
    before = constants.HF_HUB_OFFLINE
    if not downloads_allowed.get():
        constants.HF_HUB_OFFLINE = True
    elif not getproxies():
        try:
            socket.create_connection((host, 443), timeout=_CONNECT_TIMEOUT_S).close()
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
