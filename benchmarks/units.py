"""One measurement: a method on a category with some references. It can be stopped and gone on with at any image.

A unit's file in the state folder holds all that tables, curves and the gallery need; while it is being measured, a
second file has a line for each image done. Files are named by a hash of everything that can change a figure, so that
`--resume` takes up what fits and measures the rest.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from patchclip import ImageError, metrics
from patchclip.datasets import read_mask

from . import state as files
from .gallery import make_gallery
from .measures import METRICS, Record, interval, replicate
from .methods import Method, References, Settings
from .plan import Task, draw_references, readable, told_path

#: Points of a curve in the report.
_CURVE_POINTS = 160


def run_task(
    task: Task,
    make: Callable[[], Method],
    settings: Settings,
    *,
    state: Path,
    identity: Mapping[str, Any],
    resume: bool,
    pictures: bool,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """Measure a task, or take what is left of an earlier run of it.

    Args:
        make: the method, constructed; called only when there is something left to measure.
        state: folder of the units' files.
        identity: what the figures depend on beside the task (code, weights, options).
        pictures: whether to draw the gallery of the report.
        advance: told of every image that is done.

    Returns:
        "row", "scores", "replicates", "curves", "gallery", "problems"; JSON-ready but for "replicates", a dict of
        metric -> (1 + resamples,).
    """
    references, problems = draw_references(task.category, task.shots, task.seed)
    name = files.unit_name(task, references, identity)
    finished, partial = state / f"{name}.json", state / f"{name}.part"
    if resume and finished.is_file():
        unit = json.loads(finished.read_text())
        advance(len(task.category.test))
        return unit | {"replicates": files.unpack_arrays(unit["replicates"])}
    finished.unlink(missing_ok=True)
    done = files.read_partial(partial, settings.batch_size) if resume else []
    advance(len(done))

    method = make()
    start = time.perf_counter()
    method.fit(references, seed=task.seed)
    fit_s = time.perf_counter() - start
    done += _measure(task, method, settings, done, partial, advance)

    records = [record for entry in done if (record := _to_record(entry)) is not None]
    problems += [entry["problem"] for entry in done if entry["problem"]]
    elapsed = {entry["path"]: entry["elapsed_s"] for entry in done}
    unit = {
        **_summarise(task, records, references, method, elapsed, fit_s, problems),
        "gallery": make_gallery(task, method, records) if pictures and records else [],
    }
    stored = unit | {"replicates": {key: files.pack_array(values) for key, values in unit["replicates"].items()}}
    files.write_whole(finished, json.dumps(stored))
    partial.unlink(missing_ok=True)
    return unit


def _measure(
    task: Task,
    method: Method,
    settings: Settings,
    done: Sequence[Mapping[str, Any]],
    partial: Path,
    advance: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Predict the images that are not done, one line in `partial` for each."""
    rest = task.category.test[len(done) :]
    if not rest:
        return []
    first = next((sample.path for sample in rest if readable(sample.path)), None)
    if first is not None:
        next(iter(method.predict([first], batch_size=1)))  # warm-up
    entries = []
    masked = any(sample.masks for sample in task.category.test)
    with partial.open("a" if done else "w") as file:
        predictions = iter(method.predict([sample.path for sample in rest], batch_size=settings.batch_size))
        for sample in rest:
            start = time.perf_counter()
            prediction = next(predictions)
            elapsed = time.perf_counter() - start
            entry: dict[str, Any] = {
                "path": told_path(task.category, sample.path),
                "elapsed_s": elapsed,
                "problem": None,
            }
            if isinstance(prediction, ImageError):
                entry |= {"score": None, "problem": f"test image left out: {prediction}"}
            else:
                tally = None
                if masked and prediction.heatmap is not None:
                    mask, entry["problem"] = read_mask(sample, prediction.heatmap.shape[:2])
                    tally = None if mask is None else files.pack_tally(metrics.tally(prediction.heatmap, mask))
                entry |= {
                    "label": sample.label,
                    "kind": sample.defect,
                    "score": prediction.score,
                    "threshold": prediction.threshold,
                    "defect": prediction.defect,
                    "similarity": prediction.similarity,
                    "tally": tally,
                }
            file.write(json.dumps(entry) + "\n")
            file.flush()
            entries.append(entry)
            advance(1)
    return entries


def _summarise(
    task: Task,
    records: Sequence[Record],
    references: References,
    method: Method,
    elapsed: Mapping[str, float],
    fit_s: float,
    problems: list[str],
) -> dict[str, Any]:
    category = task.category
    tallied = [record.tally for record in records if record.tally is not None]
    thresholds = [record.threshold for record in records]
    replicates = replicate(
        records, named=bool(category.kinds), seed=zlib.crc32(f"{category.dataset}/{category.name}".encode())
    )
    row: dict[str, Any] = {
        "dataset": category.dataset,
        "category": category.name,
        "layout": category.layout,
        "method": task.method,
        "shots": task.shots,
        "seed": task.seed,
        "references": sum(len(paths) for paths in references.values()),
        "images": len(records),
        "anomalous": sum(record.label for record in records),
        "unreadable": len(category.test) - len(records),
        "images_with_pixels": len(tallied),
        "threshold": thresholds[0] if thresholds else None,
        "seconds_per_image": sum(elapsed.values()) / max(1, len(elapsed)),
        "fit_seconds": fit_s,
    }
    for name in METRICS:
        row[name] = _finite(replicates[name][0])
        bounds = interval(replicates[name])
        row[f"{name}_95"] = None if bounds is None else list(bounds)
    for key, value in method.notes.items():
        row.setdefault(key, value)
    if category.kinds:
        row["by_kind"] = _by_kind(records)
    if tallied and any(one.regions for one in tallied):
        error = metrics.pixel_metrics(tallied)["binning_error"]
        row["pixel_binning_error"] = error
        if error > 1e-3:
            problems.append(f"{task.title}: many pixels share a score; pixel_auroc is known to within {error:.4f}")
    scores = [
        {
            "path": record.path,
            "label": record.label,
            "kind": record.kind,
            "score": record.score,
            "threshold": record.threshold,
            "defect": record.defect,
            "similarity": record.similarity,
            "elapsed_s": elapsed[record.path],
        }
        for record in records
    ]
    return {
        "row": row,
        "scores": scores,
        "replicates": replicates,
        "curves": _curves(records),
        "problems": problems,
    }


def _by_kind(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Image AUROC of each kind of defect against all normal images."""
    normal = [record.score for record in records if record.label == 0]
    out = {}
    for kind in sorted({record.kind for record in records if record.kind}):
        scores = [record.score for record in records if record.kind == kind]
        labels = np.array([0] * len(normal) + [1] * len(scores))
        out[kind] = {"images": len(scores), "image_auroc": _finite(metrics.auroc(labels, np.array(normal + scores)))}
    return out


def _curves(records: Sequence[Record]) -> dict[str, list[list[float]]]:
    """ "roc" of images and "pro" of pixels: lists of x and of y, thinned."""
    labels = np.array([record.label for record in records])
    scores = np.array([record.score for record in records])
    out = {}
    if 0 < labels.sum() < len(labels):
        _, place = np.unique(-scores, return_inverse=True)
        out["roc"] = _thin(np.bincount(place, labels == 0), np.bincount(place, labels == 1))
    tallies = [record.tally for record in records if record.tally is not None]
    if any(tally.regions for tally in tallies):
        counts = metrics.merge(tallies)
        out["pro"] = _thin(counts.normal[0], counts.overlap[0], limit=metrics.PRO_LIMIT)
    return out


def _thin(x: np.ndarray, y: np.ndarray, *, limit: float = 1.0) -> list[list[float]]:
    """Counts by score, highest first -> at most `_CURVE_POINTS` points of the cumulated curve from (0, 0) on."""
    across = np.concatenate([[0], x.cumsum() / max(x.sum(), 1e-300)])
    up = np.concatenate([[0], y.cumsum() / max(y.sum(), 1e-300)])
    within = int(np.searchsorted(across, limit, side="right"))
    across, up = across[: within + 1], up[: within + 1]
    length = np.concatenate([[0], np.cumsum(np.diff(across) / limit + np.diff(up))])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], _CURVE_POINTS)))
    return [np.round(across[kept], 5).tolist(), np.round(up[kept], 5).tolist()]


def _to_record(entry: Mapping[str, Any]) -> Record | None:
    if entry["score"] is None:
        return None
    return Record(
        entry["path"],
        entry["label"],
        entry["kind"],
        entry["score"],
        entry["threshold"],
        entry["defect"],
        None if entry["tally"] is None else files.unpack_tally(entry["tally"]),
        tuple(entry["similarity"]) if entry["similarity"] else None,
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
