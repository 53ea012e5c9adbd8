"""Small data sets on disk, runs of the accuracy benchmark on them, and what they leave behind."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from accuracy.main import main
from patchclip.synthetic import Surface, sample_defective

SIZE_HW = (72, 96)


def write_image(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def write_mvtec(root: Path, surface: Surface) -> Path:
    """A category in MVTec's layout: 5 references, 4 normal and 3 images of each of two kinds to test, 72 x 96."""
    rng = np.random.default_rng(0)
    for index in range(9):
        part = "train" if index < 5 else "test"
        write_image(root / part / "good" / f"{index}.png", surface.photograph(surface.render(index, SIZE_HW), index))
    for index, kind in enumerate(("hole", "stain") * 3):
        image, mask, _ = sample_defective(surface, 50 + index, rng, kind=kind, size_hw=SIZE_HW)
        write_image(root / "test" / kind / f"{index}.png", image)
        write_image(root / "ground_truth" / kind / f"{index}_mask.png", mask)
    return root


def write_course(root: Path, surface: Surface) -> Path:
    """The course's layout: one class of 4 references, 4 normal and 6 anomalous images to test."""
    rng = np.random.default_rng(0)
    for index in range(8):
        part = "train/one" if index < 4 else "test/normal"
        write_image(root / part / f"{index}.png", surface.photograph(surface.render(index, SIZE_HW), index))
    for index, kind in enumerate(("hole", "stain") * 3):
        image, *_ = sample_defective(surface, 50 + index, rng, kind=kind, size_hw=SIZE_HW)
        write_image(root / "test" / "anomaly" / f"{index}.png", image)
    return root


def run(data: Path, model: str, *more: str) -> None:
    """Without latency, in float32."""
    main(["--data", str(data), "--model", model, "--precision", "fp32", "--latency", "0", "--batch-size", "4", *more])


def read_metrics(out: Path) -> dict[str, Any]:
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))


def read_rows(out: Path) -> list[dict[str, Any]]:
    return read_metrics(out)["rows"]


def read_scores(out: Path) -> list[dict[str, str]]:
    with (out / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))
