"""Vectors of unit length and probabilities, by numpy alone: an exported file names regions without torch."""

from __future__ import annotations

import numpy as np


def unit(vectors: np.ndarray) -> np.ndarray:
    """(..., D) with a length of 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


def softmax(logits: np.ndarray) -> np.ndarray:
    """(K,) -> (K,) float64 probabilities."""
    odds = np.exp(logits.astype(np.float64) - logits.max())
    return odds / odds.sum()
