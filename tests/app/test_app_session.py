"""Teaching, inspecting and correcting, without a page."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchclip import Detector
from patchclip.app import view
from patchclip.app.session import Session
from patchclip.app.work import AppError

from .conftest import DEMO, no_report


def test_a_session_judges_as_the_library_does(taught: Session) -> None:
    normals = sorted(DEMO.glob("normal_[123].jpg"))
    with pytest.warns(UserWarning, match="extrapolation"):
        detector = Detector(object_name="tile", defects=("crack", "hole", "scratch")).fit(normals, progress=False)
    assert taught.detector is not None
    assert taught.detector.threshold == detector.threshold
    crack, normal = taught.inspected
    expected = detector.predict(DEMO / "crack.jpg")
    assert crack.score == expected.score
    assert (crack.is_anomalous, normal.is_anomalous) == (True, False)
    assert crack.result is not None
    assert crack.result.defect == expected.defect == "crack"
    [box], [expected_box] = crack.boxes_xyxy(), [region.box_xyxy for region in expected.regions]
    assert np.abs(np.subtract(box, expected_box)).max() <= 3  # found on a smaller heatmap
    scores = taught.normal_scores()
    assert [scores[index][0] for index in range(3)] == [normal.score for normal in detector.normal_scores_]


def test_progress_is_said_in_sentences(session: Session) -> None:
    said = []
    session.add_example_normals()
    session.learn("", "", lambda sentence, share: said.append((sentence, share)))
    assert said[0] == ("Loading the model", 0)
    assert said[1:] == [(f"Learning: image {done} of 3", done / 3) for done in (1, 2, 3)]


def test_the_threshold_is_moved_without_the_network(taught: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("the network runs")

    monkeypatch.setattr("patchclip.encoders.clip.Backbone.encode", refuse)
    before = [item.thumbnail() for item in taught.inspected]
    taught.set_threshold(0.5)
    assert [item.is_anomalous for item in taught.inspected] == [False, False]
    assert taught.inspected[0].boxes_xyxy() == []
    taught.set_threshold(0.05)
    assert [item.is_anomalous for item in taught.inspected] == [True, True]
    assert not np.array_equal(before[1], taught.inspected[1].thumbnail())
    assert taught.detector is not None
    assert taught.detector.threshold_source == "user"


def test_a_moved_threshold_is_answered_at_once(session: Session, upload: Callable[..., Path]) -> None:
    session.add_example_normals()
    session.learn("tile", "crack", no_report)
    paths = []
    for index in range(50):
        path = upload(f"{index}.jpg")
        with Image.open(DEMO / "crack.jpg") as image:
            image.rotate(index).resize((1200, 900)).save(path)
        paths.append(path)
    session.inspect(paths, no_report)
    times_s = []
    for threshold in (0.3, 0.1, 0.2):
        start_s = time.process_time()
        session.set_threshold(threshold)
        view.render(session, view.JUDGED)
        times_s.append(time.process_time() - start_s)
    assert min(times_s) < 0.4  # of the processor; 0.12 where nothing else runs


def test_normal_after_all_and_back(taught: Session) -> None:
    assert taught.detector is not None
    first, score = taught.detector.threshold, taught.inspected[0].score
    change = taught.mark_as_normal(no_report)
    assert change.before == first
    assert change.after == taught.detector.threshold != first
    assert len(taught.normals) == 4
    assert taught.inspected[0].score < score
    assert not taught.inspected[0].is_anomalous
    with pytest.raises(AppError, match="among the normal ones already"):
        taught.mark_as_normal(no_report)
    undone = taught.undo(no_report)
    assert undone.after == first
    assert taught.inspected[0].score == score
    assert len(taught.normals) == 3
    with pytest.raises(AppError, match="nothing to take back"):
        taught.undo(no_report)


def test_a_taught_name_stays_when_it_learns_again(taught: Session) -> None:
    taught.name_region(0, " Riss  im Glas ", no_report)
    shown = taught.shown()
    assert shown is not None
    assert shown.result is not None
    assert (shown.result.defect, shown.result.defect_source) == ("Riss im Glas", "examples")
    taught.learn("tile", "", no_report)
    assert shown.result.defect == "Riss im Glas"
    for region, kind, message in ((0, " ", "Write what it is"), (5, "x", "Choose a marked place")):
        with pytest.raises(AppError, match=message):
            taught.name_region(region, kind, no_report)


def test_before_anything_is_learnt(session: Session) -> None:
    for act in (session.save, session.export):
        with pytest.raises(AppError, match="nothing to take along"):
            act()
    with pytest.raises(AppError, match="no normal images yet"):
        session.learn("", "", no_report)
    with pytest.raises(AppError, match="Choose an image first"):
        session.mark_as_normal(no_report)
    session.inspect_examples(no_report)  # by words alone
    assert not session.has_learnt
    assert not session.can_correct
    with pytest.raises(AppError, match="The normal images are not here"):
        session.mark_as_normal(no_report)


def test_files_are_of_the_detector_as_it_is(taught: Session) -> None:
    taught.save()
    assert taught.saved is not None
    loaded = Detector.load(taught.saved)
    assert taught.detector is not None
    assert loaded.threshold == taught.detector.threshold
    taught.set_threshold(0.3)
    assert taught.saved is None  # no longer
    path = taught.downloads / "detector.safetensors"
    taught.load(path, no_report)
    assert taught.file_name == "detector.safetensors"
    assert taught.normals == []
    assert taught.detector.threshold == loaded.threshold
    path.write_bytes(b"torn")
    with pytest.raises(AppError, match=r"“detector\.safetensors” cannot be used"):
        taught.load(path, no_report)


def test_defects_are_given_with_commas(session: Session) -> None:
    session.add_example_normals()
    session.learn("tile", "crack, , crack,  deep   hole", no_report)
    assert session.detector is not None
    assert list(session.detector.options["defects"]) == ["crack", "deep hole"]


def test_files_are_removed_when_no_list_has_them(session: Session, upload: Callable[..., Path], tmp_path: Path) -> None:
    private = tmp_path / "private"
    session.add_normals([upload("a.jpg", "normal_1.jpg"), upload("b.jpg", "normal_2.jpg")])
    session.inspect([upload("c.jpg", "crack.jpg")], no_report)
    assert len(list(private.iterdir())) == 3
    session.remove_normal(0)
    assert len(list(private.iterdir())) == 2
    session.learn("", "", no_report)
    session.mark_as_normal(no_report)
    session.clear_inspected()
    assert len(list(private.iterdir())) == 2  # one of them is normal now
    session.undo(no_report)
    session.clear_normals()
    session.unlabelled.add([upload("d.jpg"), upload("e.jpg", "normal_3.jpg")], session.detector, no_report)
    session.unlabelled.clear()
    assert {path.name for path in private.iterdir()} <= {"00003.jpg"}


def test_ranking_ticks_what_does_not_stand_apart(session: Session, upload: Callable[..., Path]) -> None:
    with pytest.raises(AppError, match="at least two"):
        session.unlabelled.add([upload("0.jpg", "crack.jpg")], None, no_report)
    session.unlabelled.add([upload(f"{index}.jpg", f"normal_{index}.jpg") for index in range(4)], None, no_report)
    order = [index for index, _ in session.unlabelled.in_order()]
    assert order[0] == 0
    assert session.unlabelled.ticked <= set(order[1:])
    session.unlabelled.tick(order[0])
    assert 0 in session.unlabelled.ticked
    session.unlabelled.tick(order[0])
    count = len(session.unlabelled.ticked)
    session.add_ticked()
    assert len(session.normals) == count
    assert len(session.unlabelled.photos) == 5 - count
    with pytest.raises(AppError, match="No image is ticked"):
        session.add_ticked()
