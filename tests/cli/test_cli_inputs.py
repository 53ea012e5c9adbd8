"""What is taken for an input, and what is skipped."""

from __future__ import annotations

import io
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from patchclip.cli.inputs import find_inputs


def relative(given: list[str], **options: bool) -> list[str]:
    return [source.relative for source in find_inputs(given, **options).sources]


def test_a_folder_with_all_below(photos: Path) -> None:
    inputs = find_inputs([str(photos)])
    assert [source.relative for source in inputs.sources] == ["a.png", "sub/b.png", "sub/hole.png"]
    assert {source.kind for source in inputs.sources} == {"image"}
    skipped = {Path(entry.split(": ")[0]).name: entry.split(": ")[1] for entry in inputs.skipped}
    assert skipped.keys() == {"notes.txt", ".hidden.png", "hole.png"}
    assert skipped["hole.png"] == "a mask or a thumbnail, by its name or its folder's"
    assert skipped[".hidden.png"].startswith("hidden")


def test_globs_files_and_folders_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    assert relative(["photos/**/b*.png"]) == ["b.png"]
    assert relative(["photos/sub/*.png", "photos/sub", "photos/a.png"]) == ["sub/b.png", "sub/hole.png", "a.png"]
    bracket = photos / "x[1].png"
    bracket.write_bytes((photos / "a.png").read_bytes())
    assert relative(["photos/x[1].png"]) == ["x[1].png"]  # a file of that name, no pattern
    with pytest.raises(click.UsageError, match=r"no file matches 'photos/\*\.tif'"):
        find_inputs(["photos/*.tif"])
    with pytest.raises(click.UsageError, match=r"photos/aa\.png does not exist: did you mean photos/a\.png\?"):
        find_inputs(["photos/aa.png"])


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\0"])
def test_a_list_on_standard_input(photos: Path, monkeypatch: pytest.MonkeyPatch, ends: bytes) -> None:
    listed = ends.join(str(photos / name).encode() for name in ("sub/b.png", "a.png")) + ends
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
    assert relative(["-"]) == ["sub/b.png", "a.png"]


def test_videos_cameras_and_addresses(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "clip.mp4").write_bytes(b"a video")
    monkeypatch.chdir(tmp_path)
    inputs = find_inputs(["photos", "0", "rtsp://user:secret@camera/1?x=2"])
    assert [source.kind for source in inputs.sources] == ["image", "video", "image", "image", "stream", "stream"]
    assert inputs.has_streams
    assert [source.relative for source in inputs.sources[-2:]] == ["camera_0", "camera_1_x_2"]
    assert inputs.sources[-1].name == "rtsp://camera/1?x=2"
    (tmp_path / "0").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "0" / "a.png")
    assert find_inputs(["0"]).sources[0].kind == "image"  # a folder of that name
    assert relative(["photos"], images_only=True) == ["a.png", "sub/b.png", "sub/hole.png"]
    with pytest.raises(click.UsageError, match=r"clip\.mp4 is not an image, and only images can be used here"):
        find_inputs(["photos/clip.mp4"], images_only=True)


def test_nothing_to_be_used(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(click.UsageError, match=r"no image in .*; 1 entries are no images"):
        find_inputs([str(tmp_path)])


def test_results_of_an_earlier_run_are_no_inputs(photos: Path) -> None:
    run = photos / "run"
    (run / "overlays").mkdir(parents=True)
    (run / "run.json").write_text('{\n  "program": "patchclip"\n}')
    (run / "overlays" / "a.png").write_bytes((photos / "a.png").read_bytes())
    inputs = find_inputs([str(photos)])
    assert [source.relative for source in inputs.sources] == ["a.png", "sub/b.png", "sub/hole.png"]
    assert f"{run}: results of an earlier run" in inputs.skipped
