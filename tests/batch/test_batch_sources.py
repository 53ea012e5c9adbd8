"""Paths and addresses: what is found, and how lists are read."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from patchclip.batch.sources import is_address, list_addresses, read_list, resolve

SUFFIXES = (".png", ".jpg")


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """A folder that stands for a bucket, with names that an address has to quote."""
    folder = tmp_path / "a bucket"
    for name in ("one.png", "sub/two #2.JPG", "sub/notes.txt", ".hidden/three.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_folder_at_an_address(bucket: Path) -> None:
    address = bucket.as_uri()
    assert is_address(address)
    assert not is_address(str(bucket))
    for given in (address, f"{address}/"):
        found, others = list_addresses(given, SUFFIXES)
        assert found == [f"{address}/one.png", f"{address}/sub/two%20%232.JPG"]
        assert others == 2
    for one in found:
        filesystem, path = resolve(one)
        with filesystem.open_input_stream(path) as stream:
            assert path.endswith(stream.read().decode())


def test_patterns_and_files_at_an_address(bucket: Path) -> None:
    address = bucket.as_uri()
    assert list_addresses(f"{address}/sub/*.JPG", SUFFIXES) == ([f"{address}/sub/two%20%232.JPG"], 1)
    assert list_addresses(f"{address}/one.png", SUFFIXES) == ([f"{address}/one.png"], 0)
    with pytest.raises(FileNotFoundError, match=r"nothing at .*nowhere"):
        list_addresses(f"{address}/nowhere", SUFFIXES)
    with pytest.raises(ValueError, match="use s3://, gs:// or file://"):
        list_addresses("carrier-pigeon://loft", SUFFIXES)


def test_lists(tmp_path: Path) -> None:
    text = tmp_path / "list.txt"
    text.write_bytes(b"a.png\r\n\nm_\xfc.png\ns3://parts/b.png\n")
    assert read_list(str(text)) == ["a.png", os.fsdecode(b"m_\xfc.png"), "s3://parts/b.png"]
    table = tmp_path / "list.parquet"
    pq.write_table(pa.table({"path": ["a.png", "b.png"], "label": [0, 1]}), table)
    assert read_list(str(table)) == read_list(table.as_uri()) == ["a.png", "b.png"]
    pq.write_table(pa.table({"file": ["a.png"]}), table)
    with pytest.raises(ValueError, match="expected a column 'path', got \\['file'\\]"):
        read_list(str(table))
