"""Uploads and their bounds, sessions and their folders, sentences, HTML and tables."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchclip.app import html, photos, scale, sessions, table, words
from patchclip.app.inspected import Inspected
from patchclip.app.photos import Intake, Photo
from patchclip.app.session import Session
from patchclip.app.sessions import Sessions
from patchclip.app.work import AppError

# --- uploads ----------------------------------------------------------------------------------------------------------


def test_uploads_are_copied_under_names_of_no_meaning(upload: Callable[..., Path], tmp_path: Path) -> None:
    given = upload("../photo (1).JPG".replace("../", ""))
    target = tmp_path / "private"
    target.mkdir()
    [photo] = Intake(target).take([given], already=0)
    assert given.exists()
    assert photo.path == target / "00001.jpg"
    assert photo.name == "photo (1).JPG"
    assert photo.thumbnail is not None
    assert max(photo.thumbnail.shape) == photos.THUMBNAIL_SIDE
    photo.remove()
    assert list(target.iterdir()) == []


def test_bounds_are_said_beside_the_image(
    upload: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "MAX_BYTES", 20_000)
    monkeypatch.setattr(photos, "MAX_PHOTOS", 2)
    uploads = [upload("large.png", b"x" * 30_000), upload("text.jpg", b"no image"), *map(upload, ["1.jpg", "2.jpg"])]
    uploads.append(upload("3.jpg"))
    target = tmp_path / "private"
    target.mkdir()
    taken = Intake(target).take(uploads, already=0)
    problems = [photo.problem for photo in taken]
    assert problems[2:4] == [None, None]
    assert problems[0] is not None
    assert "0 MB are the most" in problems[0]
    assert problems[1] == (
        "cannot be used: is no image in a format that patchclip reads, or its header is damaged: convert it to PNG"
    )
    assert problems[4] == "left out: 2 images are the most at once. Remove some first."
    assert len(list(target.iterdir())) == 2


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_sessions_share_nothing_and_leave_nothing(
    tmp_path: Path, upload: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = Sessions(tmp_path / "private", tmp_path / "served")
    first, second = every.of("a"), every.of("b")
    assert every.of("a") is first
    first.add_normals([upload("a.jpg")])
    assert second.normals == []
    assert first.downloads != second.downloads
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    with pytest.raises(AppError, match="Too many people"):
        every.of("c")
    every.close("a")
    every.close("a")
    assert not first.downloads.exists()
    assert len(list((tmp_path / "private").iterdir())) == len(every) == 1
    assert every.of("a") is not first


def test_what_is_left_over_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = Sessions(tmp_path / "private", tmp_path / "served")
    session = every.of("a")
    hour_ago = time.time() - 3600
    old, new = tmp_path / "served" / "old", tmp_path / "served" / "new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "upload.jpg").write_bytes(b"x")
    stray = tmp_path / "served" / "tmpfile"
    stray.write_bytes(b"")
    for path in (old, stray, session.downloads):
        os.utime(path, (hour_ago, hour_ago))
    every.tidy()
    assert {path.name for path in (tmp_path / "served").iterdir()} == {"new", session.downloads.name}
    later_s = time.monotonic() + 5 * 3600
    monkeypatch.setattr(time, "monotonic", lambda: later_s)
    every.tidy()
    assert len(every) == 0
    assert not session.downloads.exists()


def test_the_page_is_there_before_torch() -> None:
    code = "import sys, patchclip.app.page; print('torch' in sys.modules, 'gradio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


# --- sentences and HTML -----------------------------------------------------------------------------------------------


def test_verdicts_in_words(taught: Session) -> None:
    expected = {
        0.1773: ("Unusual: crack?", "Its score of 0.36 is 2.0 times the threshold of 0.18."),
        0.01: ("Unusual: crack?", "Its score of 0.36 is far above the threshold of 0.01."),
        0.35: ("Unusual: crack?", "A close call: its score of 0.36 is just above the threshold of 0.35."),
        0.37: ("Looks normal", "A close call: its score of 0.36 is just below the threshold of 0.37."),
        0.6: ("Looks normal", "Its score of 0.36 is below the threshold of 0.60."),
    }
    for threshold, sentences in expected.items():
        taught.set_threshold(threshold)
        result = taught.inspected[0].result
        assert result is not None
        assert words.verdict(result) == sentences


def test_where_a_threshold_is_from(taught: Session) -> None:
    detector = taught.detector
    assert detector is not None
    assert words.learnt(None, None).startswith("Nothing is learnt yet.")
    assert words.learnt(detector, None) == "Learnt from 3 normal images."
    assert "rough guess: with 19 or more" in words.threshold_origin(detector)
    taught.set_threshold(0.3)
    assert words.threshold_origin(detector) == "You have set this threshold."


def test_names_of_files_are_escaped() -> None:
    name = '"><img src=x onerror=alert(1)>\x07'
    card = html.Card(index=0, name=name, note=name, kind="plain", picture=None, action="show", hint="Show")
    pieces = [
        html.cards([card], empty=""),
        html.message(name),
        html.verdict(name, name, [name], kind="normal", name=name),
        table.to_html([Inspected(Photo(name, Path("x"), name))], ("name", False), None),
    ]
    for piece in pieces:
        assert "<img src=x" not in piece
        assert "&lt;img src=x onerror=alert(1)&gt;\\x07" in piece


def test_the_table_is_sorted_and_no_cell_is_a_formula(taught: Session) -> None:
    broken = Inspected(Photo("=1+1.jpg", Path("x"), "cannot be used: torn"))
    items = [*taught.inspected, broken]
    assert table.sorted_indices(items, "score", descending=True) == [0, 1, 2]
    assert table.sorted_indices(items, "score", descending=False) == [1, 0, 2]
    assert table.sorted_indices(items, "verdict", descending=False) == [1, 0, 2]
    rows = list(csv.DictReader(io.StringIO(table.to_csv(items).decode("utf-8"))))
    assert [row["verdict"] for row in rows] == ["unusual", "normal", "cannot be used"]
    assert rows[0]["score"] == f"{items[0].score:.4f}"
    assert rows[0]["boxes left top right bottom"] == " ".join(map(str, items[0].boxes_xyxy()[0]))
    assert rows[2]["image"] == "'=1+1.jpg"
    assert rows[2]["error"] == "cannot be used: torn"


def test_the_scale_by_hand() -> None:
    assert scale.upper_end([0.1, float("nan")], 0.2) == 0.3
    assert scale.upper_end([0.9], 0.2) == 1.0
    drawn = scale.draw([0.1, 0.11, 0.2], 0.25, [0.3], 0.3, 0.5)
    # from x = 12 at 0 to 628 at 0.5
    assert 'class="pc-threshold" x1="320.0"' in drawn
    assert 'class="pc-shown pc-unusual" cx="381.6"' in drawn
    assert drawn.count("pc-bar") == 3


def test_pictures_are_in_the_colours_of_the_library(taught: Session) -> None:
    crack = taught.inspected[0]
    view = crack.view()
    assert view is not None
    plain, coloured = view
    assert crack.result is not None
    overlay = np.asarray(_library_overlay(crack), np.int16)
    inside = (slice(150, 200), slice(20, 40))  # in the box, away from its lines
    assert plain.shape == coloured.shape == overlay.shape
    assert np.abs(coloured[inside].astype(np.int16) - overlay[inside]).mean() < 3


def _library_overlay(item: Inspected) -> Any:
    from patchclip import Detector

    with pytest.warns(UserWarning, match="extrapolation"):
        detector = Detector(object_name="tile", defects=("crack", "hole", "scratch")).fit(
            sorted(photos.EXAMPLES.glob("normal_[123].jpg")), progress=False
        )
    return detector.predict(item.photo.path).overlay()
