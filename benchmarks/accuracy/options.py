"""The command line of run.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from accuracy.categories import DATASETS
from accuracy.methods.base import Settings
from accuracy.methods.table import DEFAULT_METHODS, METHODS
from patchclip.datasets import LAYOUTS

_DESCRIPTION = """\
Accuracy and latency on any data, with any model and method.

python benchmarks/run.py                                        the synthetic set on the embedded model
python benchmarks/run.py --data mvtec --shots 0 1 4 --seeds 3 --out runs/mvtec
python benchmarks/run.py --data mvtec --shots 0 1 4 --seeds 3 --out runs/mvtec --resume
"""


def make_parser() -> argparse.ArgumentParser:
    methods = "\n".join(f"  {name:27} {entry.description}" for name, entry in METHODS.items())
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION,
        epilog=f"methods:\n{methods}\n\nlayouts that --data knows:\n{LAYOUTS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_measured(parser.add_argument_group("what to measure"))
    _add_results(parser.add_argument_group("where the results go"))
    _add_detector(parser.add_argument_group("the detector"))
    return parser


def _add_measured(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--data", type=Path, action="append", default=[], metavar="PATH", help="a folder or csv file; may be repeated")
    add(
        "--dataset",
        action="append",
        default=[],
        choices=DATASETS,
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
        "--examples",
        type=_count,
        nargs="*",
        default=[1, 3, 5, 10],
        metavar="N",
        help="of each kind of defect, to name the others by; none for no such table (default: 1 3 5 10)",
    )
    add(
        "--latency",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="to spend on each method and batch size, 0 for no latency (default: 1)",
    )


def _add_results(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--out", type=Path, metavar="DIR", help="write metrics.json, scores.csv, table.md and report.html there")
    add(
        "--resume",
        action="store_true",
        help="go on with the run in --out: what is measured already is not measured again, and the tables hold what "
        "this command asks for",
    )


def _add_detector(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--model", default="tiny-7", help="its name, as for patchclip.Detector (default: %(default)s, embedded)")
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


def to_settings(options: argparse.Namespace, folder: Path) -> Settings:
    """What all methods share.

    Args:
        folder: of the run; methods write their weights to "work" in it.
    """
    return Settings(
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
        examples=tuple(options.examples),
    )
