"""Synthetic inspection images: surfaces, defects with masks and kinds, captions.

Used to train the embedded model, by the examples and by the benchmark's own set; usable on its own:

    rng = numpy.random.default_rng(0)
    surface = sample_surface(rng)
    normal = surface.photograph(surface.render(1), 1)          # (256, 256, 3) uint8
    defective, mask, kind = sample_defective(surface, 2, rng)   # uint8 image, bool mask, one of KINDS
"""

from __future__ import annotations

import numpy as np

from .defects import KINDS, add_defect
from .surfaces import FAMILIES, HELD_OUT, Rng, Surface, sample_surface

__all__ = ["FAMILIES", "HELD_OUT", "KINDS", "Surface", "add_defect", "sample_defective", "sample_surface"]

_TRIES = 40


def sample_defective(
    surface: Surface,
    seed: int,
    rng: Rng,
    *,
    kind: str | None = None,
    size_hw: tuple[int, int] = (256, 256),
    held_out: bool = False,
) -> tuple[np.ndarray, np.ndarray, str]:
    """One photographed image of a product with one defect.

    Args:
        surface: the product.
        seed: which image of it (as in `surface.render`).
        rng: draws the defect, and its kind where `kind` is None.
        kind: one of `KINDS`.
        held_out: defects look as training never sees them.

    Returns:
        (H, W, 3) uint8 image, (H, W) bool mask, kind.

    Raises:
        ValueError: unknown kind, or no visible defect of that kind in 40 tries (an image without any contrast).
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"expected a kind of {', '.join(KINDS)}; got {kind!r}")
    image = surface.render(seed, size_hw)
    for _ in range(_TRIES):
        chosen = KINDS[rng.integers(len(KINDS))] if kind is None else kind
        if chosen == "broken pattern" and surface.has_pattern:
            broken, mask = surface.render_broken(seed, int(rng.integers(1 << 31)), size_hw)
            painted = (broken, mask) if mask.sum() > 12 else None
        else:
            painted = add_defect(image, chosen, rng, held_out=held_out)
        if painted is not None:
            return surface.photograph(painted[0], seed), painted[1], chosen
    raise ValueError(f"no visible {kind or 'defect'} on family {surface.family!r} in {_TRIES} tries: use another seed")
