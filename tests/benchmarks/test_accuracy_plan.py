"""Which data and which tasks a command line means."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from accuracy.categories import load_categories
from accuracy.main import main
from accuracy.methods.table import COURSE_METHODS, METHODS
from accuracy.plan import draw_references, plan
from accuracy.synthetic_set import make_synthetic
from patchclip.datasets import Category, DatasetError, Sample, read_dataset
from patchclip.synthetic import Surface

from .runs import write_mvtec

# --- planning -----------------------------------------------------------------------------------------------------


def category(references: dict, *, layout: str = "mvtec") -> Category:
    test = (Sample(Path("a"), 0), Sample(Path("b"), 1))
    return Category("set", "set", layout, Path(), references, test)


def planned(references: dict, methods: list[str] | None, shots: list, *, layout: str = "mvtec") -> tuple[list, list]:
    tasks, problems = plan([category(references, layout=layout)], methods, shots, 3)
    return [(task.method, task.shots, task.seed) for task in tasks], problems


TEN = {None: tuple(Path(f"{k}") for k in range(10))}


def test_every_draw_is_a_task() -> None:
    tasks, problems = planned(TEN, ["dense", "bank", "winclip"], [0, 4])
    assert tasks == [
        ("dense", 0, 0),
        *(("bank", 4, seed) for seed in range(3)),
        ("winclip", 0, 0),
        *(("winclip", 4, seed) for seed in range(3)),
    ]
    assert problems == []
    assert planned(TEN, ["dense"], [4]) == ([("dense", 0, 0)], [])


def test_all_references_are_one_draw_unless_the_method_throws_dice() -> None:
    tasks, _ = planned(TEN, ["bank", "random-vit"], ["all"])
    assert tasks == [("bank", 10, 0), *(("random-vit", 10, seed) for seed in range(3))]
    tasks, problems = planned(TEN, ["bank"], [10, 16])
    assert tasks == [("bank", 10, 0)]
    assert problems == ["set/set: 16 references asked for, 10 there"]
    tasks, _ = plan([category(TEN)], ["bank"], [4, "all", 16], 1)
    assert [(task.shots, task.requested_shots) for task in tasks] == [(4, (4,)), (10, ("all", 16))]


def test_what_was_asked_for_in_vain_is_said() -> None:
    assert planned(TEN, ["bank"], [0]) == ([], ["set/set: bank left out, it needs --shots above 0"])
    tasks, problems = planned({None: ()}, ["dense", "bank"], [0, 4])
    assert tasks == [("dense", 0, 0)]
    assert problems == ["set/set: bank left out, there are no normal images to fit on"]


def test_a_course_uses_all_its_references() -> None:
    classes = {"a": (Path("1"), Path("2")), "b": (Path("3"),)}
    tasks, problems = planned(classes, None, [0, 4], layout="course")
    assert {(name, shots) for name, shots, _ in tasks} == {
        ("dense", 0),
        *((name, 2) for name in COURSE_METHODS[1:]),
    }
    assert problems == []


# --- references ---------------------------------------------------------------------------------------------------


def test_fewer_references_are_part_of_more(data: Path) -> None:
    (fabric,) = read_dataset(data)
    drawn = {(shots, seed): draw_references(fabric, shots, seed)[0][None] for shots in (1, 2, 4) for seed in (0, 1)}
    for seed in (0, 1):
        assert drawn[1, seed] == drawn[2, seed][:1]
        assert drawn[2, seed] == drawn[4, seed][:2]
    assert drawn[4, 0] != drawn[4, 1]
    assert draw_references(fabric, 0, 0) == ({}, [])


def test_nothing_to_fit_on(data: Path) -> None:
    for path in (data / "train/good").iterdir():
        path.write_bytes(b"")
    (fabric,) = read_dataset(data)
    with pytest.raises(ValueError, match="fabric/fabric: none of the normal images can be read"):
        draw_references(fabric, 2, 0)


# --- data ---------------------------------------------------------------------------------------------------------


def test_data_sets_of_one_name_are_told_apart(tmp_path: Path, surface: Surface) -> None:
    paths = [write_mvtec(tmp_path / name / "fabric", surface) for name in ("a/new", "b/new", "old")]
    names = [category.dataset for category in load_categories(paths, [], limit=None, folder=tmp_path)]
    assert names == [f"{tmp_path / 'a/new'}/fabric", f"{tmp_path / 'b/new'}/fabric", "old/fabric"]
    with pytest.raises(DatasetError, match="given twice"):
        load_categories([paths[0], paths[0]], [], limit=None, folder=tmp_path)


def test_synthetic_set(tmp_path: Path) -> None:
    categories = make_synthetic(tmp_path / "synthetic", references=2, normal=1, of_each_kind=1, side=64)
    assert [category.name for category in categories] == ["herringbone", "hexagons", "marble", "rings"]
    for made in categories:
        assert made.kinds == ("cut", "dot", "hole", "scratch", "stain")
        assert len(made.references[None]) == 2
        assert all(len(sample.masks) == sample.label for sample in made.test)
        assert made.problems == ()
    again = make_synthetic(tmp_path / "again" / "synthetic", references=2, normal=1, of_each_kind=1, side=64)
    for first, second in zip(categories, again, strict=True):
        for one, other in zip(first.test, second.test, strict=True):
            assert one.path.read_bytes() == other.path.read_bytes()
            assert one.path.stat().st_mtime == other.path.stat().st_mtime


# --- the command line ---------------------------------------------------------------------------------------------


def fails(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_errors_say_what_to_do(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, expected in (
        (["--latency", "-1"], "0 or more, got -1"),
        (["--data", str(tmp_path / "empty")], "none of the layouts that patchclip knows"),
        (["--data", str(tmp_path / "nothing")], "does not exist"),
        (["--resume"], "--resume needs --out"),
        (["--methods", "densest"], "invalid choice: 'densest'"),
        (["--shots", "few"], "expected a number of references or \"all\", got 'few'"),
        (["--seeds", "0"], "at least 1, got 0"),
        (["--data", str(data), "--model", "tinny"], "unknown model 'tinny': did you mean tiny"),
        (["--data", str(data), "--methods", "bank", "--shots", "0"], "nothing to measure"),
    ):
        assert expected in fails(capsys, *arguments)


@pytest.mark.parametrize("peer", ["anomalib-patchcore", "anomalib-patchcore-imagenet", "anomalib-winclip"])
def test_a_missing_peer_is_said(
    peer: str, data: Path, local_model: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("anomalib.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "anomalib", None)  # as where it is not installed
    message = fails(capsys, "--data", str(data), "--model", local_model, "--methods", peer)
    assert "anomalib is not installed here" in message
    assert "pip install" in message


def test_help_states_the_defaults(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in METHODS:
        assert name in text
    assert "default: dense bank texture imagenet random-vit dense+bank" in text
    assert "default: 0 4; a course layout uses all it has" in text
