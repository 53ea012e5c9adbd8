"""Images a second by a pool of Ray actors, each between two runs of `Detector.predict_batch` with two threads.

python benchmarks/pool.py --images 240 --side 224 --repeats 3

The ratio is to the mean of these two. A pool is measured from its second block on: its processes start and load the
detector before.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from patchclip import Detector
from patchclip.batch import predict_dataset
from patchclip.batch.sources import fetch_bytes, paths_dataset
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


def rate_in_process(detector: Detector, paths: list[str]) -> float:
    list(detector.predict_batch(paths[:16], progress=False))
    begun = time.perf_counter()
    count = sum(1 for _ in detector.predict_batch(paths, progress=False))
    return count / (time.perf_counter() - begun)


def rate_of_pool(file: Path, paths: list[str], *, actors: int, column: str = "path", decode: str = "actors") -> float:
    dataset = paths_dataset(paths, rows_per_block=ROWS_PER_BLOCK)
    if column == "bytes":
        dataset = fetch_bytes(dataset)
    rows = predict_dataset(dataset, file, image_column=column, num_actors=actors, decode=decode)
    begun, count, first = 0.0, 0, 0
    for block in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
        count += block.num_rows
        if first < actors * ROWS_PER_BLOCK:
            begun, first = time.perf_counter(), count
    return (count - first) / (time.perf_counter() - begun)


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
    here = {"num_cpus": 2, "object_store_memory": 400_000_000, "include_dashboard": False}
    ray.init(args.address, logging_level="error", log_to_driver=False, **here if args.address == "local" else {})
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.wait_for_min_actors_s = 120
    logging.getLogger("ray.data").setLevel("ERROR")
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = write_images(Path(temporary), args.images, args.side)
        detector = Detector(precision="fp32").fit(paths[:4], progress=False)
        file = Path(temporary) / "detector.safetensors"
        detector.save(file)
        runs: dict[str, Callable[[], float]] = {
            "1 actor, two threads": lambda: rate_of_pool(file, paths, actors=1),
            "2 actors, a thread each": lambda: rate_of_pool(file, paths, actors=2),
            "2 actors, bytes through the object store": lambda: rate_of_pool(file, paths, actors=2, column="bytes"),
            "2 actors, decoded in tasks": lambda: rate_of_pool(file, paths, actors=2, decode="tasks"),
        }
        rates: dict[str, list[float]] = {name: [] for name in runs}
        ratios: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(args.repeats):
            for name, run in runs.items():
                before = rate_in_process(detector, paths)
                rates[name].append(run())
                after = rate_in_process(detector, paths)
                ratios[name].append(2 * rates[name][-1] / (before + after))
                load = f"load {os.getloadavg()[0]:.1f}"
                print(f"    {name:42s} {before:7.2f} {rates[name][-1]:7.2f} {after:7.2f} images/s  {load}", flush=True)
    for name in runs:
        spread = " ".join(f"{ratio:.2f}" for ratio in ratios[name])
        median = statistics.median(ratios[name])
        print(f"{name:42s} {statistics.median(rates[name]):7.2f} images/s  ratio {median:.2f}  ({spread})")
    ray.shutdown()


if __name__ == "__main__":
    main()
