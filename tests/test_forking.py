"""A detector in a process that was forked after the parent had computed with several threads."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import multiprocessing, sys, warnings
import numpy as np, torch
from patchclip import Detector

warnings.simplefilter("ignore")
torch.set_num_threads(2)
image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
detector = Detector(sys.argv[1], precision="fp32")
expected = detector.predict(image).score

def score(index):
    return detector.predict(image).score

pool = multiprocessing.get_context("fork").Pool(2)
scores = pool.map_async(score, range(2)).get(timeout=120)
pool.terminate()
print(max(abs(score - expected) for score in scores))
"""


def test_a_forked_process_predicts(local_model: str) -> None:
    command = [sys.executable, "-c", PROGRAM, local_model]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    assert float(done.stdout) < 1e-5
