"""`predict_batch`: order, faults, sources that fail, what is read ahead, what results hold."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchclip import Detector, ImageError, Result
from patchclip.images.load import load_image


def test_batches_keep_order_and_report_faults(local: Detector, normals: list[np.ndarray], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not a picture")
    mixed = [normals[0], bad, normals[1], normals[2]]
    found = list(local.predict_batch(mixed, batch_size=2, errors="return"))
    assert [type(item) for item in found] == [Result, ImageError, Result, Result]
    assert "bad.jpg" in str(found[1])
    for index in (0, 2, 3):
        result = found[index]
        assert isinstance(result, Result)
        np.testing.assert_array_equal(result.image, mixed[index])
    seen: list[Result] = []
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        seen.extend(local.predict_batch(iter(mixed), batch_size=3))
    assert len(seen) == 1
    assert list(local.predict_batch([])) == []
    for wrong in ({"batch_size": 0}, {"errors": "ignore"}):
        with pytest.raises(ValueError, match="expected"):
            local.predict_batch(mixed, **wrong)  # at once, not at the first result


def test_a_batch_of_faults_alone(local: Detector) -> None:
    found = list(local.predict_batch([b"a", b"b", b"c"], batch_size=2, errors="return"))
    assert [type(item) for item in found] == [ImageError] * 3


def test_a_batch_is_read_as_it_is_needed(local: Detector, normals: list[np.ndarray]) -> None:
    taken = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            taken.append(1)
            yield normals[0]

    stream = local.predict_batch(endless(), batch_size=2)
    next(stream)
    stream.close()
    assert len(taken) <= 8


def test_results_own_their_heatmaps_and_images(fitted: Detector, normals: list[np.ndarray]) -> None:
    expected = [fitted.predict(image).score for image in normals]

    def refilled() -> Iterator[np.ndarray]:
        frame = np.empty_like(normals[0])
        for image in normals:
            frame[:] = image
            yield frame

    results = list(fitted.predict_batch(refilled(), batch_size=len(normals)))
    assert [result.score for result in results] == pytest.approx(expected, abs=1e-5)
    assert len(pickle.dumps(results[0])) < 2 * len(pickle.dumps(fitted.predict(normals[0])))
    frame = normals[0].copy()
    result = fitted.predict(frame)
    before = result.overlay().tobytes()
    frame[:] = 0
    assert result.overlay().tobytes() == before


def test_a_picture_that_is_closed_behind(local: Detector, normals: list[np.ndarray], tmp_path: Path) -> None:
    Image.fromarray(normals[0]).save(tmp_path / "picture.tif")

    def closed_behind() -> Iterator[Image.Image]:
        with Image.open(tmp_path / "picture.tif") as opened:
            yield opened

    [result] = local.predict_batch(closed_behind())
    assert result.score == pytest.approx(local.predict(normals[0]).score, abs=1e-5)
    content = (tmp_path / "picture.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[:2000])
    with Image.open(tmp_path / "cut.tif") as cut, pytest.raises(ImageError, match=r"cut\.tif cannot be decoded"):
        list(local.predict_batch([cut]))


def test_nothing_before_a_failing_source_is_lost(local: Detector, normals: list[np.ndarray]) -> None:
    def camera() -> Iterator[np.ndarray]:
        yield from normals[:5]
        raise ConnectionError("cable pulled")

    found = []
    with pytest.raises(ConnectionError, match="cable pulled"):
        found.extend(local.predict_batch(camera(), errors="return"))
    assert len(found) == 5

    def folder() -> Iterator[np.ndarray]:
        yield from normals[:3]
        yield load_image(b"torn")

    found.clear()
    with pytest.raises(ImageError, match="no image in a format"):  # it comes from the source, which is at its end
        found.extend(local.predict_batch(folder(), errors="return"))
    assert len(found) == 3


def test_no_thread_is_left_behind(fitted: Detector, normals: list[np.ndarray]) -> None:
    list(fitted.predict_batch(normals * 17, batch_size=8, progress=False))  # 102 images
    stream = fitted.predict_batch(normals * 17, batch_size=8, progress=False)
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("patchclip")]
