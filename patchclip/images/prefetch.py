"""Work that runs ahead in threads, in order, with a bound on how much waits."""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")
Out = TypeVar("Out")


class SourceFailure(NamedTuple):
    """What the iterable of items raised in place of a next item."""

    error: Exception


def ordered_map(
    function: Callable[[Item], Out],
    items: Iterable[Item],
    *,
    ahead: int,
    size_of: Callable[[Out], int] = lambda output: 0,
    max_bytes: int = 0,
) -> Generator[Out | SourceFailure, None, None]:
    """`map`, with outputs computed in threads before they are asked for.

    Where `items` raises, a `SourceFailure` is the last output, so that nothing before it is lost. The threads and what
    waits end with the iterator, also when it is closed early or the function raises.

    Args:
        ahead: outputs that may wait at most.
        size_of: bytes of an output.
        max_bytes: bytes that may wait at most, but for one output; unfinished outputs count as the largest so far.
    """
    workers = max(1, min(4, os.cpu_count() or 1))
    waiting: deque[Future[Out]] = deque()
    source = iter(items)
    failure: SourceFailure | None = None
    exhausted = False
    largest = 0
    with ThreadPoolExecutor(workers, thread_name_prefix="patchclip") as pool:
        try:
            while waiting or not exhausted:
                while not exhausted and _has_room(waiting, ahead, largest, max_bytes):
                    try:
                        waiting.append(pool.submit(function, next(source)))
                    except StopIteration:
                        exhausted = True
                    except Exception as error:
                        exhausted, failure = True, SourceFailure(error)
                if waiting:
                    output = waiting.popleft().result()
                    largest = max(largest, size_of(output))
                    yield output
                    del output  # nothing that was handed over is kept alive here
            if failure is not None:
                yield failure
        finally:
            for future in waiting:
                future.cancel()
            waiting.clear()
            failure = None  # its traceback holds this frame


def _has_room(waiting: deque[Future[Out]], ahead: int, largest: int, max_bytes: int) -> bool:
    """Whether another output may be computed. Before the size of one is known, one for each thread."""
    if not waiting:
        return True
    if len(waiting) >= max(1, ahead):
        return False
    return largest == 0 or max_bytes == 0 or (len(waiting) + 1) * largest <= max_bytes


def trim_memory() -> None:
    """Return freed memory to the system: glibc keeps tens of megabytes of it in fragments over thousands of images."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
