"""Where the scores of a batch part into two groups, if they do."""

from __future__ import annotations

import numpy as np


def find_gap(scores: np.ndarray) -> tuple[float, float] | None:
    """A value between the two groups of scores, and how sure it is that there are two; None where there is no gap.

    Args:
        scores: (n,) in [0, 1].
    """
    return None  # not decided yet
