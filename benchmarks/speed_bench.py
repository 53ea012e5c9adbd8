"""What the rows of `speed.py` share: the bench, ratios taken in turns, memory and fresh processes."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from patchclip import Detector
from patchclip.synthetic import HELD_OUT, sample_defective, sample_surface

LARGE = "ViT-B-16-plus-240"
ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")


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
    """What rows share: files, weights, detectors; made when first needed.

    Args:
        folder: an empty one, for what is written.
        quick: smaller sizes and fewer repetitions, to see that all runs; not for the record.
        busy: count the processor's seconds in place of the clock's; torch has one thread then.
    """

    def __init__(self, folder: Path, *, quick: bool, busy: bool):
        self.folder, self.quick, self.busy = folder, quick, busy
        self.repetitions = 3 if quick else 5
        self.clock = time.process_time if busy else time.perf_counter

    def alternate(self, functions: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, np.ndarray]:
        """Seconds of each function: one round to warm up, then rounds in which each has its turn."""
        for function in functions.values():
            function()
        times: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(repetitions):
            for name, function in functions.items():
                start = self.clock()
                function()
                times[name].append(self.clock() - start)
        return {name: np.array(values) for name, values in times.items()}

    @cached_property
    def large_weights(self) -> str:
        """A checkpoint of the large model with random weights."""
        path = self.folder / "random.pt"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            torch.save(open_clip.CLIP(**open_clip.get_model_config(LARGE)).state_dict(), path)
        return str(path)

    def large(self, precision: str = "fp32", recipe: Any = "dense") -> Detector:
        detector = Detector(LARGE, pretrained=self.large_weights, precision=precision, recipe=recipe, device="cpu")  # type: ignore[arg-type]
        detector.threshold = 1.0  # random weights have no regions to name
        return detector

    @cached_property
    def photographs(self) -> list[Path]:
        """64 JPEG files of 800 x 800 pixels, every second one with a defect."""
        rng = np.random.default_rng(5)
        surfaces = [sample_surface(rng) for _ in range(4)]
        paths = []
        for number in range(64):
            surface = surfaces[number % 4]
            if number % 2:
                image = sample_defective(surface, number, rng, size_hw=(800, 800))[0]
            else:
                image = surface.photograph(surface.render(number, (800, 800)), number)
            paths.append(self.folder / f"{number:02}.jpg")
            Image.fromarray(image).save(paths[-1], quality=90)
        return paths


@contextlib.contextmanager
def make_bench(*, quick: bool, busy: bool) -> Iterator[Bench]:
    """A bench whose files are gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Bench(Path(folder), quick=quick, busy=busy)


def spread(own: np.ndarray, base: np.ndarray) -> tuple[float, str]:
    """Ratio of the medians; and the lowest and highest ratio of one round, with both medians."""
    ratios = own / base
    detail = (
        f"rounds {ratios.min():.2f} to {ratios.max():.2f}; {_seconds(np.median(own))} to {_seconds(np.median(base))}"
    )
    return float(np.median(own) / np.median(base)), detail


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"


def at_most(what: str, own: np.ndarray, base: np.ndarray, limit: float) -> Row:
    ratio, detail = spread(own, base)
    return Row(what, f"{ratio:.2f} x", f"<= {limit:.2f} x", ratio <= limit, detail)


def at_least(what: str, slower: np.ndarray, faster: np.ndarray, limit: float) -> Row:
    """Ratio of speeds, that is of `slower`'s seconds to `faster`'s."""
    ratio, detail = spread(slower, faster)
    return Row(what, f"{ratio:.2f} x", f">= {limit:.2f} x", ratio >= limit, detail)


def synthetic_set(count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Images of families that training never saw, every second one with a defect; and which those are."""
    rng, images = np.random.default_rng(11), []
    surfaces = [sample_surface(rng, [family]) for family in HELD_OUT]
    for number in range(count):
        surface = surfaces[number // 2 % len(surfaces)]
        if number % 2:
            images.append(sample_defective(surface, number, rng, held_out=True)[0])
        else:
            images.append(surface.photograph(surface.render(number), number))
    return images, np.arange(count) % 2


def bare_forward(detector: Detector, batch: int) -> Callable[[], Any]:
    """open_clip's own image tower on pixels at the model's size, all of it in the detector's precision."""
    visual, kind = bare_tower(detector)
    side = detector.backbone.image_size
    pixels = torch.rand(batch, 3, side, side, device=detector.backbone.device, dtype=kind)

    def forward() -> None:
        with torch.inference_mode():
            visual(pixels)

    return forward


def bare_tower(detector: Detector) -> tuple[Any, torch.dtype]:
    """A copy of open_clip's image tower, and the type of its matrices: that of the detector's last block."""
    visual: Any = detector.backbone.model.clip.visual
    kind = visual.transformer.resblocks[-1].attn.in_proj_weight.dtype
    return copy.deepcopy(visual).to(kind), kind


_CLOCK = """
import os, sys, time
import torch, open_clip
clock = time.process_time if os.environ.get("BUSY") else time.perf_counter
torch.set_num_threads(1 if os.environ.get("BUSY") else torch.get_num_threads())
"""


def child(bench: Bench, code: str, arguments: Sequence[str]) -> list[float]:
    """The numbers that a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", _CLOCK + code, *arguments],
        cwd=ROOT,
        env=os.environ | {"BUSY": "1" if bench.busy else ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(value) for value in done.stdout.split()]


def extra_memory(function: Callable[[], Any]) -> float:
    """Most resident memory while it runs, less that before, in MB; 0 where the system cannot tell."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what was freed and kept would hide what is taken now
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        before = _status("VmRSS")
        function()
        return _status("VmHWM") - before
    function()
    return 0.0


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024
