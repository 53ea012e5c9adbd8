"""A run that was stopped goes on with the next task; what has changed since is measured anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accuracy import main as program
from accuracy.methods.base import Method, Prediction, References
from accuracy.methods.table import METHODS
from accuracy.plan import Task, draw_references
from accuracy.results import Unit, read_unit, unit_path, write_unit
from patchclip import ImageError
from patchclip.datasets import Category, read_dataset

from .runs import read_rows, run


class Watched:
    """A method that notes its fits, and is stopped by the user at an image."""

    def __init__(self, method: Method, note: Callable[[], None], stop_at: Path | None):
        self.method = method
        self.note = note
        self.stop_at = stop_at

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def fit(self, references: References, *, seed: int) -> None:
        self.note()
        self.method.fit(references, seed=seed)

    def predict(self, paths: Sequence[Path], *, batch_size: int) -> Iterator[Prediction | ImageError]:
        predictions = self.method.predict(paths, batch_size=batch_size)
        for path, prediction in zip(paths, predictions, strict=True):
            if path == self.stop_at:
                raise KeyboardInterrupt
            yield prediction


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the methods that are fitted from here on."""
    found: list[str] = []
    watch(monkeypatch, "dense", found)
    watch(monkeypatch, "bank", found)
    return found


def watch(monkeypatch: pytest.MonkeyPatch, name: str, fits: list[str], stop_at: Path | None = None) -> None:
    entry = METHODS[name]

    def make(*arguments: Any) -> Method:
        return Watched(entry.make(*arguments), lambda: fits.append(name), stop_at)

    monkeypatch.setitem(METHODS, name, replace(entry, make=make))


def test_a_stopped_run_goes_on(
    data: Path,
    local_model: str,
    tmp_path: Path,
    fits: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    options = ("--methods", "dense", "bank", "--shots", "0", "2", "--seeds", "1")
    run(data, local_model, *options, "--out", str(tmp_path / "whole"))
    assert fits == ["dense", "bank"]

    out = tmp_path / "stopped"
    with monkeypatch.context() as stopping:
        watch(stopping, "bank", [], stop_at=data / "test" / "hole" / "4.png")
        with pytest.raises(SystemExit) as caught:
            run(data, local_model, *options, "--out", str(out))
    assert caught.value.code == 130
    assert "--resume goes on from here" in capsys.readouterr().err
    (done,) = (out / "state").iterdir()  # a task is kept whole or not at all
    assert done.name.startswith("fabric-fabric-dense-0-0-")
    cut_short = done.with_name(done.name.replace("dense-0", "bank-2") + ".writing")
    cut_short.write_text('{"row": {"data')  # as a kill in the middle of writing leaves it

    fits.clear()
    run(data, local_model, *options, "--out", str(out), "--resume")
    assert fits == ["bank"]
    assert (out / "scores.csv").read_text() == (tmp_path / "whole" / "scores.csv").read_text()
    for whole, resumed in zip(read_rows(tmp_path / "whole"), read_rows(out), strict=True):
        for timed in ("seconds_per_image", "fit_seconds"):
            assert whole.pop(timed) > 0
            assert resumed.pop(timed) > 0
        assert whole == resumed

    fits.clear()
    run(data, local_model, *options, "--out", str(out), "--resume")
    assert fits == []
    run(data, local_model, *options, "--out", str(out))  # without --resume: from the start
    assert fits == ["dense", "bank"]


def test_what_has_changed_is_measured_anew(
    data: Path, local_model: str, tmp_path: Path, fits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--methods", "bank", "--shots", "2", "--seeds", "1", "--out", str(tmp_path / "out"), "--resume")

    def measured(*more: str) -> bool:
        fits.clear()
        run(data, local_model, *options, *more)
        return fits == ["bank"]

    assert measured()
    assert not measured()
    assert measured("--object-name", "{category}")
    describe = program.describe_environment
    monkeypatch.setattr(program, "describe_environment", lambda *a, **k: describe(*a, **k) | {"code_sha256": "other"})
    assert measured()


def test_a_unit_is_of_its_images(data: Path, tmp_path: Path) -> None:
    """A changed file, another label, draw or option: another name."""
    (category,) = read_dataset(data)
    task = Task(category, "bank", 2, 0, (2,))
    references, _ = draw_references(category, 2, 0)

    def name(task: Task = task, identity: str = "same") -> str:
        return unit_path(tmp_path, task, references, {"weights": identity}).name

    names = [name()]
    for changed in ("test/good/5.png", "ground_truth/hole/0_mask.png", references[None][0]):
        os.utime(data / changed, (1, 1))
        names.append(name())
    assert name() == names[-1]
    unused = next(path for path in category.references[None] if path not in references[None])
    os.utime(unused, (1, 1))
    assert name() == names[-1]
    test = (replace(category.test[0], label=1), *category.test[1:])
    names += [
        name(replace(task, category=replace(category, test=test))),
        name(replace(task, shots=4)),
        name(replace(task, seed=1)),
        name(replace(task, method="texture")),
        name(identity="other"),
    ]
    assert len(set(names)) == 9


def test_units_survive_their_file(tmp_path: Path) -> None:
    task = Task(Category("set", "set", "mvtec", Path(), {}, ()), "bank", 4, 0, (4, "all"))
    replicates = {"image_auroc": np.array([0.1, np.nan, 1 / 3])}
    unit = Unit({"shots": 4}, [{"score": 0.1 + 0.2}], replicates, {"roc": [[0.0], [1.0]]}, [], ["one"], (4, "all"))
    write_unit(tmp_path / "unit.json", unit)
    again = read_unit(tmp_path / "unit.json", task)
    assert np.array_equal(again.replicates.pop("image_auroc"), unit.replicates.pop("image_auroc"), equal_nan=True)
    assert again == unit
    assert [path.name for path in tmp_path.iterdir()] == ["unit.json"]
