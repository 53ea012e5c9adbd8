"""Files by name, lists of them, and files written in one step.

A process that is killed at any moment of `atomic_write` leaves the old file or the new one.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

#: A temporary file that is younger may not be locked yet by the process that writes it; where files cannot be locked,
#: it was left by a killed process after so long.
_UNLOCKED_FOR_S = 1
_STALE_AFTER_S = 24 * 3600

_CHUNK_BYTES = 2**20


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one of `Detector.export`, by its name."""
    return os.fspath(path).lower().endswith(".onnx")


def hash_file(path: str | os.PathLike[str], size: int | None = None) -> str:
    """SHA-256 of a file, in hexadecimal digits; of its first `size` bytes where that is given."""
    remaining = Path(path).stat().st_size if size is None else size
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while remaining > 0 and (chunk := file.read(min(_CHUNK_BYTES, remaining))):
            digest.update(chunk)
            remaining -= len(chunk)
    return digest.hexdigest()


def listed_paths(data: bytes) -> list[str]:
    """The paths in a list: one a line, or each ended by a zero byte as `find -print0` writes them."""
    separator = b"\0" if b"\0" in data else b"\n"
    lines = [os.fsdecode(line.rstrip(b"\r")) for line in data.split(separator)]
    return [line for line in lines if line.strip()]


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside `path` to write to; when the block ends, it takes the place of `path`.

    A file that is replaced keeps its mode and, where the process may, its owner. What a killed process left behind is
    removed by the next call for the same path.

    Raises:
        OSError: see `resolve_writable`.
    """
    target = resolve_writable(path)
    _remove_stale(target)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    with open(temporary, "xb") as file:
        _try_lock(file)
        try:
            yield temporary
            _copy_owner_and_mode(target, temporary)
            with open(temporary, "r+b") as written:
                os.fsync(written.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


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


def _remove_stale(target: Path) -> None:
    """Temporary files of processes that were killed while they wrote the same file."""
    prefix = f".{target.name}."
    for entry in target.parent.iterdir():
        if entry.name.startswith(prefix) and entry.name.endswith(".part") and _is_stale(entry):
            entry.unlink(missing_ok=True)


def _is_stale(temporary: Path) -> bool:
    try:
        age_s = time.time() - temporary.stat().st_mtime
        if fcntl is None:
            return age_s > _STALE_AFTER_S
        if age_s < _UNLOCKED_FOR_S:
            return False
        with open(temporary, "rb") as file:
            return _try_lock(file)  # its writer held the lock until it died
    except OSError:
        return False


def _try_lock(file: BinaryIO) -> bool:
    """Whether the lock was free; it ends with the file or the process."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _copy_owner_and_mode(existing: Path, temporary: Path) -> None:
    if not existing.exists():
        return
    status = existing.stat()
    with suppress(OSError):  # another's file: its owner stays who writes it
        os.chown(temporary, status.st_uid, status.st_gid)
    os.chmod(temporary, stat.S_IMODE(status.st_mode))
