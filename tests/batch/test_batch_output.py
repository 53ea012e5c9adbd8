"""The folder of a batch run: what is done, what was torn, what does not belong there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from patchclip import FileFormatError
from patchclip.batch import read_features, result_schema
from patchclip.batch.output import RowFolder
from patchclip.batch.rows import to_table
from patchclip.outcomes import unreadable_entries

SETTINGS = {"detector": "abc", "heatmaps": None}


def row(path: str, score: float | None = None) -> dict[str, Any]:
    if score is None:
        return {"path": path, "node": "n1"} | unreadable_entries(f"{path} is no image")
    verdict = "anomalous" if score > 0.5 else "normal"
    return {"path": path, "node": "n2", "verdict": verdict, "score": score, "regions": []}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A folder of two files with five rows."""
    folder = tmp_path / "rows"
    RowFolder(str(folder), SETTINGS)
    pq.write_table(to_table([row("a", 0.1), row("b", 0.9), row("c")], result_schema()), folder / "0.parquet")
    pq.write_table(to_table([row("d", 0.7), row("e")], result_schema()), folder / "1.parquet")
    return folder


@pytest.mark.parametrize("as_address", [False, True])
def test_rows_that_are_there(rows: Path, as_address: bool) -> None:
    folder = RowFolder(rows.as_uri() if as_address else str(rows), SETTINGS)
    assert folder.removed == []
    assert folder.done().to_pylist() == ["a", "b", "c", "d", "e"]
    counts = folder.count()
    assert counts.verdicts == {"normal": 1, "anomalous": 2, "unreadable": 2}
    assert counts.nodes == {"n1": 2, "n2": 3}
    assert counts.files == 2
    assert [entry["path"] for entry in counts.highest] == ["b", "d", "a"]
    assert counts.errors == ["c is no image", "e is no image"]


def test_a_new_folder_has_nothing(tmp_path: Path) -> None:
    folder = RowFolder(str(tmp_path / "new" / "rows"), SETTINGS)
    assert folder.done().to_pylist() == []
    assert folder.count().verdicts.total() == 0


@pytest.mark.parametrize("kept", [0, 3, 1000])
def test_a_torn_file_is_removed(rows: Path, kept: int) -> None:
    content = (rows / "1.parquet").read_bytes()
    (rows / "1.parquet").write_bytes(content[:kept])
    folder = RowFolder(str(rows), SETTINGS)
    assert [Path(path).name for path in folder.removed] == ["1.parquet"]
    assert folder.done().to_pylist() == ["a", "b", "c"]


def test_what_does_not_belong_together_is_refused(rows: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="were made with another detector: name another folder"):
        RowFolder(str(rows), SETTINGS | {"detector": "def"})
    with pytest.raises(ValueError, match="another detector and heatmaps"):
        RowFolder(str(rows), {"detector": "def", "heatmaps": "npy"})
    (rows / "_run.json").unlink()
    with pytest.raises(ValueError, match=r"has other parquet files, such as .*0\.parquet"):
        RowFolder(str(rows), SETTINGS)
    (rows / "_run.json").write_text("{")
    with pytest.raises(FileFormatError, match=r"run\.json is damaged"):
        RowFolder(str(rows), SETTINGS)
    other = tmp_path / "other"
    RowFolder(str(other), SETTINGS)
    pq.write_table(pa.table({"path": ["a"]}), other / "0.parquet")
    with pytest.raises(FileFormatError, match="other columns"):
        RowFolder(str(other), SETTINGS)


def test_files_without_features(rows: Path, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"0\.parquet has no features"):
        read_features(rows)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no parquet file in"):
        read_features(tmp_path / "empty")
