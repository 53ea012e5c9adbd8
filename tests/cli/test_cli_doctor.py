"""`patchclip demo`, `patchclip doctor`, `patchclip models`, and the console that they write to."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from PIL import Image

import patchclip
from patchclip.cli import doctor, sizes
from patchclip.cli.console import Console
from patchclip.cli.reporting import describe_error
from patchclip.encoders.downloads import WEIGHTS_REMEDY
from patchclip.encoders.loading import DEFAULT_MODEL

from .command_line import Command

ASSETS = Path(patchclip.__file__).parent / "assets" / "demo"


def test_demo(command: Command, tmp_path: Path) -> None:
    done = command("demo")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("normal tile     score 0.")
    assert lines[0].endswith("  normal")
    assert "  anomalous: crack at (" in lines[1]
    assert lines[3] == "picture         patchclip_demo.png"
    commands = [line.strip() for line in done.stderr.splitlines() if line.startswith("  patchclip ")]
    assert len(commands) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["patchclip_demo.png"]
    with Image.open("patchclip_demo.png") as picture:
        assert picture.size[0] == 3 * (480 + 4) - 4
    assert sum(file.stat().st_size for file in ASSETS.iterdir()) < 100_000


def test_doctor_finds_everything_well(command: Command) -> None:
    done = command("doctor")
    assert done.exit_code == 0, done.output
    for name in ("patchclip", "torch", "torchvision", "device", "precision", "threads", "extra onnx", "embedded model"):
        assert f" {name} " in done.stdout
    assert done.stderr == "everything that is needed works\n"


def test_doctor_names_faults_and_what_is_not_installed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.KNOWN_SCORES, "normal_0.jpg", 0.5)
    monkeypatch.setitem(doctor.EXTRAS, "onnx", ("onnx", "no_such_module"))
    done = command("doctor", "--json")
    assert done.exit_code == 2
    checks = {check["name"]: check for check in map(json.loads, done.stdout.splitlines())}
    assert checks["embedded model"]["state"] == "FAULT"
    assert "known are 0.9939, 0.5000" in checks["embedded model"]["detail"]
    assert checks["extra onnx"]["state"] == "not installed"
    assert checks["extra onnx"]["detail"].endswith('pip install "patchclip[onnx]"')
    assert done.stderr == "faults: embedded model\n"


def test_models(command: Command) -> None:
    rows = [json.loads(line) for line in command("models", "--json").stdout.splitlines()]
    assert [row["name"] for row in rows][:2] == [DEFAULT_MODEL, "tiny"]
    assert sizes.DEFAULT_MODEL == DEFAULT_MODEL
    assert rows[0]["download_mb"] is None
    text = command("models").stdout
    assert all(row["name"] in text for row in rows)
    assert "about 834 MB" in text
    assert "ViT-B-16-plus-240" in command("models", "--all").stdout.splitlines()


def test_remedies_name_options() -> None:
    said = describe_error(ValueError(WEIGHTS_REMEDY))
    assert "--pretrained path/to/checkpoint.safetensors" in said
    assert said.endswith(f"or use the embedded model, --model {DEFAULT_MODEL}")


def test_a_download_says_its_size_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    assert sizes.describe_download("ViT-B-16", None) == (
        "the weights of ViT-B-16 are not on this machine: about 598 MB to download once"
    )
    assert "of unknown size" in (sizes.describe_download("hf-hub:org/name", None) or "")
    assert sizes.describe_download("tiny", None) is None
    assert sizes.describe_download(DEFAULT_MODEL, None) is None
    assert sizes.describe_download("local-dir:x", None) is None
    assert sizes.describe_download("no such model", None) is None  # an error says so later
    checkpoint = tmp_path / "weights.safetensors"
    checkpoint.write_bytes(b"")
    assert sizes.describe_download("ViT-B-16", str(checkpoint)) is None
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "a file")
    assert sizes.describe_download("ViT-B-16", None) is None


# --- console ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    Console().data("plain", fg="red")
    assert capsys.readouterr().out == "plain\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    Console().data("red", fg="red")
    assert ("\x1b[31m" in capsys.readouterr().out) is coloured


@pytest.mark.parametrize(("verbose", "shown"), [(False, 5), (True, 9)])
def test_a_flood_of_notes_is_cut(capsys: pytest.CaptureFixture[str], verbose: bool, shown: int) -> None:
    with Console(verbose=verbose).warnings_as_notes():
        for index in range(9):
            warnings.warn(f"image {index}\x1b is odd", stacklevel=1)
        warnings.warn("an old name", DeprecationWarning, stacklevel=1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:shown] == [rf"note: image {index}\x1b is odd" for index in range(shown)]
    assert lines[shown:] == ([] if verbose else ["note: 4 more notes of the same kinds: --verbose shows them"])
