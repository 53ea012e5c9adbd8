#!/usr/bin/env python3
"""Accuracy and latency on any data, with any model and method.

python benchmarks/run.py                                        the synthetic set on the embedded model
python benchmarks/run.py --data mvtec --shots 0 1 4 --seeds 3 --out runs/mvtec
python benchmarks/run.py --data mvtec --shots 0 1 4 --seeds 3 --out runs/mvtec --resume
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # a script: import from the checkout, and nothing in this folder by its bare name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from tqdm import tqdm

from benchmarks import tables
from benchmarks.environment import describe_environment, one_line
from benchmarks.latency import BATCHES, measure_latency
from benchmarks.measures import summarise
from benchmarks.methods import COURSE_METHODS, DEFAULT_METHODS, METHODS, Method, Settings, make_detector
from benchmarks.outputs import SCHEMA, describe_data, write_outputs
from benchmarks.plan import Task, draw_references, plan, readable
from benchmarks.synthetic_set import make_synthetic
from benchmarks.units import run_task
from patchclip import PatchclipError
from patchclip.datasets import LAYOUTS, Category, DatasetError, read_dataset, read_elpv, read_textile


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables and, with --out, write the files."""
    parser = _parser()
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
        parser.exit(130, "stopped" + ("; --resume goes on from here\n" if options.out else "\n"))


def _parser() -> argparse.ArgumentParser:
    methods = "\n".join(f"  {name:19} {entry.about}" for name, entry in METHODS.items())
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"methods:\n{methods}\n\nlayouts that --data knows:\n{LAYOUTS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_argument_group("what to measure")
    add = group.add_argument
    add("--data", type=Path, action="append", default=[], metavar="PATH", help="a folder or csv file; may be repeated")
    add(
        "--dataset",
        action="append",
        default=[],
        choices=("synthetic", "elpv", "textile"),
        help="a set without a path: the synthetic one (the default without --data), or one of an installed package",
    )
    add(
        "--methods",
        nargs="+",
        choices=METHODS,
        metavar="METHOD",
        help=f"default: {' '.join(DEFAULT_METHODS)}; on a course layout also course-zeroshot course-fewshot",
    )
    add(
        "--shots",
        nargs="+",
        type=_shots,
        default=[0, 4],
        metavar="N",
        help='numbers of normal images to fit on, or "all" (default: 0 4; a course layout uses all it has)',
    )
    add("--seeds", type=_count, default=3, metavar="N", help="draws of the references (default: 3)")
    add("--limit", type=_count, metavar="N", help="at most so many normal and anomalous test images a category each")
    add(
        "--latency",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="to spend on each method and batch size, 0 for no latency (default: 1)",
    )
    group = parser.add_argument_group("where the results go")
    add = group.add_argument
    add("--out", type=Path, metavar="DIR", help="write metrics.json, scores.csv, table.md and report.html there")
    add(
        "--resume",
        action="store_true",
        help="go on with the run in --out: what is measured already is not measured again, and the tables hold what "
        "this command asks for",
    )
    group = parser.add_argument_group("the detector")
    add = group.add_argument
    add("--model", default="tiny", help="its name, as for patchclip.Detector (default: tiny, the embedded one)")
    add("--pretrained", metavar="TAG", help="an open_clip tag or a checkpoint for --model (default: the model's own)")
    add("--device", default="auto", help="cpu, cuda, ... (default: auto)")
    add("--precision", default="auto", choices=("auto", "fp32", "bf16"), help="default: auto")
    add("--image-size", type=_count, metavar="PX", help="default: the model's own")
    add("--tile", type=_count, metavar="PX", help="default: no tiles")
    add(
        "--object-name",
        default="surface",
        metavar="WORD",
        help="what the images show; {category} stands for the category's name (default: surface)",
    )
    add(
        "--max-false-positive-rate",
        type=float,
        default=0.05,
        metavar="RATE",
        help="what fitted thresholds aim at (default: 0.05)",
    )
    add("--batch-size", type=_count, default=16, metavar="N", help="default: 16")
    add("--threads", type=_count, metavar="N", help="of torch (default: torch's own choice)")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds, 0 or more, got {text}")
    return value


def _shots(text: str) -> int | str:
    if text == "all":
        return text
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f'expected a number of references or "all", got {text!r}')
    return int(text)


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
    categories = load_categories(options, folder)
    for category in categories:
        anomalous = sum(sample.label for sample in category.test)
        print(
            f"{category.dataset}/{category.name}: {category.layout} layout, "
            f"{sum(map(len, category.references.values()))} references, "
            f"{len(category.test) - anomalous} normal and {anomalous} anomalous test images"
        )
    tasks, problems = plan(categories, options.methods, options.shots, options.seeds, default_methods)
    if not tasks:
        raise ValueError("nothing to measure: " + "; ".join(problems))
    whole = dict.fromkeys(task.method for task in tasks if METHODS[task.method].whole)
    if options.tile and whole:
        problems.append(f"--tile does not count for {', '.join(whole)}: whole images alone")
    settings = Settings(
        work=folder / "work",
        model=options.model,
        pretrained=options.pretrained,
        device=options.device,
        precision=options.precision,
        image_size=options.image_size,
        tile=options.tile,
        object_name=options.object_name,
        max_false_positive_rate=options.max_false_positive_rate,
        batch_size=options.batch_size,
    )
    settings.work.mkdir(exist_ok=True)
    bare = make_detector(settings, cues=("text",))
    environment = describe_environment(bare)
    print(one_line(environment), flush=True)
    problems += [problem for category in categories for problem in category.problems]

    reported = options.out is not None
    units = _measure_all(tasks, settings, folder / "state", environment, resume=options.resume, pictures=reported)
    problems += [problem for unit in units for problem in unit["problems"]]
    problems = list(dict.fromkeys(_shortened(problems, categories)))
    summary = summarise(units)
    print(f"\n{tables.summary_table(summary)}\n\n{tables.LEGEND}\n")
    if course := tables.course_tables(units):
        print(f"{course}\n")
    latency = _measure_all_latency(tasks, settings, bare, options.latency) if options.latency > 0 else []
    if latency:
        print(f"{tables.latency_table(latency)}\n\n{tables.parts_table(latency)}\n")
    for problem in problems:
        print(f"note: {problem}")
    if reported:
        write_outputs(folder, environment, describe_data(categories), units, summary, latency, problems)
        print(f"written to {options.out}: metrics.json, scores.csv, table.md, report.html")


def load_categories(options: argparse.Namespace, folder: Path) -> list[Category]:
    """All data that was asked for; the names of data sets are made to differ, by the folder above or the whole path.

    Raises:
        DatasetError: see `datasets.read_dataset`, or one folder is given twice.
        MissingDependencyError: the package of a --dataset is not installed.
    """
    paths = [path.resolve() for path in options.data]
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise DatasetError(f"--data {twice[0]} is given twice")
    ends = [path.parts[-2:] for path in paths]
    parents = [path.parent.name if ends.count(path.parts[-2:]) == 1 else str(path.parent) for path in paths]
    groups = list(zip(parents, map(read_dataset, paths), strict=True))
    for name in options.dataset or ([] if options.data else ["synthetic"]):
        reader = {"elpv": read_elpv, "textile": read_textile}.get(name)
        groups.append(("", reader() if reader else make_synthetic(folder / "synthetic")))
    names = [group[0].dataset for _, group in groups]
    categories = []
    for parent, group in groups:
        for category in group:
            several = names.count(category.dataset) > 1
            named = replace(category, dataset=f"{parent}/{category.dataset}") if several else category
            categories.append(_limited(named, options.limit) if options.limit else named)
    return categories


def _limited(category: Category, limit: int) -> Category:
    """At most so many test images of either label, drawn with a fixed seed, in their order."""
    kept: set[int] = set()
    for label in (0, 1):
        places = [place for place, sample in enumerate(category.test) if sample.label == label]
        kept |= {places[k] for k in np.random.default_rng(0).permutation(len(places))[:limit]}
    test = tuple(sample for place, sample in enumerate(category.test) if place in kept)
    note = f"{category.dataset}/{category.name}: --limit {limit} keeps {len(test)} of {len(category.test)} test images"
    return replace(category, test=test, problems=(*category.problems, note))


def _shortened(problems: Sequence[str], categories: Sequence[Category]) -> Iterator[str]:
    """With the names of data sets in the place of the folders they are in."""
    for problem in problems:
        for category in categories:
            problem = problem.replace(str(category.root), f"{category.dataset}/{category.name}")
        yield problem


def default_methods(category: Category) -> Sequence[str]:
    """What runs without --methods."""
    return COURSE_METHODS if category.layout == "course" else DEFAULT_METHODS


def _named(settings: Settings, category: Category) -> Settings:
    """Settings with the category's name in object_name where it was asked for."""
    name = category.name.replace("_", " ")
    return replace(settings, object_name=settings.object_name.replace("{category}", name))


def _measure_all(
    tasks: Sequence[Task],
    settings: Settings,
    state: Path,
    environment: Mapping[str, Any],
    *,
    resume: bool,
    pictures: bool,
) -> list[dict[str, Any]]:
    """Every task in turn; a line for each that is done, and one bar over all images."""
    state.mkdir(exist_ok=True)
    units: list[dict[str, Any]] = []
    made: dict[tuple[Any, ...], Method] = {}
    total = sum(len(task.category.test) for task in tasks)
    with tqdm(total=total, unit="img", smoothing=0.05) as bar:
        for number, task in enumerate(tasks, 1):
            own = _named(settings, task.category)
            bar.set_description(f"{number}/{len(tasks)} {task.method}")

            def make(task: Task = task, own: Settings = own) -> Method:
                key = (task.method, own.object_name, task.category.kinds)
                if key not in made:
                    made.clear()  # one method at a time is in memory
                    made[key] = METHODS[task.method].make(own, task.category.kinds)
                return made[key]

            unit = run_task(
                task,
                make,
                own,
                state=state,
                identity=_identity(own, environment),
                resume=resume,
                pictures=pictures,
                advance=bar.update,
            )
            units.append(unit | {"asked": task.asked})
            bar.write(_unit_line(task, unit["row"]))
    return units


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
    }


def _unit_line(task: Task, row: Mapping[str, Any]) -> str:
    shown = [
        f"{head} {row[name]:.3f}"
        for name, head in (("image_auroc", "image AUROC"), ("pixel_auroc", "pixel AUROC"), ("aupro", "AUPRO"))
        if row[name] is not None
    ]
    left_out = f", {row['unreadable']} unreadable" if row["unreadable"] else ""
    return f"{task.title}: {', '.join(shown)}{left_out}, {row['seconds_per_image']:.3f} s/image"


def _measure_all_latency(tasks: Sequence[Task], settings: Settings, bare: Any, seconds: float) -> list[dict[str, Any]]:
    """Each method once for each number of shots, on the images of the first category that it was measured on."""
    first = {task.method: task.category for task in reversed(tasks)}
    chosen = [task for task in tasks if task.category is first[task.method] and task.seed == 0]
    rows = []
    for task in tqdm(chosen, desc="latency", unit="method"):
        own = _named(settings, task.category)
        method = METHODS[task.method].make(own, task.category.kinds)
        method.fit(draw_references(task.category, task.shots, task.seed)[0], seed=task.seed)
        paths = [sample.path for sample in task.category.test if readable(sample.path)][: max(BATCHES)]
        known = {"dataset": task.category.dataset, "category": task.category.name, "method": task.method}
        rows += [known | {"shots": task.shots} | row for row in measure_latency(method, bare, paths, seconds=seconds)]
    return rows


if __name__ == "__main__":
    main()
