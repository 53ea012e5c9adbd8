"""The run from end to end: data, tasks, tables, latency, files."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from accuracy import tables
from accuracy.categories import data_line, describe_data, load_categories, shorten
from accuracy.latency import BATCHES, measure_latency
from accuracy.methods.base import Method, Settings
from accuracy.methods.detector import make_bare_detector
from accuracy.methods.table import METHODS
from accuracy.options import make_parser, to_settings
from accuracy.outputs import SCHEMA, write_outputs
from accuracy.plan import Task, draw_references, is_readable, plan
from accuracy.results import Run, Unit
from accuracy.summary import summarise
from accuracy.tasks import run_task
from environment import BENCHMARKS, check_package, describe_environment, one_line
from patchclip import Detector, PatchclipError
from patchclip.datasets import Category
from patchclip.printable import allow_any_name_on_consoles

_MEASURING = (
    "anomalib_models",
    "internals",
    "accuracy/categories",
    "accuracy/gallery",
    "accuracy/measures",
    "accuracy/names",
    "accuracy/plan",
    "accuracy/results",
    "accuracy/rows",
    "accuracy/synthetic_set",
    "accuracy/tasks",
)


def measuring_files() -> list[Path]:
    """What the figures of a unit come from: when one of these files changes, `--resume` measures anew."""
    methods = (BENCHMARKS / "accuracy" / "methods").glob("*.py")
    return [*(BENCHMARKS / f"{name}.py" for name in _MEASURING), *methods]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and, with --out, write the files."""
    allow_any_name_on_consoles()
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.resume and options.out is None:
        parser.error("--resume needs --out, the folder of the run to go on with")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        with _folder(options.out) as folder:
            _run(options, folder)
    except (PatchclipError, ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    except KeyboardInterrupt:
        remedy = "; --resume goes on from here" if options.out else ""
        parser.exit(130, f"stopped{remedy}\n")


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """--out, or a folder that goes away."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="patchclip-bench-") as folder:
            yield Path(folder)
    else:
        out.mkdir(parents=True, exist_ok=True)
        yield out.resolve()


def _run(options: argparse.Namespace, folder: Path) -> None:
    categories = load_categories(options.data, options.dataset, limit=options.limit, folder=folder)
    data = describe_data(categories)
    for entry in data:
        print(data_line(entry))
    tasks, problems = plan(categories, options.methods, options.shots, options.seeds)
    if not tasks:
        raise ValueError("nothing to measure: " + "; ".join(problems))
    whole = dict.fromkeys(task.method for task in tasks if METHODS[task.method].whole)
    if options.tile and whole:
        problems.append(f"--tile does not count for {', '.join(whole)}: whole images alone")
    settings = to_settings(options, folder)
    settings.work.mkdir(exist_ok=True)
    bare = make_bare_detector(settings)
    environment = describe_environment(bare, measuring=measuring_files())
    print(one_line(environment), flush=True)
    for category in categories:
        problems += category.problems
    if remark := check_package():
        problems.append(remark)

    write = options.out is not None
    units = _measure_all(tasks, settings, folder / "state", environment, resume=options.resume, pictures=write)
    for unit in units:
        problems += unit.problems
    summary = summarise(units)
    print(f"\n{tables.summary_table(summary)}\n\n{tables.LEGEND}\n")
    if course := tables.course_tables(units):
        print(f"{course}\n")
    if names := tables.names_table([unit.row for unit in units]):
        print(f"{names}\n")
    latency = []
    if options.latency > 0:
        latency = _measure_latencies(tasks, settings, bare, options.latency)
        print(f"{tables.latency_table(latency)}\n\n{tables.parts_table(latency)}\n")
    remarks = list(dict.fromkeys(shorten(problems, categories)))
    for remark in remarks:
        print(f"note: {remark}")
    if write:
        write_outputs(folder, Run(environment, data, units, summary, latency, remarks))
        print(f"written to {options.out}: metrics.json, scores.csv, table.md, report.html")


def _measure_all(
    tasks: Sequence[Task],
    settings: Settings,
    state: Path,
    environment: Mapping[str, Any],
    *,
    resume: bool,
    pictures: bool,
) -> list[Unit]:
    """Every task in turn; a line for each that is done, and one bar over all images."""
    state.mkdir(exist_ok=True)
    methods = _Methods()
    units = []
    total = sum(len(task.category.test) for task in tasks)
    with tqdm(total=total, unit="img", smoothing=0.05) as bar:
        for position, task in enumerate(tasks, 1):
            bar.set_description(f"{position}/{len(tasks)} {task.method}")
            named = _with_name(settings, task.category)
            unit = run_task(
                task,
                lambda task=task, named=named: methods.get(task, named),  # type: ignore[misc]
                batch_size=settings.batch_size,
                examples=settings.examples,
                folder=state,
                identity=_identity(named, environment),
                resume=resume,
                pictures=pictures,
                advance=bar.update,
            )
            units.append(unit)
            bar.write(_unit_line(task, unit.row))
    return units


class _Methods:
    """Keeps the last method, for tasks that differ in their references alone; one is in memory at a time."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._method: Method | None = None

    def get(self, task: Task, settings: Settings) -> Method:
        key = (task.method, settings.object_name, task.category.kinds)
        if self._method is None or key != self._key:
            self._method = None
            self._method = METHODS[task.method].make(settings, task.category.kinds)
            self._key = key
        return self._method


def _with_name(settings: Settings, category: Category) -> Settings:
    """With the category's name in object_name where it was asked for."""
    name = category.name.replace("_", " ")
    return replace(settings, object_name=settings.object_name.replace("{category}", name))


def _identity(settings: Settings, environment: Mapping[str, Any]) -> dict[str, Any]:
    """What figures depend on beside the task: a unit of another identity is measured anew."""
    model, versions = environment["model"], environment["versions"]
    return {
        "schema": SCHEMA,
        "code": environment["code_sha256"],
        "torch": versions["torch"],
        "open_clip": versions["open_clip_torch"],
        "anomalib": versions["anomalib"],
        **{key: model[key] for key in ("weights_sha256", "input", "precision", "device", "image_size")},
        "tile": settings.tile,
        "object_name": settings.object_name,
        "max_false_positive_rate": settings.max_false_positive_rate,
        "batch_size": settings.batch_size,
        "examples": settings.examples,
    }


def _unit_line(task: Task, row: Mapping[str, Any]) -> str:
    parts = []
    for name, head in (("image_auroc", "image AUROC"), ("pixel_auroc", "pixel AUROC"), ("aupro", "AUPRO")):
        if row[name] is not None:
            parts.append(f"{head} {row[name]:.3f}")
    left_out = f", {row['unreadable']} unreadable" if row["unreadable"] else ""
    return f"{task.title}: {', '.join(parts)}{left_out}, {row['seconds_per_image']:.3f} s/image"


def _measure_latencies(
    tasks: Sequence[Task], settings: Settings, bare: Detector, seconds: float
) -> list[dict[str, Any]]:
    """Each method that predicts single images, once for each number of shots, on the images of the first category that
    it was measured on."""
    first = {task.method: task.category for task in reversed(tasks) if not METHODS[task.method].together}
    chosen = [task for task in tasks if task.category is first.get(task.method) and task.seed == 0]
    rows = []
    for task in tqdm(chosen, desc="latency", unit="method"):
        category = task.category
        method = METHODS[task.method].make(_with_name(settings, category), category.kinds)
        references, _ = draw_references(category, task.shots, task.seed)
        method.fit(references, seed=task.seed)
        paths = [sample.path for sample in category.test if is_readable(sample.path)][: max(BATCHES)]
        known = {"dataset": category.dataset, "category": category.name, "method": task.method, "shots": task.shots}
        for row in measure_latency(method, bare, paths, seconds=seconds):
            rows.append(known | row)
    return rows
