"""Where images are: paths of this machine, and addresses such as s3://bucket/key through pyarrow's file systems."""

from __future__ import annotations

import fnmatch
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from ..files import listed_paths
from ..printable import printable
from .blocks import BYTES, ERROR, PATH
from .pool import import_ray

if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data

#: Paths of one block: what a task takes, and what is done again after a failure.
ROWS_PER_BLOCK = 64

#: Paths that the driver hands over at once, for tasks to divide: of each block it keeps some 50 kilobytes.
_PATHS_PER_TABLE = 4096

#: Files that one task reads at once, and the processors that such a task asks for: it waits most of the time.
_READING_THREADS = 8
_READING_CPUS = 0.25

#: What is not found is not tried again; other failures may be a busy service's.
_ATTEMPTS = 3
_FIRST_WAIT_S = 0.5

_SCHEME = "://"


def is_address(path: str) -> bool:
    """Whether it is an address of a file system, as "s3://bucket/key"."""
    return _SCHEME in path


def resolve(location: str) -> tuple[Any, str]:
    """A path or an address -> a `pyarrow.fs.FileSystem` and the path in it.

    Raises:
        ValueError: an unknown scheme, or an address that is none.
    """
    from pyarrow import fs

    if not is_address(location):
        return fs.LocalFileSystem(), os.path.abspath(location)
    parts = urlsplit(location)
    query = f"?{parts.query}" if parts.query else ""
    filesystem, root = _connect(f"{parts.scheme}{_SCHEME}{parts.netloc or '/'}{query}")
    return filesystem, root.rstrip("/") + unquote(parts.path)


@lru_cache(maxsize=32)
def _connect(base: str) -> tuple[Any, str]:
    from pyarrow import fs
    from pyarrow.lib import ArrowException

    try:
        filesystem, root = fs.FileSystem.from_uri(base)
    except (ArrowException, ValueError) as error:
        raise ValueError(f"{base} is no address that pyarrow reads ({error}): use s3://, gs:// or file://") from error
    return filesystem, root


def list_addresses(address: str, suffixes: Sequence[str]) -> tuple[list[str], int]:
    """The images at an address: a folder with all below, a pattern such as s3://bucket/parts/*.png, or one file.

    Args:
        suffixes: of images, in lower case.

    Returns:
        Addresses, sorted, and how many other files there are.

    Raises:
        OSError: nothing is there, or it cannot be read.
    """
    from pyarrow import fs

    filesystem, path = resolve(address)
    path = path.rstrip("/")
    folder = _folder_of(path)
    [info] = filesystem.get_file_info([folder])
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(f"nothing at {address}: neither a folder nor a file")
    if info.is_file:
        return [address], 0
    found, others = [], 0
    for entry in filesystem.get_file_info(fs.FileSelector(folder, recursive=True)):
        if not entry.is_file:
            continue
        if folder != path:
            is_wanted = fnmatch.fnmatchcase(entry.path, path)
        else:
            is_wanted = entry.path.lower().endswith(tuple(suffixes))
        is_hidden = any(part.startswith(".") for part in PurePosixPath(entry.path[len(folder) :]).parts)
        if is_wanted and not is_hidden:
            found.append(_address_of(entry.path, address))
        else:
            others += 1
    return sorted(found), others


def _folder_of(pattern: str) -> str:
    """The part of a path before the first that is a pattern; all of it where none is."""
    fixed = []
    for part in pattern.split("/"):
        if any(character in part for character in "*?["):
            break
        fixed.append(part)
    return "/".join(fixed)


def _address_of(path: str, listed: str) -> str:
    """The address of a file, with the scheme and the options of the address that it was listed by."""
    parts = urlsplit(listed)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}{_SCHEME}{quote(path)}{query}"


def read_list(location: str) -> list[str]:
    """The paths and addresses in a list: a text file as `listed_paths` reads it, or the column "path" of a parquet
    file, text or bytes.

    Raises:
        OSError, ValueError: it cannot be read, has no such column, or a row of it without a path.
    """
    filesystem, path = resolve(location)
    with filesystem.open_input_file(path) as file:
        if not path.lower().endswith(".parquet"):
            return listed_paths(file.read())
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            parquet = pq.ParquetFile(file)
            if PATH not in parquet.schema_arrow.names:
                raise ValueError(f"{location}: expected a column {PATH!r}, got {parquet.schema_arrow.names}")
            values = parquet.read([PATH])[PATH].to_pylist()
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{location} is no parquet file, or is damaged ({error}): write it again") from error
    for row, value in enumerate(values):
        if not isinstance(value, (str, bytes)) or not value:
            raise ValueError(
                f"{location}: expected a path in each row of the column {PATH!r}, got {value!r} in row {row}"
            )
    return [os.fsdecode(value) for value in values]


def paths_dataset(paths: Sequence[str], *, rows_per_block: int = ROWS_PER_BLOCK) -> ray.data.Dataset:
    """A dataset with the column "path", of bytes by `os.fsencode`: a name need not be UTF-8."""
    import pyarrow as pa

    ray = import_ray()
    are_many = len(paths) > _PATHS_PER_TABLE
    rows_per_table = _PATHS_PER_TABLE if are_many else rows_per_block
    tables = []
    for start in range(0, len(paths), rows_per_table):
        encoded = [os.fsencode(path) for path in paths[start : start + rows_per_table]]
        tables.append(pa.table({PATH: pa.array(encoded, pa.binary())}))
    dataset = ray.data.from_arrow(tables)
    return dataset.repartition(target_num_rows_per_block=rows_per_block) if are_many else dataset


def fetch_bytes(dataset: ray.data.Dataset) -> ray.data.Dataset:
    """The files that a dataset's column "path" names, read in tasks of their own: for image_column="bytes".

    Args:
        dataset: with the column "path": addresses, or paths that every machine has.

    Returns:
        With the columns "path", "bytes" (null where a file cannot be read) and "error", which says why.
    """
    return dataset.map_batches(_fetch, batch_size=_READING_THREADS, batch_format="pyarrow", num_cpus=_READING_CPUS)


def _fetch(table: pa.Table) -> pa.Table:
    import pyarrow as pa

    paths = [os.fsdecode(path) for path in table[PATH].to_pylist()]
    with ThreadPoolExecutor(_READING_THREADS) as pool:
        read = list(pool.map(_read, paths))
    return pa.table(
        {
            PATH: pa.array([os.fsencode(path) for path in paths], pa.binary()),
            BYTES: pa.array([content for content, _ in read], pa.large_binary()),
            ERROR: pa.array([error for _, error in read], pa.string()),
        }
    )


def _read(path: str) -> tuple[bytes | None, str | None]:
    """The bytes of a file, or why there are none."""
    for wait_s in _waits():
        try:
            filesystem, inner = resolve(path)
            with filesystem.open_input_stream(inner) as stream:
                return stream.read(), None
        except (FileNotFoundError, IsADirectoryError, ValueError) as error:
            return None, printable(f"{path} cannot be read: {error}")
        except OSError as error:
            reason = printable(f"{path} cannot be read, tried {_ATTEMPTS} times: {error}")
        time.sleep(wait_s)
    return None, reason


def _waits() -> Iterator[float]:
    """Seconds to wait after each attempt; none after the last."""
    for attempt in range(_ATTEMPTS):
        yield 0 if attempt == _ATTEMPTS - 1 else _FIRST_WAIT_S * 2**attempt
