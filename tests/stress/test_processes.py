"""Threads, forked and spawned processes, and long runs."""

from __future__ import annotations

import gc
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from patchclip import Detector

pytestmark = [pytest.mark.stress, pytest.mark.filterwarnings("ignore:.*extrapolation")]

PREDICTIONS = 20_000


@pytest.fixture(scope="module")
def fitted(local_model: str, normals: list[np.ndarray]) -> Detector:
    return Detector(local_model, precision="fp32").fit(normals[:3], progress=False)


def test_eight_threads_agree(fitted: Detector, normals: list[np.ndarray]) -> None:
    expected = [fitted.predict(image).score for image in normals]
    with ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(lambda k: fitted.predict(normals[k % len(normals)]).score, range(720)))
    largest = max(abs(score - expected[k % len(normals)]) for k, score in enumerate(scores))
    print(f"\n720 predictions in 8 threads: largest difference {largest:.1e}")
    assert largest < 1e-5


def score_loaded(job: tuple[str, np.ndarray]) -> float:
    path, image = job
    return Detector.load(path).predict(image).score


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_four_processes_agree(method: str, fitted: Detector, normals: list[np.ndarray], tmp_path: Path) -> None:
    if method not in multiprocessing.get_all_start_methods():
        return  # no fork on Windows
    path = tmp_path / "detector.safetensors"
    fitted.save(path)
    expected = [fitted.predict(image).score for image in normals]
    with multiprocessing.get_context(method).Pool(4) as pool:
        scores = pool.map_async(score_loaded, [(str(path), image) for image in normals]).get(timeout=300)
    largest = max(abs(score - wanted) for score, wanted in zip(scores, expected, strict=True))
    print(f"\n4 {method}ed processes: largest difference {largest:.1e}")
    assert largest < 1e-5


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("/proc/self/status has no VmRSS")


def test_memory_and_handles_stay_flat(fitted: Detector, normals: list[np.ndarray]) -> None:
    def run(count: int) -> None:
        stream = fitted.predict_batch((normals[k % len(normals)] for k in range(count)), progress=False)
        assert sum(1 for _ in stream) == count

    run(2_000)
    gc.collect()
    before_mb, handles = resident_mb(), len(os.listdir("/proc/self/fd"))
    run(PREDICTIONS)
    gc.collect()
    grown_mb = resident_mb() - before_mb
    print(f"\n{PREDICTIONS} predictions: memory grew by {grown_mb:.1f} MB, handles {handles} and still")
    assert grown_mb < 20
    assert len(os.listdir("/proc/self/fd")) == handles


def test_large_images_stay_within_a_bound(fitted: Detector) -> None:
    """12-megapixel images in batches of 16: at most 1.5 GB beside what the process had."""
    image = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8)
    before_mb = resident_mb()
    highest_mb = 0.0
    for _ in fitted.predict_batch((image for _ in range(48)), batch_size=16, progress=False):
        highest_mb = max(highest_mb, resident_mb() - before_mb)
    print(f"\n48 images of 12 megapixels at batch size 16: {highest_mb:.0f} MB at most")
    assert highest_mb < 1536
