"""Work that runs ahead: in order, with a bound, and nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from patchclip import Detector, features
from patchclip.images.prefetch import SourceFailure, ordered_map, trim_memory


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("patchclip")]


def test_results_are_in_order_whatever_takes_longest() -> None:
    def slow_at_first(item: int) -> int:
        time.sleep(0.02 if item % 4 == 0 else 0)
        return item * item

    assert list(ordered_map(slow_at_first, range(20), ahead=6)) == [item * item for item in range(20)]
    assert list(ordered_map(slow_at_first, [], ahead=6)) == []
    assert list(ordered_map(slow_at_first, range(3), ahead=0)) == [0, 1, 4]
    assert workers() == []


def test_no_more_than_that_many_are_taken_ahead() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    mapped = ordered_map(str, endless(), ahead=3)
    assert taken == []  # nothing before it is asked for
    assert [next(mapped) for _ in range(4)] == ["0", "1", "2", "3"]
    assert len(taken) == 6
    mapped.close()
    assert workers() == []


def test_a_failing_source_comes_last() -> None:
    broken = ConnectionError("cable pulled")

    def camera() -> Iterator[int]:
        yield from range(5)
        raise broken

    *results, failure = ordered_map(str, camera(), ahead=3)
    assert results == ["0", "1", "2", "3", "4"]
    assert isinstance(failure, SourceFailure)
    assert failure.error is broken
    assert workers() == []


def test_a_failing_function_raises_when_its_turn_has_come() -> None:
    mapped = ordered_map(lambda item: 1 / (item - 2), range(10), ahead=4)
    assert [next(mapped), next(mapped)] == [-0.5, -1]
    with pytest.raises(ZeroDivisionError):
        next(mapped)
    assert list(mapped) == []
    assert workers() == []


def test_memory_can_be_trimmed_at_any_time() -> None:
    trim_memory()


def test_images_are_resized_where_they_are_decoded(
    local_model: str, normals: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, resize = set(), features.resize

    def note(*arguments: object, **options: object) -> np.ndarray:
        threads.add(threading.current_thread().name)
        return resize(*arguments, **options)

    monkeypatch.setattr(features, "resize", note)
    assert len(list(Detector(local_model).predict_batch(normals, batch_size=2, progress=False))) == len(normals)
    assert threads
    assert all(name.startswith("patchclip") for name in threads)
