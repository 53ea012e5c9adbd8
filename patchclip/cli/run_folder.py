"""The folder of a run: rows appended as they come, run.json, and what may be in the folder before.

Rows are in results.jsonl, whose whole lines say what is done: after a kill, `--resume` takes them from there, cuts off
a line that was torn, and writes results.csv anew. A picture is written before the row that names it.
"""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from ..files import atomic_write
from .inputs import RUN_FILE, is_run_folder
from .rows import COLUMNS, PICTURES, Row, to_cells, to_json

PREDICT, RANK = "predict", "rank"

#: Command -> its table of rows and the same as csv.
TABLES = {PREDICT: ("results.jsonl", "results.csv"), RANK: ("ranking.jsonl", "ranking.csv")}
DETECTOR_FILE = "detector.safetensors"
CONTACT_SHEET = "contact_sheet.png"
NORMALS_FILE = "normals.txt"

RUNNING, FINISHED = "running", "done"


class RunFolder:
    """A folder that is ready for a run, made where it was not there.

    Args:
        path: of the folder.
        kind: the command, "predict" or "rank".
        settings: what decides about results, in JSON's types: a run is resumed with the same alone.
        resume: go on with the run in the folder.
        overwrite: take a folder with other content, or an unfinished run.

    Attributes:
        rows: of the run that is resumed; empty else.
        has_replaced: whether the results of a finished run were removed.

    Raises:
        click.UsageError: other content without `overwrite`, or a run that cannot be resumed.
        OSError: the folder cannot be made or written to.
    """

    def __init__(self, path: str, kind: str, settings: Mapping[str, Any], *, resume: bool, overwrite: bool):
        self.path = Path(path)
        self.jsonl, self.csv = (self.path / name for name in TABLES[kind])
        self.rows: list[Row] = []
        self.has_replaced = False
        self._run = {
            "schema": 1,
            "program": "patchclip",
            "kind": kind,
            "status": RUNNING,
            "settings": dict(settings),
            "started": now(),
        }
        if self.path.exists() and not self.path.is_dir():
            raise click.UsageError(f"--out: {path} is a file: name a folder")
        is_used = self.path.is_dir() and any(not entry.name.startswith(".") for entry in self.path.iterdir())
        earlier = self._read_earlier()
        if earlier is not None and earlier.get("kind") == kind:
            self._take_earlier_run(earlier, resume, overwrite)
        elif is_used and not overwrite:
            raise click.UsageError(f"--out: {path} has other files in it: name another folder, or add --overwrite")
        self.path.mkdir(parents=True, exist_ok=True)
        self._write_run()

    def _read_earlier(self) -> dict[str, Any] | None:
        if not is_run_folder(self.path):
            return None
        file = self.path / RUN_FILE
        return _parse_object(file.read_bytes(), str(file), "remove the file and add --overwrite")

    def _take_earlier_run(self, earlier: Mapping[str, Any], resume: bool, overwrite: bool) -> None:
        rows = self._read_rows()
        if resume:
            self._check_settings(earlier.get("settings", {}))
            self.rows = rows
            self._run["started"] = earlier["started"]
        elif rows and earlier["status"] != FINISHED and not overwrite:
            raise click.UsageError(
                f"--out: {self.path} has an unfinished run: add --resume to go on, or --overwrite to begin again"
            )
        else:
            self._remove_earlier(rows)
            self.has_replaced = bool(rows)

    def _check_settings(self, earlier: Mapping[str, Any]) -> None:
        current = json.loads(json.dumps(self._run["settings"]))
        changed = sorted(name for name in current.keys() | earlier.keys() if current.get(name) != earlier.get(name))
        if changed:
            name = changed[0]
            raise click.UsageError(
                f"--resume: the run in {self.path} had {name} {earlier.get(name)!r}, now it is {current.get(name)!r}: "
                "give the same, or --overwrite in place of --resume"
            )

    def _read_rows(self) -> list[Row]:
        if not self.jsonl.exists():
            return []
        content = self.jsonl.read_bytes()
        *whole, _ = content.split(b"\n")  # not splitlines: a string in JSON may hold other ends of lines
        remedy = "remove that line, or name another folder"
        return [_parse_object(line, f"line {index} of {self.jsonl}", remedy) for index, line in enumerate(whole, 1)]

    def _remove_earlier(self, rows: Iterable[Row]) -> None:
        """The files that an earlier run has named, and nothing else."""
        root = self.path.resolve()
        for row in rows:
            for kind in PICTURES:
                picture = root / row[kind] if row.get(kind) else None
                if picture is not None and picture.resolve().is_relative_to(root):
                    picture.unlink(missing_ok=True)
        names = (DETECTOR_FILE, CONTACT_SHEET, NORMALS_FILE)
        for file in (self.jsonl, self.csv, *(self.path / name for name in names)):
            file.unlink(missing_ok=True)

    # --- writing ------------------------------------------------------------------------------------------------------

    def begin(self, command: Iterable[str], facts: Mapping[str, Any]) -> None:
        """Write run.json and the rows that there are already."""
        self._run |= {"command": shlex.join(command), **facts}
        self._write_run()
        with atomic_write(self.jsonl) as temporary:
            lines = "".join(f"{to_json(row)}\n" for row in self.rows)
            temporary.write_text(lines, encoding="utf-8", newline="\n")
        with atomic_write(self.csv) as temporary:
            write_csv(temporary, COLUMNS, map(to_cells, self.rows))

    def append(self, row: Row) -> None:
        """A row to both files, with the system before this returns; results.jsonl first, which counts."""
        with open(self.jsonl, "a", encoding="utf-8", newline="\n") as lines:
            lines.write(f"{to_json(row)}\n")
        with open(self.csv, "a", encoding="utf-8", newline="") as table:
            csv.writer(table).writerow(to_cells(row))
        self.rows.append(row)

    def end(self, status: str, facts: Mapping[str, Any]) -> None:
        """Write how it ended to run.json."""
        self._run |= {"status": status, "ended": now(), **facts}
        self._write_run()

    def _write_run(self) -> None:
        ordered = {name: self._run[name] for name in ("program", "schema", "kind", "status")} | self._run
        with atomic_write(self.path / RUN_FILE) as temporary:
            temporary.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")


def _parse_object(text: bytes, name: str, remedy: str) -> dict[str, Any]:
    """An object that this program wrote as JSON.

    Args:
        name, remedy: for the message.

    Raises:
        click.UsageError: it is damaged.
    """
    try:
        found = json.loads(text.decode("utf-8"))
    except (RecursionError, ValueError) as error:
        raise click.UsageError(f"--out: {name} is damaged ({error}): {remedy}") from error
    if not isinstance(found, dict):
        raise click.UsageError(f"--out: {name} is damaged (no JSON object): {remedy}")
    return found


def write_csv(path: Path, header: Iterable[str], rows: Iterable[list[str]]) -> None:
    """With a byte order mark, without which Excel takes letters beyond ASCII for others."""
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)


def now() -> str:
    """The time, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
