"""Images a second by a pool of Ray actors, in turns with `Detector.predict_batch` in one process.

python benchmarks/pool.py --images 240 --side 224 --repeats 3

A ratio is to the run with two threads of the same turn. A pool is measured from its second block on: its processes
start and load the detector before.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image

from patchclip import Detector
from patchclip.batch import fetch_bytes, paths_dataset, predict_dataset
from patchclip.synthetic import sample_surface

ROWS_PER_BLOCK = 8


def write_images(folder: Path, count: int, side: int) -> list[str]:
    surface = sample_surface(np.random.default_rng(3), ["fabric"])
    drawn = [surface.photograph(surface.render(seed, (256, 256)), seed) for seed in range(8)]
    paths = []
    for index in range(count):
        path = folder / f"{index:05d}.jpg"
        Image.fromarray(drawn[index % 8]).resize((side, side)).save(path, quality=92)
        paths.append(str(path))
    return paths


class Speed(NamedTuple):
    """By the clock, and by what the processors did for it: other programs on the machine slow down the first alone."""

    images_per_s: float
    cpu_s_per_image: float


def cpu_seconds() -> float:
    """Of this process and all that it has started and that are still there."""
    parents, seconds = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
            seconds[int(stat.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    total = 0.0
    for process, used in seconds.items():
        ancestor = process
        while ancestor not in (0, os.getpid()):
            ancestor = parents.get(ancestor, 0)
        total += used if ancestor == os.getpid() else 0
    return total


def in_process(detector: Detector, paths: list[str], *, threads: int) -> Speed:
    torch.set_num_threads(threads)
    list(detector.predict_batch(paths[:16], progress=False))
    begun, used = time.perf_counter(), time.process_time()  # without children: pools of earlier turns are ending
    count = sum(1 for _ in detector.predict_batch(paths, progress=False))
    return Speed(count / (time.perf_counter() - begun), (time.process_time() - used) / count)


def by_pool(
    file: Path,
    paths: list[str],
    *,
    actors: int,
    column: Literal["path", "bytes"] = "path",
    decode: Literal["actors", "tasks"] = "actors",
) -> Speed:
    dataset = paths_dataset(paths, rows_per_block=ROWS_PER_BLOCK)
    if column == "bytes":
        dataset = fetch_bytes(dataset)
    rows = predict_dataset(dataset, file, image_column=column, num_actors=actors, decode=decode)
    begun, used, count, first = 0.0, 0.0, 0, 0
    for block in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
        count += block.num_rows
        if first < actors * ROWS_PER_BLOCK:
            begun, used, first = time.perf_counter(), cpu_seconds(), count
        if count == len(paths):  # before the pool ends
            end, used = time.perf_counter(), cpu_seconds() - used
    return Speed((count - first) / (end - begun), used / (count - first))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--side", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--address", default="local", help="of a cluster in place of two processors of this machine")
    args = parser.parse_args()

    import ray
    import ray.data

    os.environ.setdefault("RAY_worker_niceness", "0")  # else other programs on the machine go before Ray's workers
    resources = {"num_cpus": 2, "object_store_memory": 400_000_000, "include_dashboard": False}
    ray.init(args.address, logging_level="error", log_to_driver=False, **resources if args.address == "local" else {})
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.wait_for_min_actors_s = 120
    logging.getLogger("ray.data").setLevel("ERROR")
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = write_images(Path(temporary), args.images, args.side)
        detector = Detector(precision="fp32").fit(paths[:4], progress=False)
        file = Path(temporary) / "detector.safetensors"
        detector.save(file)
        runs: dict[str, Callable[[], Speed]] = {
            "predict_batch, two threads": lambda: in_process(detector, paths, threads=2),
            "predict_batch, one thread": lambda: in_process(detector, paths, threads=1),
            "1 actor, two threads": lambda: by_pool(file, paths, actors=1),
            "2 actors, a thread each": lambda: by_pool(file, paths, actors=2),
            "2 actors, bytes through the object store": lambda: by_pool(file, paths, actors=2, column="bytes"),
            "2 actors, decoded in tasks": lambda: by_pool(file, paths, actors=2, decode="tasks"),
        }
        found: dict[str, list[Speed]] = {name: [] for name in runs}
        for _ in range(args.repeats):
            for name, run in runs.items():
                found[name].append(run())
                speed = found[name][-1]
                load = f"load {os.getloadavg()[0]:.1f}"
                print(f"    {name:42s} {speed[0]:6.2f} images/s {speed[1]:6.3f} s of a processor, {load}", flush=True)
    for name, speeds in found.items():
        ratios = [one[0] / two[0] for one, two in zip(speeds, found["predict_batch, two threads"], strict=True)]
        rate, seconds = (statistics.median(speed[index] for speed in speeds) for index in (0, 1))
        spread = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{name:42s} {rate:6.2f} images/s, {seconds:6.3f} s; ratio {statistics.median(ratios):.2f} ({spread})")
    ray.shutdown()


if __name__ == "__main__":
    main()
