"""Rows of `speed.py` about whole processes: first result, import, memory over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.speed_bench import Bench, Row, child

_FIRST_RESULT = """
start = clock()
from patchclip import Detector
import warnings
warnings.simplefilter("ignore")
folder, *paths = sys.argv[1:]
detector = Detector(device="cpu").fit(paths[:16], progress=False)
detector.save(folder + "/fitted.safetensors")
Detector.load(folder + "/fitted.safetensors").predict(paths[16])
print(clock() - start)
"""

_READY = """
from patchclip import Detector
start = clock()
Detector(device="cpu")
print(clock() - start)
"""

_IMPORT = """
start = clock()
import patchclip
print(clock() - start)
"""

_MANY = """
import numpy as np
from patchclip import Detector
total = int(sys.argv[1])
detector = Detector(device="cpu")
images = np.random.default_rng(0).integers(0, 256, (37, 256, 256, 3), np.uint8)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
after = []
for number, _ in enumerate(detector.predict_batch((images[k % 37] for k in range(total)), progress=False), 1):
    if number > 200:
        after.append(resident())
window = min(1000, len(after) // 2)
start = np.median(after[:window])
print(np.median(after[-window:]) - start, max(after) - start)
"""


def fresh(bench: Bench) -> Iterator[Row]:
    arguments = [str(bench.folder), *map(str, bench.photographs[0:34:2])]
    values = [child(bench, _FIRST_RESULT, arguments)[-1] for _ in range(2 if bench.quick else 3)]
    yield _seconds_row(
        "fit of 16 images of 800 x 800, save, load, first predict, embedded model, fresh process", values, 5
    )


def ready(bench: Bench) -> Iterator[Row]:
    values = [child(bench, _READY, [])[-1] for _ in range(3 if bench.quick else 7)]
    yield _seconds_row("Detector(), embedded model, after the imports, fresh process", values, 1)


def importing(bench: Bench) -> Iterator[Row]:
    values = [child(bench, _IMPORT, [])[-1] for _ in range(3 if bench.quick else 7)]
    yield _seconds_row("import patchclip, beyond torch and open_clip", values, 0.15)


def _seconds_row(what: str, values: Sequence[float], limit: float) -> Row:
    middle = float(np.median(values))
    detail = f"{len(values)} processes, {min(values):.2f} to {max(values):.2f} s"
    return Row(what, f"{middle:.2f} s", f"<= {limit} s", middle <= limit, detail)


def memory(bench: Bench) -> Iterator[Row]:
    total = 1_000 if bench.quick else 10_000
    what = f"memory over predict_batch of {total:,} images, growth after the first 200"
    if not Path("/proc/self/statm").exists():
        yield Row(what, "-", "< 20 MB", None, "no /proc here")
        return
    growth, highest = child(bench, _MANY, [str(total)])
    yield Row(
        what,
        f"{growth:.1f} MB",
        "< 20 MB",
        growth < 20,
        "median resident size over the last 1,000, less that over the 1,000 after the first 200; at most "
        f"{highest:.0f} MB above it, for a batch",
    )
