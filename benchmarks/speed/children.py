"""What rows run in a fresh interpreter: `python -m speed.children NAME ARGUMENTS` prints the figures of a program.

patchclip is imported inside the programs, so that its import can be timed.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import open_clip  # noqa: F401  what patchclip imports is not counted
import torch

_BUSY = bool(os.environ.get("PATCHCLIP_BENCH_BUSY"))

clock = time.process_time if _BUSY else time.perf_counter


def first_result(folder: str, *paths: str) -> list[float]:
    """Seconds from before the import to the first prediction of a detector that was fitted, saved and loaded."""
    start = clock()
    from patchclip import Detector

    warnings.simplefilter("ignore")
    detector = Detector(device="cpu").fit(list(paths[:16]), progress=False)
    detector.save(folder + "/fitted.safetensors")
    Detector.load(folder + "/fitted.safetensors").predict(paths[16])
    return [clock() - start]


def ready() -> list[float]:
    """Seconds of the constructor."""
    from patchclip import Detector

    start = clock()
    Detector(device="cpu")
    return [clock() - start]


def importing() -> list[float]:
    """Seconds of the import."""
    start = clock()
    import patchclip  # noqa: F401

    return [clock() - start]


def memory(total: str) -> list[float]:
    """MB by which a long stream grows, and the most above its start."""
    from patchclip import Detector
    from timing import resident_mb

    detector = Detector(device="cpu")
    images = np.random.default_rng(0).integers(0, 256, (37, 256, 256, 3), np.uint8)
    stream = (images[index % 37] for index in range(int(total)))
    after = []
    for count, _ in enumerate(detector.predict_batch(stream, progress=False), 1):
        if count > 200:
            after.append(resident_mb())
    window = min(1000, len(after) // 2)
    start = float(np.median(after[:window]))
    return [float(np.median(after[-window:])) - start, max(after) - start]


PROGRAMS: dict[str, Callable[..., list[float]]] = {
    "first_result": first_result,
    "ready": ready,
    "importing": importing,
    "memory": memory,
}

if __name__ == "__main__":
    if _BUSY:
        torch.set_num_threads(1)
    name, *arguments = sys.argv[1:]
    print(*PROGRAMS[name](*arguments))
