"""Videos: the frames with a defect, their times, heatmaps in the place of a frame, and a video that breaks."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from patchclip.cli import frames

from .command_line import Command, write_video

DEFECTIVE = (4, 5, 9)


@pytest.fixture
def clip(tmp_path: Path, normals: list[np.ndarray], defective: tuple[np.ndarray, np.ndarray]) -> Path:
    """Twelve frames at 10 Hz, three of which have a hole."""
    images = [defective[0] if index in DEFECTIVE else normals[3 + index % 3] for index in range(12)]
    return write_video(tmp_path / "clip.avi", images)


def rows_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_frames_with_a_defect_are_found(command: Command, clip: Path, detector_file: Path) -> None:
    line = ("predict", "clip.avi", "--detector", detector_file, "--threshold", "0.15", "--json", "-q")
    done = command(*line, "--out", "run", "--heatmaps")
    assert done.exit_code == 0, done.output
    rows = rows_of(done.stdout)
    assert [row["frame"] for row in rows] == list(range(12))
    assert [row["time_s"] for row in rows] == pytest.approx([index / 10 for index in range(12)], abs=0.02)
    assert [row["frame"] for row in rows if row["is_anomalous"]] == list(DEFECTIVE)
    assert rows[4]["heatmap"] == "heatmaps/clip.avi/000004.png"
    assert len(list(Path("run/heatmaps/clip.avi").iterdir())) == 12
    assert len(list(Path("run/overlays/clip.avi").iterdir())) == 3
    Path("run/results.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows[:5]))
    again = command(*line, "--out", "run", "--heatmaps", "--resume")
    assert [row["frame"] for row in rows_of(again.stdout)] == list(range(5, 12))


def test_each_third_frame_and_a_limit(command: Command, clip: Path, detector_file: Path) -> None:
    line = ("predict", "clip.avi", "--detector", detector_file, "--json", "-q", "--every", "3")
    assert [row["frame"] for row in rows_of(command(*line).stdout)] == [0, 3, 6, 9]
    assert [row["frame"] for row in rows_of(command(*line, "--frames", "2").stdout)] == [0, 3]
    text = command(*line[:4], "--every", "9").stdout.splitlines()
    assert " clip.avi frame 9 (0.90 s)" in text[1]


def test_a_video_that_breaks_ends_with_what_it_has(command: Command, clip: Path, detector_file: Path) -> None:
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) // 2])
    done = command("predict", "clip.avi", "--detector", detector_file, "--json")
    assert done.exit_code == 3
    *rows, last = rows_of(done.stdout)
    assert 2 <= len(rows) < 12
    assert {row["verdict"] for row in rows} <= {"normal", "anomalous"}
    assert (last["verdict"], last["frame"]) == ("unreadable", None)
    assert last["error"] == f"clip.avi ended after frame {len(rows)} of 12: the stream broke"


def test_no_video_and_no_camera(command: Command, tmp_path: Path, detector_file: Path) -> None:
    (tmp_path / "torn.mp4").write_bytes(b"torn")
    for given in ("torn.mp4", "97"):
        done = command("predict", given, "--detector", detector_file)
        assert done.exit_code == 2
        assert f"unreadable         {given} cannot be opened as a video" in done.stdout
    resumed = command("predict", "97", "--detector", detector_file, "--out", "run", "--resume")
    assert "--resume: not possible with a camera or an address" in resumed.stderr


def test_a_camera_is_looked_at_frame_by_frame(
    command: Command, clip: Path, detector_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that ends has broken; one with --frames has not."""
    monkeypatch.setattr(frames, "open_capture", lambda source: cv2.VideoCapture(str(clip)))
    done = command("predict", "0", "--detector", detector_file, "--json", "--out", "run")
    assert done.exit_code == 3
    rows = rows_of(done.stdout)
    assert [row["frame"] for row in rows] == [*range(12), None]
    assert rows[-1]["error"] == "0 ended after frame 12: the stream broke"
    assert any(path.parent.name == "camera_0" for path in Path("run/overlays").rglob("*.png"))
    limited = command("predict", "rtsp://me:secret@camera/live", "--frames", "3", "--json", "--detector", detector_file)
    assert limited.exit_code == 0
    assert [row["image"] for row in rows_of(limited.stdout)] == ["rtsp://camera/live"] * 3
