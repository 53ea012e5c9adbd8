"""Files written in one step: a process that is killed at any moment leaves the old file or the new one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path to write to; when the block ends, that file takes the place of `path`.

    Raises:
        OSError: see `resolve_writable`.
    """
    target = resolve_writable(path)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        temporary = Path(folder) / target.name
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)


def resolve_writable(path: str | os.PathLike[str]) -> Path:
    """The absolute path without links, because `os.replace` would replace a link and not what it points to.

    Raises:
        OSError: the folder does not exist or cannot be written to, or the path is no ordinary file.
    """
    target = Path(path).resolve()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {target.parent} does not exist, make it first")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"cannot write {path}: the folder {target.parent} is read-only, name another")
    if target.exists() and not target.is_file():
        raise OSError(f"cannot write {path}: it is there and is no ordinary file, name another")
    return target
