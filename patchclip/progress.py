"""Progress bars: shown on a terminal and in a notebook, not in a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


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


def progress_bar(description: str, *, total: int | None, show: bool, unit: str = "img") -> tqdm[Any] | NoBar:
    """A tqdm bar that disappears when it is done.

    Args:
        total: how many steps; None where that is unknown.
        show: False shows no bar anywhere.
    """
    if not show:
        return NoBar()
    from tqdm import tqdm

    in_notebook = "ipykernel" in sys.modules
    disable = False if in_notebook else None  # None: only where the output is a terminal
    return tqdm(total=total, desc=description, unit=unit, disable=disable, leave=False)
