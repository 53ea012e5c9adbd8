"""Vectors of unit length and probabilities, by numpy alone: an exported file names regions without torch."""

from __future__ import annotations

import numpy as np

_LENGTH_TOLERANCE = 1e-3


def unit(vectors: np.ndarray) -> np.ndarray:
    """(..., D) with a length of 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


def have_unit_length(vectors: np.ndarray) -> bool:
    """Whether all (..., D) have, up to rounding; values that are NaN or infinite have not."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1)
    return bool((abs(lengths - 1) < _LENGTH_TOLERANCE).all())


def softmax(logits: np.ndarray) -> np.ndarray:
    """(K,) -> (K,) float64 probabilities."""
    odds = np.exp(logits.astype(np.float64) - logits.max())
    return odds / odds.sum()
