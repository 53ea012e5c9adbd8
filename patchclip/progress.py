"""Progress bars: shown on a terminal and in a notebook, not in a pipe."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(description: str, *, total: int | None, show: bool, unit: str = "img") -> tqdm[Any]:
    """A tqdm bar that disappears when it is done.

    Args:
        total: how many steps; None where that is unknown.
        show: False shows no bar anywhere.
    """
    in_notebook = "ipykernel" in sys.modules
    disable = None if show else True  # None: only where the output is a terminal
    if show and in_notebook:
        disable = False
    return tqdm(total=total, desc=description, unit=unit, disable=disable, leave=False)
