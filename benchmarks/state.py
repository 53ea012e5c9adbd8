"""Files that a measurement can be taken up from, whenever it was stopped."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from patchclip import metrics

from .methods import References
from .plan import Task


def unit_name(task: Task, references: References, identity: Mapping[str, Any]) -> str:
    """A readable name and a hash of everything that the figures depend on."""
    files = {
        "references": {str(name): [_stamp(path) for path in paths] for name, paths in references.items()},
        "test": [[_stamp(s.path), s.label, s.defect, *map(_stamp, s.masks)] for s in task.category.test],
    }
    content = json.dumps([dict(identity), files, task.method, task.shots, task.seed], sort_keys=True)
    parts = (task.category.dataset, task.category.name, task.method, str(task.shots), str(task.seed))
    slug = "-".join("".join(c if c.isalnum() or c in "._+" else "_" for c in part) for part in parts)
    return f"{slug[:120]}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _stamp(path: Path) -> list[Any]:
    try:
        found = path.stat()
    except OSError:
        return [str(path), None]
    return [str(path), found.st_size, found.st_mtime_ns]


def write_whole(path: Path, text: str) -> None:
    """The whole file or none of it."""
    partial = path.with_name(path.name + ".writing")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def read_partial(path: Path, batch_size: int) -> list[dict[str, Any]]:
    """The images of a unit that was stopped, in whole batches, so that the rest falls into the batches it would have.

    What is left over, a last line cut short among it, is dropped from the file too.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    kept = lines[: len(lines) // batch_size * batch_size]
    os.truncate(path, sum(map(len, kept)))
    return [json.loads(line) for line in kept]


def pack_tally(tally: metrics.Tally) -> str:
    """Text for a line of JSON."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        normal_bins=tally.normal_bins,
        normal=tally.normal.astype(np.uint32),
        defect_bins=tally.defect_bins,
        defect=tally.defect.astype(np.uint32),
        overlap=tally.overlap,
        bits_and_regions=np.array([tally.bits, tally.regions]),
    )
    return base64.b64encode(zlib.compress(buffer.getvalue(), 1)).decode()


def unpack_tally(text: str) -> metrics.Tally:
    """The inverse of `pack_tally`."""
    with np.load(io.BytesIO(zlib.decompress(base64.b64decode(text))), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    bits, regions = arrays["bits_and_regions"].tolist()
    return metrics.Tally(
        bits,
        arrays["normal_bins"],
        arrays["normal"].astype(np.int64),
        arrays["defect_bins"],
        arrays["defect"].astype(np.int64),
        arrays["overlap"],
        regions,
    )


def pack_array(values: np.ndarray) -> str:
    """Float64 as text."""
    return base64.b64encode(values.astype(np.float64).tobytes()).decode()


def unpack_arrays(packed: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Of `pack_array`, by name."""
    return {name: np.frombuffer(base64.b64decode(text), np.float64) for name, text in packed.items()}
