"""What was measured: the unit of one task, with its file, and all of a run.

A unit's file holds what tables, curves and the gallery need. It is named by a hash of everything that can change a
figure, so that `--resume` takes up what fits and measures the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.methods.base import References
from accuracy.plan import Shots, Task


@dataclass(frozen=True)
class Unit:
    """JSON-ready but for `replicates`.

    Attributes:
        row: of metrics.json.
        scores: of each test image, for scores.csv.
        replicates: metric -> (1 + resamples,), see `measures.replicate`.
        curves: "roc" and "pro" -> lists of x and of y.
        gallery: see `gallery.make_gallery`.
        problems: what was left out, one sentence each.
        requested_shots: of its `Task`; not in the file.
    """

    row: dict[str, Any]
    scores: list[dict[str, Any]]
    replicates: dict[str, np.ndarray]
    curves: dict[str, list[list[float]]]
    gallery: list[dict[str, Any]]
    problems: list[str]
    requested_shots: tuple[Shots, ...] = ()


@dataclass(frozen=True)
class Run:
    """All that the outputs show.

    Attributes:
        environment: of `environment.describe_environment`; data: of `categories.describe_data`.
        summary: of `summary.summarise`; latency: of `latency.measure_latency`, with what was measured.
        problems: what was left out or missing, one sentence each.
    """

    environment: Mapping[str, Any]
    data: Sequence[Mapping[str, Any]]
    units: Sequence[Unit]
    summary: Sequence[Mapping[str, Any]]
    latency: Sequence[Mapping[str, Any]]
    problems: Sequence[str]


def unit_path(folder: Path, task: Task, references: References, identity: Mapping[str, Any]) -> Path:
    """A readable name with a hash of everything that the figures depend on.

    Args:
        identity: what they depend on beside the task: code, weights, options.
    """
    test = []
    for sample in task.category.test:
        test.append([_stamp(sample.path), sample.label, sample.defect, *map(_stamp, sample.masks)])
    drawn = {str(name): [_stamp(path) for path in paths] for name, paths in references.items()}
    depends_on = [dict(identity), drawn, test, task.method, task.shots, task.seed]
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
    parts = (task.category.dataset, task.category.name, task.method, str(task.shots), str(task.seed))
    name = "".join(letter if letter.isalnum() or letter in "._+-" else "_" for letter in "-".join(parts))
    return folder / f"{name[:120]}-{digest[:16]}.json"


def _stamp(path: Path) -> list[Any]:
    """Changes when the file does."""
    try:
        found = path.stat()
    except OSError:
        return [str(path), None]
    return [str(path), found.st_size, found.st_mtime_ns]


def read_unit(path: Path, task: Task) -> Unit:
    """The inverse of `write_unit`, for a task of that name."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    replicates = {name: np.array(values) for name, values in stored.pop("replicates").items()}
    return Unit(**stored, replicates=replicates, requested_shots=task.requested_shots)


def write_unit(path: Path, unit: Unit) -> None:
    """As JSON; values that are not defined are NaN in it."""
    stored = {
        "row": unit.row,
        "scores": unit.scores,
        "replicates": {name: values.tolist() for name, values in unit.replicates.items()},
        "curves": unit.curves,
        "gallery": unit.gallery,
        "problems": unit.problems,
    }
    write_whole(path, json.dumps(stored))


def write_whole(path: Path, text: str, *, encoding: str = "utf-8") -> None:
    """The whole file or none of it; what cannot be encoded, as bytes of a file name that are not UTF-8, as escapes."""
    partial = path.with_name(path.name + ".writing")
    partial.write_bytes(text.encode(encoding, errors="backslashreplace"))
    os.replace(partial, path)
