"""Measures one task: a method on a category with some references; or takes it from the folder of an earlier run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accuracy.categories import relative_path
from accuracy.gallery import make_gallery
from accuracy.measures import Record
from accuracy.methods.base import Method, Prediction, flatten
from accuracy.methods.table import METHODS
from accuracy.names import measure_names
from accuracy.plan import Task, draw_references, is_readable
from accuracy.results import Unit, read_unit, unit_path, write_unit
from accuracy.rows import check_binning, make_curves, make_row, make_scores, replicate_task
from patchclip import ImageError, metrics
from patchclip.datasets import Sample, read_mask


def run_task(
    task: Task,
    make: Callable[[], Method],
    *,
    batch_size: int,
    examples: Sequence[int] = (),
    folder: Path,
    identity: Mapping[str, Any],
    resume: bool,
    pictures: bool,
    advance: Callable[[int], object],
) -> Unit:
    """Measure a task, or with `resume` take what an earlier run measured.

    Args:
        make: constructs the method; called only where there is something to measure.
        batch_size: images that are predicted at once.
        examples: numbers of examples, see `names.measure_names`.
        folder: of the units' files.
        identity: what the figures depend on beside the task: code, weights, options.
        pictures: whether to draw the gallery of the report.
        advance: called with how many images are done.
    """
    references, problems = draw_references(task.category, task.shots, task.seed)
    path = unit_path(folder, task, references, identity)
    if resume and path.is_file():
        advance(len(task.category.test))
        return read_unit(path, task)
    path.unlink(missing_ok=True)

    method = make()
    start = time.perf_counter()
    method.fit(references, seed=task.seed)
    fit_seconds = time.perf_counter() - start
    predicted = _predict_all(task, method, batch_size, advance)
    records = predicted.records
    replicates = replicate_task(task, records)
    row = make_row(
        task,
        records,
        replicates,
        references=len(flatten(references)),
        seconds_per_image=predicted.elapsed_s / max(1, len(task.category.test)),
        fit_seconds=fit_seconds,
        notes=method.notes,
    )
    if METHODS[task.method].teaches and task.shots and task.category.kinds and examples and method.detector is not None:
        row["names"] = measure_names(method.detector, task.category.test, examples, seed=task.seed)
    unit = Unit(
        row=row,
        scores=make_scores(records),
        replicates=replicates,
        curves=make_curves(records),
        gallery=make_gallery(task, method, records) if pictures and records else [],
        problems=[*problems, *predicted.problems, *check_binning(task, row)],
        requested_shots=task.requested_shots,
    )
    write_unit(path, unit)
    return unit


@dataclass
class _Predicted:
    """Test images beside their truth; `elapsed_s` counts those that could not be read too."""

    records: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0


def _predict_all(task: Task, method: Method, batch_size: int, advance: Callable[[int], object]) -> _Predicted:
    samples = task.category.test
    paths = [sample.path for sample in samples]
    has_masks = any(sample.masks for sample in samples if sample.label)
    if not METHODS[task.method].together:
        _warm_up(method, paths)
    predicted = _Predicted()
    predictions = iter(method.predict(paths, batch_size=batch_size))
    for sample in samples:
        start = time.perf_counter()
        prediction = next(predictions)
        elapsed_s = time.perf_counter() - start
        predicted.elapsed_s += elapsed_s
        if isinstance(prediction, ImageError):
            predicted.problems.append(f"test image left out: {prediction}")
        else:
            tally, problem = _tally(sample, prediction) if has_masks else (None, None)
            if problem is not None:
                predicted.problems.append(problem)
            predicted.records.append(_to_record(task, sample, prediction, tally, elapsed_s))
        advance(1)
    return predicted


def _warm_up(method: Method, paths: list[Path]) -> None:
    for path in paths:
        if is_readable(path):
            next(iter(method.predict([path], batch_size=1)))
            return


def _tally(sample: Sample, prediction: Prediction) -> tuple[metrics.Tally | None, str | None]:
    """The pixels of an image counted against its mask, where it has both; and what is wrong with the mask."""
    if prediction.heatmap is None:
        return None, None
    mask, problem = read_mask(sample, prediction.heatmap.shape[:2])
    if mask is None:
        return None, problem
    return metrics.tally(prediction.heatmap, mask), problem


def _to_record(
    task: Task, sample: Sample, prediction: Prediction, tally: metrics.Tally | None, elapsed_s: float
) -> Record:
    return Record(
        path=relative_path(task.category, sample.path),
        label=sample.label,
        kind=sample.defect,
        score=prediction.score,
        threshold=prediction.threshold,
        defect=prediction.defect,
        tally=tally,
        similarity=prediction.similarity,
        elapsed_s=elapsed_s,
    )
