"""Work that runs ahead in threads, in order, with a bound on how much waits."""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")
Out = TypeVar("Out")


class SourceFailure(NamedTuple):
    """What the iterable of items raised in place of a next item."""

    error: Exception


def ordered_map(function: Callable[[Item], Out], items: Iterable[Item], *, ahead: int) -> Iterator[Out | SourceFailure]:
    """`map`, with at most `ahead` results computed before they are asked for.

    Where `items` raises, a `SourceFailure` is the last output, so that nothing before it is lost. The threads end with
    the iterator, also when it is closed early or the function raises.
    """
    workers = max(1, min(4, os.cpu_count() or 1))
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="patchclip") as pool:
        failure = None
        source = iter(items)
        try:
            while failure is None:
                try:
                    waiting.append(pool.submit(function, next(source)))
                except StopIteration:
                    break
                except Exception as error:
                    failure = SourceFailure(error)
                if len(waiting) >= max(1, ahead):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
            if failure is not None:
                yield failure
        finally:
            for future in waiting:
                future.cancel()


def trim_memory() -> None:
    """Return freed memory to the system: glibc keeps tens of megabytes of it in fragments over thousands of images."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
