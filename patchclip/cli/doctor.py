"""`patchclip doctor`: versions, device, extras, and whether the embedded model gives the scores that it should."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click

from .command import Command
from .console import Console
from .demo import IMAGES
from .facts import versions
from .reporting import DONE, UNUSABLE
from .rows import to_json

#: Zero-shot scores of the embedded model on images of the demo, and how far other processors may be from them.
KNOWN_SCORES = {"crack.jpg": 0.9939, "normal_0.jpg": 0.1094}
_SCORE_TOLERANCE = 0.02

#: Extra -> its packages, as they are imported.
EXTRAS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino",),
    "faiss": ("faiss",),
    "ray": ("ray.data", "pyarrow"),
    "app": ("gradio",),
}

OK, MISSING, FAULT = "ok", "not installed", "FAULT"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        state: "ok", "not installed" for what is optional, or "FAULT".
        detail: what was found, and the remedy.
    """

    name: str
    state: str
    detail: str


def run(console: Console, args: Namespace) -> int:
    """Print all checks; a fault is exit code 2."""
    found = list(_checks())
    if args.json:
        for check in found:
            console.data(to_json({"schema": 1, **asdict(check)}, only_ascii=True))
    else:
        console.table([[check.name, check.state, check.detail] for check in found], header=["check", "", "found"])
    faults = [check.name for check in found if check.state == FAULT]
    console.say(f"faults: {', '.join(faults)}" if faults else "everything that is needed works", bold=True)
    return UNUSABLE if faults else DONE


def _checks() -> Iterator[Check]:
    for name, version in versions().items():
        yield Check(name, OK if version != "not installed" else FAULT, version)
    yield Check("machine", OK, f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    yield _check_torchvision()
    yield from _check_device()
    for extra, modules in EXTRAS.items():
        yield _check_extra(extra, modules)
    yield _check_score()


def _check_torchvision() -> Check:
    """The two are built for each other; where they are not, operators are missing."""
    try:
        import torch
        import torchvision

        boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        torchvision.ops.nms(boxes, torch.ones(1), 0.5)
    except Exception as error:  # an import error, or a RuntimeError of the operator
        return Check("torchvision", FAULT, f"does not fit torch ({error}): pip install --upgrade torch torchvision")
    return Check("torchvision", OK, f"{importlib.metadata.version('torchvision')}, fits torch")


def _check_device() -> Iterator[Check]:
    import torch

    from ..encoders.clip import default_precision, resolve_device

    device = resolve_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    yield Check("device", OK, f"{device} ({name})")
    yield Check("precision", OK, default_precision(device))
    yield Check("threads", OK, f"{torch.get_num_threads()} of torch")


def _check_extra(extra: str, modules: tuple[str, ...]) -> Check:
    missing = []
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # one that is there and broken raises anything
            missing.append(f"{module} ({type(error).__name__})")
    if missing:
        return Check(f"extra {extra}", MISSING, f'{", ".join(missing)}: pip install "patchclip[{extra}]"')
    return Check(f"extra {extra}", OK, ", ".join(modules))


def _check_score() -> Check:
    from ..detector import Detector

    try:
        detector = Detector()
        scores = {name: detector.predict(IMAGES / name).score for name in KNOWN_SCORES}
    except Exception as error:  # whatever it is, it is the finding
        return Check("embedded model", FAULT, f"does not run ({error}): install patchclip again")
    found = ", ".join(f"{score:.4f}" for score in scores.values())
    known = ", ".join(f"{score:.4f}" for score in KNOWN_SCORES.values())
    detail = f"scores {found}; known are {known}"
    if any(abs(scores[name] - KNOWN_SCORES[name]) > _SCORE_TOLERANCE for name in scores):
        return Check("embedded model", FAULT, f"{detail}: try --device cpu and other versions of torch")
    return Check("embedded model", OK, detail)


COMMAND = Command(
    "doctor",
    run,
    purpose="Check the installation: versions, device, precision, threads, extras, whether torchvision fits torch, and "
    "whether the embedded model gives known scores.",
    options={"Output": [click.Option(["--json"], is_flag=True, help="JSON Lines, a check each.")]},
    examples=["patchclip doctor", "patchclip doctor --json", "patchclip doctor -q"],
    exit_codes="0 all is well, 2 a fault, 130 interrupted",
)
