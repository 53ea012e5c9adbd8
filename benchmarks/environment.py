"""What a measurement depends on beside its options: machine, versions, commit, code."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import internals
import patchclip
from patchclip import Detector

#: Of the checkout that these benchmarks are in.
ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"

#: Of patchclip as it is imported, which may be installed elsewhere.
PACKAGE = Path(patchclip.__file__).resolve().parent

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


def describe_environment(detector: Detector, *, measuring: Iterable[Path]) -> dict[str, Any]:
    """JSON-ready: command, date, commit, machine, versions, threads, and the model as it is in force.

    Args:
        measuring: files of the benchmark that figures come from, for `code_sha256`.
    """
    return {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "code_sha256": code_sha256(measuring),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_gb": _memory_gb(),
            "accelerator": accelerator(),
        },
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | versions(_PACKAGES),
        "model": internals.describe_model(detector),
    }


def one_line(environment: Mapping[str, Any]) -> str:
    """What `describe_environment` returns, for the head of a table."""
    machine, model, installed = environment["machine"], environment["model"], environment["versions"]
    generation = f" {model['generation']}" if model["generation"] not in (None, model["name"]) else ""
    memory = f", {machine['memory_gb']} GB" if machine["memory_gb"] else ""
    return (
        f"model {model['name']}{generation} "
        f"({model['weights_sha256'][:12]}), {model['image_size']} px, {model['precision']} on {model['device']}; "
        f"{machine['processor']}, {machine['cores']} cores{memory}, "
        f"{machine['accelerator'] or 'no GPU'}, {environment['threads']} threads; "
        f"Python {installed['python']}, torch {installed['torch']}, open_clip {installed['open_clip_torch']}; "
        f"commit {environment['commit'] or 'none'}; {environment['date'][:10]}"
    )


def commit() -> str | None:
    """The commit that is checked out, with "+" for changed files; None outside a repository."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+" if changed else head


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def code_sha256(measuring: Iterable[Path]) -> str:
    """Of everything that can change a figure: patchclip as it is imported, and the files that measure."""
    digest = hashlib.sha256(_package_sha256(PACKAGE).encode())
    for file in sorted(measuring):
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _package_sha256(package: Path) -> str:
    """Of a copy of patchclip: its code (but the training) and its assets."""
    code = [file for file in package.glob("**/*.py") if file.parent.name != "pretrain"]
    assets = [file for file in package.glob("assets/**/*") if file.suffix in (".json", ".safetensors", ".gz")]
    digest = hashlib.sha256()
    for file in sorted([*code, *assets]):
        digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def check_package() -> str | None:
    """A remark where the patchclip that is imported is not the one of this checkout; else None."""
    checkout = ROOT / "patchclip"
    if checkout == PACKAGE or _package_sha256(PACKAGE) == _package_sha256(checkout):
        return None
    return "the patchclip that is installed was measured: it differs from the checkout, which `commit` is of"


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Of installed packages; None for one that is not."""
    found: dict[str, str | None] = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def accelerator() -> str | None:
    """Name of the GPU; None without one."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


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
