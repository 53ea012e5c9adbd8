"""Files of detectors: thousands of mutations, and processes that are killed while they save."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import numpy as np
import pytest

from patchclip import Detector, PatchclipError

pytestmark = [pytest.mark.stress, pytest.mark.filterwarnings("ignore:.*extrapolation")]

MUTATIONS = 2000
KILLS = 100


@pytest.fixture(scope="module")
def saved(local_model: str, normals: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "detector.safetensors"
    Detector(local_model, precision="fp32").fit(normals[:3], progress=False).save(path)
    return path


def mutate(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    kind = rng.randrange(4)
    position = rng.randrange(len(changed))
    if kind == 0:
        changed[position] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del changed[position:]
    elif kind == 2:
        changed[position : position + 32] = rng.randbytes(32)
    else:
        changed[position:position] = rng.randbytes(rng.randrange(1, 64))
    return bytes(changed)


def test_no_mutated_file_gives_another_result(saved: Path, normals: list[np.ndarray], tmp_path: Path) -> None:
    data, path, rng = saved.read_bytes(), tmp_path / "mutated.safetensors", random.Random(0)
    expected = Detector.load(saved).predict(normals[4]).to_dict()
    refused = 0
    for _ in range(MUTATIONS):
        path.write_bytes(mutate(data, rng))
        try:
            detector = Detector.load(path)
        except PatchclipError:
            refused += 1
            continue
        assert detector.predict(normals[4]).to_dict() == expected
    print(f"\n{MUTATIONS} mutated detector files: {refused} refused, {MUTATIONS - refused} as before, 0 other results")
    assert refused > 0.95 * MUTATIONS


def save_for_ever(detector: Detector, path: Path) -> None:
    value = 0
    while True:
        value = (value + 1) % 1000
        detector.threshold = value / 1000
        detector.save(path)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_kills_while_saving_lose_nothing(saved: Path, tmp_path: Path) -> None:
    path, rng = tmp_path / "detector.safetensors", random.Random(1)
    path.write_bytes(saved.read_bytes())
    path.chmod(0o640)
    detector = Detector.load(path)
    fork = multiprocessing.get_context("fork")
    thresholds = set()
    for _ in range(KILLS):
        process = fork.Process(target=save_for_ever, args=(detector, path))
        process.start()
        time.sleep(rng.uniform(0.01, 0.1))
        process.kill()
        process.join()
        process.close()
        thresholds.add(Detector.load(path).threshold)  # the file is whole
    time.sleep(1.1)  # younger temporary files may still be written
    detector.save(path)
    left = sorted(entry.name for entry in tmp_path.iterdir())
    mode = path.stat().st_mode & 0o777
    print(f"\n{KILLS} kills while saving: {len(thresholds)} thresholds read, left {left}, mode {mode:o}")
    assert len(thresholds) > 3  # some saves were finished
    assert left == ["detector.safetensors"]
    assert mode == 0o640
