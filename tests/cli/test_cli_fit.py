"""`patchclip fit` and `patchclip calibrate`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchclip import Detector

from .command_line import Command


def test_fit_writes_the_detector_of_the_library(command: Command, good: Path, local_model: str) -> None:
    done = command(
        "fit", "good", "--model", local_model, "--object", "cloth", "--defects", "hole, cut", "-o", "c.safetensors"
    )
    assert done.exit_code == 0
    assert done.stdout == ""
    said = done.stderr.splitlines()
    assert said[0].startswith("note: fit: 3 normal images cannot fix a false-positive rate of 0.05")
    assert said[1] == "fitted on 3 images"
    assert said[2].endswith("(by fit on 3 images)")
    assert said[3] == "wrote c.safetensors"
    assert said[4] == "next: patchclip predict photos/ --detector c.safetensors --out run"
    assert said[5] == "then: patchclip calibrate more_good/ --detector c.safetensors"
    detector = Detector.load("c.safetensors")
    assert detector.options["object_name"] == "cloth"
    assert list(detector.options["defects"]) == ["hole", "cut"]
    by_hand = Detector(local_model, object_name="cloth", defects=("hole", "cut"))
    with pytest.warns(UserWarning, match="extrapolation"):
        by_hand.fit(sorted(good.iterdir()))
    assert detector.threshold == by_hand.threshold


def test_every_option_is_passed_on(command: Command, good: Path, local_model: str) -> None:
    options = ["--rate", "0.3", "--cues", "text,tokens", "--image-size", "96", "--coreset", "0.5", "--rotations", "2"]
    options += ["--flips", "--precision", "fp32", "--max-pixels", "20000", "--device", "cpu", "--threshold", "0.4"]
    assert command("fit", "good", "--model", local_model, *options).exit_code == 0
    detector = Detector.load("detector.safetensors")
    expected = {"max_false_positive_rate": 0.3, "cues": ("text", "tokens"), "image_size": 96, "coreset": 0.5}
    expected |= {"rotations": 2, "flips": True, "precision": "fp32", "max_pixels": 20000}
    assert {name: detector.options[name] for name in expected} == expected
    assert (detector.threshold, detector.threshold_source) == (0.4, "user")
    winclip = command("fit", "good", "--model", local_model, "--recipe", "winclip", "-o", "w.safetensors")
    assert winclip.exit_code == 0
    assert Detector.load("w.safetensors").options["recipe"] == "winclip"


def test_classes(command: Command, good: Path, local_model: str) -> None:
    shutil.copytree(good, "classes/cap")
    shutil.copytree(good, "classes/bottle")
    model = ("--model", local_model)
    done = command("fit", "--class", "cap=classes/cap", "--class", "bottle=classes/bottle", *model)
    assert "fitted on 6 images of 2 classes (cap, bottle)" in done.stderr
    assert Detector.load("detector.safetensors").classes_ == ("cap", "bottle")
    assert command("fit", "--by-folder", "classes", *model, "-o", "b.safetensors").exit_code == 0
    assert Detector.load("b.safetensors").classes_ == ("bottle", "cap")


def test_a_folder_whose_name_is_not_utf8_gives_a_printable_one(
    command: Command, good: Path, defective: tuple[np.ndarray, np.ndarray], local_model: str
) -> None:
    image, _ = defective
    kind = os.fsdecode(b"examples/cr\xffck")
    os.makedirs(kind)
    Image.fromarray(image).save(f"{kind}/0.png")
    examples = ("--defect-examples", "examples", "--threshold", "0")
    assert command("fit", "good", "--model", local_model, *examples).exit_code == 0
    assert Detector.load("detector.safetensors").kinds_ == {"cr\\xffck": 1}
    assert command("predict", "good", "--detector", "detector.safetensors", "--out", "run").exit_code == 0
    assert command("fit", "--by-folder", "examples", "--model", local_model, "-o", "c.safetensors").exit_code == 0
    assert Detector.load("c.safetensors").classes_ == ("cr\\xffck",)


def test_a_damaged_example_is_found_before_the_fit(
    command: Command, good: Path, local_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.makedirs("examples/hole")
    Path("examples/hole/0.png").write_bytes(b"torn")
    monkeypatch.setattr(Detector, "fit", lambda *_, **__: pytest.fail("it was fitted"))
    done = command("fit", "good", "--model", local_model, "--defect-examples", "examples")
    assert done.exit_code == 2
    assert "examples/hole/0.png is no image" in done.stderr


def test_unlabelled(command: Command, photos: Path, local_model: str) -> None:
    done = command("fit", "photos", "--model", local_model, "--unlabelled", "0.4")
    assert done.exit_code == 0
    assert Detector.load("detector.safetensors").threshold_source == "fit_unlabelled"
    assert "(by fit on 3 images without labels)" in done.stderr


def test_examples_of_defects(
    command: Command, good: Path, defective: tuple[np.ndarray, np.ndarray], local_model: str
) -> None:
    image, mask = defective
    for path in ("examples/hole", "examples/dark spot"):
        Path(path).mkdir(parents=True)
    Image.fromarray(image).save("examples/hole/0.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save("examples/hole/0_mask.png")
    Image.fromarray(image[::-1].copy()).save("examples/dark spot/0.png")
    Image.fromarray(image[:, ::-1].copy()).save("examples/dark spot/1.png")
    arguments = ("fit", "good", "--model", local_model, "--threshold", "0", "--defect-examples", "examples")
    done = command(*arguments)
    assert done.exit_code == 0
    assert "kinds of defects: dark spot (2), hole (1)" in done.stderr
    detector = Detector.load("detector.safetensors")
    assert detector.kinds_ == {"dark spot": 2, "hole": 1}
    by_hand = Detector.load("detector.safetensors").teach({"hole": [(image, mask)]}, progress=False)
    by_file = Detector.load("detector.safetensors").teach({"hole": [("examples/hole/0.png", mask)]}, progress=False)
    assert by_hand.predict(image).regions == by_file.predict(image).regions
    facts = json.loads(command("info", "detector.safetensors", "--json").stdout)
    assert facts["taught_kinds"] == {"dark spot": 2, "hole": 1}
    assert set(facts["vectors"]) == set(detector.memory_.banks[0])
    rows = command("predict", "examples/dark spot/0.png", "--detector", "detector.safetensors", "--json", "-q").stdout
    row = json.loads(rows)
    assert (row["defect"], row["defect_source"]) == (row["regions"][0]["defect"], row["regions"][0]["defect_source"])
    none_found = command(*arguments, "--threshold", "1", "-o", "n.safetensors")
    assert none_found.exit_code == 2
    assert none_found.stderr.splitlines()[-1].startswith(
        "error: no example of 'dark spot' has a region above the thresh"
    )
    assert not Path("n.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["good", "--defect-examples", "good"], "--defect-examples: good has no folders in it, one for each kind"),
        (["good", "--defect-examples", "absent"], "--defect-examples: absent is no folder"),
        ([], "no normal images: name files or folders, --class NAME=PATH, or --by-folder DIR"),
        (["good", "--by-folder", "good"], "INPUTS and --by-folder: one product, or classes of several: choose one"),
        (["--class", "cap"], "--class: cap is not NAME=PATH"),
        (["--by-folder", "good"], "--by-folder: good has no folders in it"),
        (["--class", "a=good", "--unlabelled", "0.2"], "--unlabelled: takes images of one product"),
        (["good", "-o", "good/0.png"], "-o: good/0.png must end in .safetensors"),
        (["good", "-o", "no/d.safetensors"], "-o: the folder no does not exist, make it first"),
        (["good", "--rate", "2"], "expected "),
        (["bad"], "bad/torn.png is no image in a format"),
    ],
)
def test_errors_are_one_line(command: Command, good: Path, arguments: list[str], message: str) -> None:
    Path("bad").mkdir()
    Path("bad/torn.png").write_bytes(b"torn")
    done = command("fit", *arguments)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {message}")
    assert not Path("detector.safetensors").exists()


# --- calibrate --------------------------------------------------------------------------------------------------------


@pytest.fixture
def more_good(tmp_path: Path) -> Path:
    """A folder "more_good" in `tmp_path` of 19 images."""
    folder = tmp_path / "more_good"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(19):
        Image.fromarray(rng.integers(100, 140, (64, 64, 3), np.uint8)).save(folder / f"{index}.png")
    return folder


def test_calibrate_in_the_same_file(command: Command, good: Path, more_good: Path, local_model: str) -> None:
    command("fit", "good", "--model", local_model, "-q")
    before = Detector.load("detector.safetensors").threshold
    done = command("calibrate", "more_good", "--detector", "detector.safetensors")
    assert done.exit_code == 0
    detector = Detector.load("detector.safetensors")
    assert detector.threshold_source == "calibrate"
    assert detector.threshold_guaranteed
    said = done.stderr.splitlines()
    sure = "calibrated on 19 images, the rate is guaranteed"
    assert said[0] == f"threshold {detector.threshold:.4f} ({sure}), before {before:.4f}"
    assert said[-1] == "next: patchclip export detector.safetensors -o detector.onnx"
    other = command("calibrate", "good", "--detector", "detector.safetensors", "--rate", "0.01", "-o", "o.safetensors")
    assert other.stderr.splitlines()[-1].endswith("(with 99 images the rate is guaranteed)")
    assert Detector.load("detector.safetensors").threshold == detector.threshold
    assert not Detector.load("o.safetensors").threshold_guaranteed


def test_calibrate_says_what_is_missing(command: Command, good: Path) -> None:
    assert "missing option '--detector'" in command("calibrate", "good").stderr
    missing = command("calibrate", "good", "--detector", "d.safetensors")
    assert missing.stderr == "error: --detector: d.safetensors does not exist: make it by `patchclip fit`\n"
