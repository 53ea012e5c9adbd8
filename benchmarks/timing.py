"""One timer, one bare forward and one memory probe, for both programs."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import internals
from patchclip import Detector

Clock = Callable[[], float]

CPU = torch.device("cpu")


# --- time ---------------------------------------------------------------------------------------------------------


def wall_clock(device: torch.device) -> Clock:
    """Seconds that pass, work on the device included."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def alternate(
    functions: Mapping[str, Callable[[], Any]], *, clock: Clock, rounds: int = 3, seconds: float = 0.0
) -> dict[str, np.ndarray]:
    """Seconds of each function: one round to warm up, then rounds in which each has its turn.

    A busy moment of the machine so meets all of them.

    Args:
        rounds: at least so many; seconds: and as many more as begin before so much time has passed.

    Returns:
        (rounds,) of each function.
    """
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    end = time.perf_counter() + seconds
    done = 0
    while done < rounds or time.perf_counter() < end:
        for name, function in functions.items():
            start = clock()
            function()
            times[name].append(clock() - start)
        done += 1
    return {name: np.array(values) for name, values in times.items()}


def time_parts(detector: Detector, path: Path, *, repetitions: int, clock: Clock) -> dict[str, float]:
    """Median seconds of each part of `predict`, by timing the functions that it calls while it runs.

    Returns:
        part -> seconds, without the parts that do not occur; "rest" is what no part covers.
    """
    timer = _PartTimer(clock)
    runs: list[dict[str, float]] = []
    with contextlib.ExitStack() as stack:
        for owner, name, part in internals.TIMED_FUNCTIONS:
            timed = timer.wrap(getattr(owner, name), part)
            stack.enter_context(mock.patch.object(owner, name, timed))
        detector.predict(path)  # warm-up
        for _ in range(repetitions):
            timer.seconds.clear()
            start = clock()
            detector.predict(path)
            total = clock() - start
            runs.append({**timer.seconds, "rest": total - sum(timer.seconds.values())})
    seen = {name for run in runs for name in run}
    order = dict.fromkeys([part for _, _, part in internals.TIMED_FUNCTIONS] + ["rest"])
    return {name: float(np.median([run.get(name, 0.0) for run in runs])) for name in order if name in seen}


class _PartTimer:
    """Adds up the seconds of each part; what a part calls is counted with it, not apart."""

    def __init__(self, clock: Clock):
        self.clock = clock
        self.seconds: dict[str, float] = defaultdict(float)
        self.running = False

    def wrap(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.running:
                return function(*args, **kwargs)
            self.running = True
            start = self.clock()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[part] += self.clock() - start
                self.running = False

        return call


# --- the bare forward ---------------------------------------------------------------------------------------------


def bare_forward(detector: Detector, batch: int) -> Callable[[], None]:
    """open_clip's own image tower on pixels at the model's size, all of it in the detector's precision."""
    tower = internals.image_tower(detector)
    dtype = tower.transformer.resblocks[-1].attn.in_proj_weight.dtype
    alone = copy.deepcopy(tower).to(dtype)
    side = internals.square_side(detector)
    pixels = torch.randn(batch, 3, side, side, device=internals.device_of(detector), dtype=dtype)

    @torch.inference_mode()
    def forward() -> None:
        alone(pixels)

    return forward


# --- memory -------------------------------------------------------------------------------------------------------


@dataclass
class MemoryUse:
    """In MB; `peak_mb` once the block is left."""

    before_mb: float
    peak_mb: float = 0.0

    @property
    def extra_mb(self) -> float:
        return self.peak_mb - self.before_mb


@contextlib.contextmanager
def measure_memory(device: torch.device) -> Iterator[MemoryUse]:
    """Memory in use before a block, and the most inside it: of the GPU, else of the process, libraries and all.

    Where the system cannot tell that of the block, both are the most since the start of the process.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        use = MemoryUse(torch.cuda.memory_allocated(device) / 2**20)
        yield use
        use.peak_mb = torch.cuda.max_memory_allocated(device) / 2**20
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what was freed and kept would hide what is taken now
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        _status_mb("VmHWM")
    except OSError:
        use = MemoryUse(_most_since_the_start_mb())
        yield use
        use.peak_mb = _most_since_the_start_mb()
        return
    use = MemoryUse(resident_mb())
    yield use
    use.peak_mb = _status_mb("VmHWM")


def resident_mb() -> float:
    """Of this process, now; Linux only."""
    return _status_mb("VmRSS")


def _status_mb(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {name}")


def _most_since_the_start_mb() -> float:
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
