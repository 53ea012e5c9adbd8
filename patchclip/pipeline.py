"""Long work: ahead in threads, in order, with a bound on what waits; whether its progress shows; memory given back."""

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


class Failed(NamedTuple):
    """What the items raised in place of a next one."""

    error: Exception


def ordered_map(function: Callable[[Item], Out], items: Iterable[Item], *, ahead: int) -> Iterator[Out | Failed]:
    """`map`, with at most `ahead` results computed before they are asked for.

    Where `items` raises, `Failed` is the last output, so that nothing before it is lost. The threads end with the
    iterator, also when it is dropped half-way or the function raises.
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
                    failure = Failed(error)
                if len(waiting) >= max(1, ahead):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
            if failure is not None:
                yield failure
        finally:
            for future in waiting:
                future.cancel()


def hidden(progress: bool) -> bool | None:
    """For tqdm's `disable`: a bar on a terminal or in a notebook, none in a pipe."""
    if not progress:
        return True
    return False if "ipykernel" in sys.modules else None


def trim_memory() -> None:
    """Give back to the system what was freed: glibc keeps it in pieces, tens of megabytes over thousands of images."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
