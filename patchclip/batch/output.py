"""The folder of a batch run: parquet files, here or at an address, and what a rerun needs to know of them.

A row in a whole parquet file is done. Files that a killed run has torn are removed: their rows are computed again.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import FileFormatError
from ..outcomes import UNREADABLE
from .blocks import PATH
from .rows import result_schema
from .sources import resolve

if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data

    from .pool import DetectorFile

#: What the rows of a folder were made with. What reads a folder as one table leaves out names that begin so.
_RUN_FILE = "_run.json"

#: Rows of a file at least, but where they have heatmaps: a file may then be as large as a block.
_ROWS_PER_FILE = 1024

#: Rows with the highest scores that a summary has.
_SHOWN = 5

_SUMMARY_COLUMNS = (PATH, "verdict", "score", "defect", "class_name", "regions", "error", "node")


@dataclass
class Counts:
    """What is in a folder.

    Attributes:
        verdicts: verdict -> rows; nodes: identity of a machine -> rows.
        highest: the rows with the highest scores, those first; errors: the first few of unreadable images.
        files: of parquet.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    nodes: Counter[str] = field(default_factory=Counter)
    highest: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    files: int = 0


class RowFolder:
    """A folder of parquet files with the rows of `predict_dataset`.

    Args:
        location: a path, or an address such as s3://bucket/rows.
        settings: what decides about rows; those of a folder are all made with the same.

    Attributes:
        removed: torn files of a killed run, which are gone.

    Raises:
        ValueError: other parquet files are there, or rows that were made with other settings.
        OSError: the folder cannot be made, read or written to.
    """

    def __init__(self, location: str, settings: Mapping[str, Any]):
        self.location = location
        self.removed: list[str] = []
        self._filesystem, self._folder = resolve(location)
        self._settings = dict(settings)
        self._schema = result_schema(settings["heatmaps"])
        self._filesystem.create_dir(self._folder, recursive=True)
        earlier = self._read_settings()
        if earlier is None:
            if files := self._files():
                raise ValueError(f"{location} has other parquet files, such as {files[0]}: name another folder")
            self._write_settings()
        elif earlier != self._settings:
            changed = [name for name in self._settings if earlier.get(name) != self._settings[name]]
            raise ValueError(
                f"the rows in {location} were made with another {' and '.join(changed)}: name another folder"
            )
        self._remove_torn()

    def write(self, rows: ray.data.Dataset) -> None:
        """Compute the rows of a dataset, and write them as they come."""
        # no processor is asked for: where actors have them all, rows would wait in memory for the last image
        rows.write_parquet(
            self._folder,
            filesystem=self._filesystem,
            min_rows_per_file=None if self._settings["heatmaps"] else _ROWS_PER_FILE,
            ray_remote_args={"num_cpus": 0},
        )

    def done(self) -> pa.Array:
        """The paths that have a row."""
        import pyarrow as pa

        chunks = [column for table in self._tables([PATH]) for column in table[PATH].chunks]
        return pa.concat_arrays(chunks) if chunks else pa.array([], pa.string())

    def count(self) -> Counts:
        """All rows, in a pass over the files, one at a time."""
        import pyarrow.compute as pc

        counts = Counts()
        best: list[tuple[float, str, dict[str, Any]]] = []
        for table in self._tables(_SUMMARY_COLUMNS):
            counts.verdicts.update(table["verdict"].to_pylist())
            counts.nodes.update(table["node"].to_pylist())
            counts.files += 1
            is_usable = pc.not_equal(table["verdict"], UNREADABLE)
            if len(counts.errors) < _SHOWN:
                counts.errors += table.filter(pc.invert(is_usable))["error"].to_pylist()[:_SHOWN]
            usable = table.filter(is_usable).sort_by([("score", "descending")]).slice(0, _SHOWN)
            best += [(row["score"], row[PATH], row) for row in usable.to_pylist()]
            best = heapq.nlargest(_SHOWN, best, key=lambda entry: entry[:2])
        counts.highest = [row for *_, row in best]
        return counts

    def _tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        import pyarrow.parquet as pq

        for path in self._files():
            with pq.ParquetFile(path, filesystem=self._filesystem) as file:
                yield file.read(columns=list(columns))

    def _files(self) -> list[str]:
        from pyarrow import fs

        entries = self._filesystem.get_file_info(fs.FileSelector(self._folder))
        return sorted(entry.path for entry in entries if entry.is_file and entry.path.endswith(".parquet"))

    def _remove_torn(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for path in self._files():
            try:
                with pq.ParquetFile(path, filesystem=self._filesystem) as file:
                    names = file.schema_arrow.names
            except pa.ArrowInvalid:  # without the end, which says what is in it
                self._filesystem.delete_file(path)
                self.removed.append(path)
                continue
            if names != self._schema.names:
                raise FileFormatError(f"{path} has other columns ({names}) than rows of this run: name another folder")

    def _read_settings(self) -> dict[str, Any] | None:
        try:
            with self._filesystem.open_input_stream(f"{self._folder}/{_RUN_FILE}") as stream:
                run = json.loads(stream.read())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise FileFormatError(f"{self.location}/{_RUN_FILE} is damaged ({error}): name another folder") from error
        found = run.get("settings") if isinstance(run, dict) else None
        return found if isinstance(found, dict) else {}

    def _write_settings(self) -> None:
        run = {"program": "patchclip", "schema": 1, "kind": "batch", "settings": self._settings}
        with self._filesystem.open_output_stream(f"{self._folder}/{_RUN_FILE}") as stream:
            stream.write((json.dumps(run, indent=2) + "\n").encode())


def settings_of(detector_file: DetectorFile, *, heatmaps: str | None) -> dict[str, Any]:
    """What decides about rows, in JSON's types."""
    return {"detector": hashlib.sha256(detector_file.content).hexdigest(), "heatmaps": heatmaps}
