"""What the rows share: the bench with its files and models, and ratios of functions that take turns."""

from __future__ import annotations

import contextlib
import gc
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import open_clip
import torch
from PIL import Image

from patchclip import Detector
from patchclip.synthetic import HELD_OUT, sample_defective, sample_surface
from timing import CPU, Clock, alternate, measure_memory

LARGE = "ViT-B-16-plus-240"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: is measured; value: as measured, with its unit; target: as promised.
        hit: None where it cannot be measured here; detail: spread and the absolute figures behind the ratio.
    """

    what: str
    value: str
    target: str
    hit: bool | None
    detail: str


class Bench:
    """Files, weights and detectors that rows share; made when first needed.

    Args:
        folder: an empty one, for what is written.
        quick: smaller sizes and fewer repetitions, to see that all runs; not for the record.
        busy: count the processor's seconds in place of the clock's; torch has one thread then.
    """

    def __init__(self, folder: Path, *, quick: bool, busy: bool):
        self.folder = folder
        self.quick = quick
        self.busy = busy
        self.repetitions = 3 if quick else 5
        self.clock: Clock = time.process_time if busy else time.perf_counter

    def alternate(self, functions: Mapping[str, Callable[[], Any]], rounds: int | None = None) -> dict[str, np.ndarray]:
        """Seconds of each function in each round; as many rounds as the bench has repetitions, if not said."""
        return alternate(functions, clock=self.clock, rounds=rounds or self.repetitions)

    @cached_property
    def large_weights(self) -> str:
        """A checkpoint of the large model with random weights."""
        path = self.folder / "random.pt"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            torch.save(open_clip.CLIP(**open_clip.get_model_config(LARGE)).state_dict(), path)
        return str(path)

    def large(
        self,
        *,
        precision: Literal["auto", "fp32", "bf16"] = "fp32",
        recipe: Literal["dense", "winclip"] = "dense",
        device: str = "cpu",
    ) -> Detector:
        """The large model, on random weights."""
        detector = Detector(LARGE, pretrained=self.large_weights, precision=precision, recipe=recipe, device=device)
        detector.threshold = 1.0  # random weights have no regions to name
        return detector

    @cached_property
    def photographs(self) -> list[Path]:
        """64 JPEG files of 800 x 800 pixels, every second one with a defect."""
        rng = np.random.default_rng(5)
        surfaces = [sample_surface(rng) for _ in range(4)]
        paths = []
        for index in range(64):
            surface = surfaces[index % 4]
            if index % 2:
                image = sample_defective(surface, index, rng, size_hw=(800, 800))[0]
            else:
                image = surface.photograph(surface.render(index, (800, 800)), index)
            path = self.folder / f"{index:02}.jpg"
            Image.fromarray(image).save(path, quality=90)
            paths.append(path)
        return paths

    def few_shot(self, precision: Literal["fp32", "bf16"]) -> Detector:
        """The embedded model, fitted on four of the normal photographs."""
        detector = Detector(precision=precision, device="cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # four images: the threshold is extrapolated
            return detector.fit(self.photographs[0:16:4], progress=False)


@contextlib.contextmanager
def make_bench(*, quick: bool, busy: bool) -> Iterator[Bench]:
    """A bench whose files are gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Bench(Path(folder), quick=quick, busy=busy)


def synthetic_set(count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Images of families that training never saw, every second one with a defect; and which those are."""
    rng = np.random.default_rng(11)
    surfaces = [sample_surface(rng, [family]) for family in HELD_OUT]
    images = []
    for index in range(count):
        surface = surfaces[index // 2 % len(surfaces)]
        if index % 2:
            image = sample_defective(surface, index, rng, held_out=True)[0]
        else:
            image = surface.photograph(surface.render(index), index)
        images.append(image)
    return images, np.arange(count) % 2


def extra_memory_mb(function: Callable[[], Any]) -> float:
    """Most resident memory while it runs, less that before."""
    gc.collect()
    with measure_memory(CPU) as use:
        function()
    return use.extra_mb


# --- ratios -------------------------------------------------------------------------------------------------------


def fastest(times: Mapping[str, np.ndarray]) -> str:
    """The name with the lowest median."""
    return min(times, key=lambda name: float(np.median(times[name])))


def spread(times: np.ndarray, base: np.ndarray) -> tuple[float, str]:
    """Ratio of the medians; and the lowest and highest ratio of one round, with both medians."""
    ratios = times / base
    median, base_median = float(np.median(times)), float(np.median(base))
    rounds = f"rounds {ratios.min():.2f} to {ratios.max():.2f}"
    return median / base_median, f"{rounds}; {_seconds(median)} to {_seconds(base_median)}"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"


def at_most(what: str, times: np.ndarray, base: np.ndarray, limit: float) -> Row:
    """Ratio of times."""
    ratio, detail = spread(times, base)
    return Row(what, f"{ratio:.2f} x", f"<= {limit:.2f} x", ratio <= limit, detail)


def at_least(what: str, slower: np.ndarray, faster: np.ndarray, limit: float) -> Row:
    """Ratio of speeds, that is of `slower`'s seconds to `faster`'s."""
    ratio, detail = spread(slower, faster)
    return Row(what, f"{ratio:.2f} x", f">= {limit:.2f} x", ratio >= limit, detail)


def with_detail(row: Row, more: str) -> Row:
    return replace(row, detail=f"{row.detail}{more}")
