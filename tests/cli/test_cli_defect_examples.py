"""`patchclip fit --defect-examples`: what is in the folder, and what is refused before the fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchclip import Detector
from patchclip.cli.console import Console
from patchclip.cli.defect_examples import list_examples

from .command_line import Command


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(paths: Sequence[str], *, is_mask: bool = False) -> None:
    """Images, or masks, in files."""
    rng = np.random.default_rng(0)
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((16, 16), np.uint8) if is_mask else rng.integers(0, 255, (16, 16, 3), np.uint8)
        if is_mask:
            pixels[:4] = 255
        Image.fromarray(pixels).save(path)


def test_masks_that_are_used_are_not_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    draw(["e/crack/0.png", "e/crack/1.png", "e/spot/0.png"])
    draw(["e/crack/0_mask.png", "e/spot/masks/0.png"], is_mask=True)
    found = list_examples(Console(), "e")
    assert found == {
        "crack": [("e/crack/0.png", ["e/crack/0_mask.png"]), "e/crack/1.png"],
        "spot": [("e/spot/0.png", ["e/spot/masks/0.png"])],
    }
    assert capsys.readouterr().err == "examples of defects: 3 images of 2 kinds, 2 masks\n"
    draw(["e/spot/9_mask.png"], is_mask=True)
    draw(["e/spot/0_mask.png"], is_mask=True)
    assert list_examples(Console(), "e")["spot"] == [("e/spot/0.png", ["e/spot/0_mask.png", "e/spot/masks/0.png"])]
    assert capsys.readouterr().err.startswith("note: 1 entry was skipped, such as e/spot/9_mask.png: a mask")


@pytest.mark.parametrize(
    "normals",
    [["data"], ["data/good", "link"], ["--class", "a=data/good", "--class", "b=link"], ["--by-folder", "data"]],
    ids=["folder", "link", "class", "by folder"],
)
def test_examples_among_the_normal_images_are_refused(
    command: Command, normals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(["data/good/0.png", "data/defects/spot/0.png", "data/defects/crack/1.png"])
    Path("link").symlink_to("data/defects")
    monkeypatch.setattr(Detector, "fit", lambda *_, **__: pytest.fail("it was fitted"))
    done = command("fit", *normals, "--defect-examples", "data/defects")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == (
        "error: --defect-examples: data/defects/crack/1.png is among the normal images too: give the folder of normal "
        "images alone"
    )


def test_examples_may_be_among_unlabelled_images(command: Command, photos: Path, local_model: str) -> None:
    draw(["examples/hole/0.png"])
    images = ("photos", "examples", "--unlabelled", "0.4")
    done = command("fit", *images, "--model", local_model, "--threshold", "0", "--defect-examples", "examples")
    assert done.exit_code == 0
    assert Detector.load("detector.safetensors").kinds_ == {"hole": 1}


def test_remedies_are_those_of_the_command(command: Command, good: Path, local_model: str) -> None:
    draw(["e/hole/0.png", "e/hole/1.png"])
    arguments = ("fit", "good", "--model", local_model, "--threshold", "1", "--defect-examples", "e")
    remedy = "mark the defect, by a mask beside the image, NAME_mask.png, or lower the threshold"
    failed = command(*arguments)
    assert failed.exit_code == 2
    assert failed.stderr.endswith(f": {remedy}\n")
    draw(["e/hole/0_mask.png"], is_mask=True)
    done = command(*arguments)
    assert done.exit_code == 0
    [note] = [line for line in done.stderr.splitlines() if line.startswith("note: teach: 1 of 2 examples")]
    assert note.endswith(f"e/hole/1.png (hole); {remedy}")
    Image.new("L", (16, 16)).save("e/hole/0_mask.png")
    failed = command(*arguments)
    assert failed.exit_code == 2
    assert "the mask of e/hole/0.png (hole)" in failed.stderr
    assert "box" not in failed.stderr


# --- folders that are no kinds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["masks", "ground_truth", "GT"])
def test_a_folder_of_masks_beside_the_kinds(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    draw(["e/crack/0.png", "e/crack/1.png", "e/spot/0.png"])
    draw([f"e/{name}/crack/0.png", f"e/{name}/spot/0_mask.png"], is_mask=True)
    assert list_examples(Console(), "e") == {
        "crack": [("e/crack/0.png", [f"e/{name}/crack/0.png"]), "e/crack/1.png"],
        "spot": [("e/spot/0.png", [f"e/{name}/spot/0_mask.png"])],
    }
    assert capsys.readouterr().err == "examples of defects: 3 images of 2 kinds, 2 masks\n"


def test_masks_of_all_kinds_in_one_folder() -> None:
    draw(["e/crack/a.png", "e/spot/b.png"])
    draw(["e/masks/a_mask.png", "e/masks/b.png"], is_mask=True)
    assert list_examples(Console(), "e") == {
        "crack": [("e/crack/a.png", ["e/masks/a_mask.png"])],
        "spot": [("e/spot/b.png", ["e/masks/b.png"])],
    }


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (["e/masks/0.png"], "e/masks: 1 masks match several images of one name"),
        (["e/masks/7.png"], "e/masks: 1 masks have no image, such as 7.png"),
        (["e/masks/crack/7.png"], "e/masks/crack: 1 masks have no image"),
        (["e/masks/crack/0.png", "e/masks/0.png"], "e/masks/0.png is in no folder"),
        (
            ["e/test/good/0.png"],
            "e is a whole data set: give the kinds of defects of its test/ alone, without normal images",
        ),
        (
            ["e/test/crack/0.png", "e/ground_truth/crack/0.png"],
            "e is a whole data set: give the kinds of defects of its test/ alone",
        ),
        (["e/good/0.png"], "e/good has normal images by its name: give a folder with the kinds of defects alone"),
        (["e/OK/0.png"], "e/OK has normal images by its name"),
        (["e/empty/notes.txt"], "no image in e/empty"),
    ],
)
def test_what_is_no_folder_of_kinds_is_refused_before_the_fit(
    command: Command, good: Path, others: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(["e/crack/0.png", "e/spot/0.png"])
    draw([name for name in others if name.endswith(".png")], is_mask=True)
    if "e/empty/notes.txt" in others:
        Path("e/empty").mkdir()
    monkeypatch.setattr(Detector, "fit", lambda *_, **__: pytest.fail("it was fitted"))
    done = command("fit", "good", "--defect-examples", "e")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: --defect-examples: {message}")


def test_kinds_may_be_numbers() -> None:
    draw(["e/0/a.png", "e/1/a.png"])
    assert list_examples(Console(), "e") == {"0": ["e/0/a.png"], "1": ["e/1/a.png"]}


@pytest.mark.parametrize(
    ("other", "reason"),
    [("e/loose.png", "e/loose.png: in no folder of a kind"), ("e/@spot/0.png", "e/@spot: hidden, or of the system")],
)
def test_what_is_no_example_is_named(capsys: pytest.CaptureFixture[str], other: str, reason: str) -> None:
    draw(["e/crack/0.png", other])
    assert list_examples(Console(), "e") == {"crack": ["e/crack/0.png"]}
    assert f"note: 1 entry was skipped, such as {reason}" in capsys.readouterr().err
