"""`patchclip batch`: rows of a folder, of a list and of addresses; a rerun does what is new; what is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from batch.ray_processes import RAY, ray_started
from conftest import fit_quietly
from PIL import Image

from patchclip import Detector

from .command_line import Command


@pytest.fixture(scope="session")
def small_file(local_model: str, normals: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small random CLIP, fitted with three images."""
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    fit_quietly(Detector(local_model, precision="fp32"), normals[:3]).save(path)
    return path


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    """Ray, for all runs of the command in this file."""
    with ray_started(address="local", num_cpus=2, object_store_memory=200_000_000, include_dashboard=False) as ray:
        yield ray


class TestRuns:
    """With Ray."""

    pytestmark = RAY

    def test_a_rerun_does_what_is_new(
        self, command: Command, photos: Path, small_file: Path, normals: list[np.ndarray], running: Any
    ) -> None:
        arguments = ["batch", "photos", "--detector", small_file, "--out", "rows", "--actors", 1]
        done = command(*arguments)
        assert done.exit_code == 0, done.stderr
        assert done.stdout == ""
        assert " images/s" in done.stderr
        assert "rows in rows: 3 in 1 parquet files" in done.stderr
        assert "threshold" in done.stderr
        first = pq.read_table("rows").to_pylist()
        names = ("a.png", "sub/b.png", "sub/hole.png")
        assert sorted(row["path"] for row in first) == [str(photos / name) for name in names]
        Image.fromarray(normals[5]).save(photos / "new.png")
        (photos / "new.jpg").write_bytes(b"\xff\xd8\xff")
        again = command(*arguments)
        assert again.exit_code == 3, again.stderr
        assert "3 of 5 images have their rows already" in again.stderr
        assert f"note: {photos / 'new.jpg'} cannot be opened" in again.stderr
        rows = pq.read_table("rows").to_pylist()
        assert len(rows) == len({row["path"] for row in rows}) == 5
        assert [row for row in rows if row["path"] in {row["path"] for row in first}] == first
        nothing_new = command(*arguments)
        assert nothing_new.exit_code == 3
        assert "5 of 5 images" in nothing_new.stderr

    def test_addresses_in_a_list(
        self, command: Command, photos: Path, small_file: Path, tmp_path: Path, running: Any
    ) -> None:
        listed = [(photos / "a.png").as_uri(), "photos/sub/hole.png", (photos / "nowhere.png").as_uri()]
        (tmp_path / "list.txt").write_text("\n".join(listed))
        out = (tmp_path / "rows").as_uri()
        done = command(
            *["batch", "list.txt", "--detector", small_file, "--out", out, "--actors", 1, "--heatmaps", "png16", "-q"]
        )
        assert done.exit_code == 3, done.stderr
        assert done.output == ""
        rows = {row["path"]: row for row in pq.read_table(tmp_path / "rows").to_pylist()}
        assert rows.keys() == {listed[0], str(photos / "sub" / "hole.png"), listed[2]}
        assert rows[listed[0]]["heatmap"].startswith(b"\x89PNG")
        assert "nowhere.png cannot be read" in rows[listed[2]]["error"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--detector": "absent.safetensors"}, "--detector: absent.safetensors does not exist"),
        ({"--detector": "photos/notes.txt"}, "photos/notes.txt is no detector file"),
        ({"INPUT": "nowhere"}, "INPUT: nowhere does not exist"),
        ({"INPUT": "empty.txt"}, "INPUT: no image in empty.txt"),
        ({"INPUT": "pigeon://loft"}, "pigeon://loft is no address"),
        ({"--out": "photos/notes.txt/rows"}, ""),
        ({"--actors": "0"}, "invalid value for '--actors'"),
        ({"--heatmaps": "jpeg"}, "invalid value for '--heatmaps'"),
    ],
)
def test_what_is_wrong_is_said_before_ray_starts(
    command: Command, photos: Path, small_file: Path, changed: dict[str, str], message: str
) -> None:
    Path("empty.txt").write_text("")
    given = {"INPUT": "photos", "--detector": str(small_file), "--out": "rows"} | changed
    target = given.pop("INPUT")
    done = command("batch", target, *[part for pair in given.items() for part in pair])
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {message}")
    assert not list(Path().glob("rows/*.parquet"))


def test_without_the_extra(command: Command, photos: Path, small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = command("batch", "photos", "--detector", small_file, "--out", "rows")
    assert done.exit_code == 2
    assert 'pip install "patchclip[ray]"' in done.stderr
    assert not Path("rows").exists()
