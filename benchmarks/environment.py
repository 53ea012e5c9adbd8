"""What a measurement depends on beside the code: machine, versions, commit."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from patchclip import Detector

ROOT = Path(__file__).resolve().parents[1]

#: Files of the benchmark that figures come from; the others show them.
_MEASURING = ("baselines", "gallery", "measures", "methods", "peers", "plan", "state", "synthetic_set", "units")

_PACKAGES = (
    "patchclip",
    "torch",
    "open_clip_torch",
    "timm",
    "numpy",
    "scipy",
    "opencv-python-headless",
    "pillow",
    "anomalib",
)


def describe_environment(detector: Detector) -> dict[str, Any]:
    """JSON-ready: command, date, commit, machine, versions, threads, and the model as it is in force."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "code_sha256": code_sha256(),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_gb": _memory_gb(),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | versions(_PACKAGES),
        "model": {
            "name": detector.options["model"],
            "pretrained": detector.options["pretrained"],
            "generation": detector.backbone.model.about.get("generation"),
            "weights_sha256": detector.backbone.weights_sha256,
            "input": detector.backbone.input,
            "image_size": detector.options["image_size"],
            "precision": detector.options["precision"],
            "device": str(detector.backbone.device),
        },
    }


def commit() -> str | None:
    """The commit that is checked out, with "+" for changed files; None outside a repository."""
    commands = (["git", "rev-parse", "--short=12", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    try:
        head, changed = [
            subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for command in commands
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def code_sha256() -> str:
    """Of everything that can change a figure: the package (but its training), its assets and the files that measure."""
    package = [file for file in ROOT.glob("patchclip/**/*.py") if file.parent.name != "pretrain"]
    own = [ROOT / "benchmarks" / f"{name}.py" for name in _MEASURING]
    digest = hashlib.sha256()
    assets = [file for file in ROOT.glob("patchclip/assets/**/*") if file.suffix in (".json", ".safetensors", ".gz")]
    for file in sorted([*package, *own, *assets]):
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def one_line(environment: dict[str, Any]) -> str:
    """For the head of a table."""
    machine, model, installed = environment["machine"], environment["model"], environment["versions"]
    memory = f", {machine['memory_gb']} GB" if machine["memory_gb"] else ""
    return (
        f"model {model['name']}{' ' + model['generation'] if model['generation'] else ''} "
        f"({model['weights_sha256'][:12]}), {model['image_size']} px, {model['precision']} on {model['device']}; "
        f"{machine['processor']}, {machine['cores']} cores{memory}, "
        f"{machine['accelerator'] or 'no GPU'}, {environment['threads']} threads; "
        f"Python {installed['python']}, torch {installed['torch']}, open_clip {installed['open_clip_torch']}; "
        f"commit {environment['commit'] or 'none'}; {environment['date'][:10]}"
    )


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Of installed packages; None for one that is not."""
    found: dict[str, str | None] = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def processor() -> str:
    """Its name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gb() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (AttributeError, ValueError, OSError):
        return None
