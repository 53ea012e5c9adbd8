"""Progress bars: shown on a terminal and in a notebook, not in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from tqdm import tqdm

#: Called with what is done ("fit"), how many steps are done, and of how many; None where that is unknown.
Listener: TypeAlias = "Callable[[str, int, int | None], None]"

_listener: ContextVar[Listener | None] = ContextVar("_listener", default=None)


@contextmanager
def progress_reported(listener: Listener) -> Iterator[None]:
    """Within the block, and in its thread alone, steps are reported to `listener` and no bar is shown."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class NoBar:
    """In place of a bar that nobody sees; it does not need tqdm."""

    disable = True
    n = 0

    def __enter__(self) -> NoBar:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, steps: int = 1) -> None:
        """Nothing to show."""


class ReportedBar(NoBar):
    """Tells a listener of each step."""

    def __init__(self, listener: Listener, description: str, total: int | None):
        self._listener, self._description, self._total = listener, description, total

    def update(self, steps: int = 1) -> None:
        """So many steps more are done."""
        self.n += steps
        self._listener(self._description, self.n, self._total)


def progress_bar(description: str, *, total: int | None, show: bool, unit: str = "img") -> tqdm[Any] | NoBar:
    """A tqdm bar that disappears when it is done.

    Args:
        total: how many steps; None where that is unknown.
        show: False shows no bar anywhere.
    """
    if not show:
        return NoBar()
    listener = _listener.get()
    if listener is not None:
        return ReportedBar(listener, description, total)
    from tqdm import tqdm

    in_notebook = "ipykernel" in sys.modules
    disable = False if in_notebook else None  # None: only where the output is a terminal
    return tqdm(total=total, desc=description, unit=unit, disable=disable, leave=False)
