"""A run that learns, stops, goes on and ends with its schedule, and a release that the detector loads."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from patchclip import Detector
from patchclip.pretrain.schedule import Plan, plan_steps
from patchclip.pretrain.train import Settings, train

SMALL = {"images": 96, "products": 12, "pairs": 4, "stages": ((64, 0.5), (96, 0.5)), "validation_images": 12}


def test_steps_are_planned_by_hand() -> None:
    stages = ((64, 0.5), (128, 0.5))
    plans = list(plan_steps(lambda images: images / 100, stages, 16, step=300, images=0, processes=1))
    assert [(plan.step, plan.pairs, plan.side) for plan in plans] == [
        (300, 16, 64),  # 32 images
        (301, 16, 64),  # 64
        (302, 4, 128),  # a quarter of the pairs, four times the pixels
        (303, 4, 128),
        (304, 4, 128),
        (305, 4, 128),
        (306, 4, 128),  # 104
    ]
    assert plans[0].rate == 1
    assert plans[2].rate == pytest.approx(0.02 + 0.98 * 0.5 * (1 + np.cos(0.64 * np.pi)))
    assert list(plan_steps(lambda images: images / 100, stages, 16, step=303, images=72, processes=1)) == plans[3:]
    first = next(plan_steps(lambda images: 0.0, stages, 2, step=0, images=0, processes=2))
    assert first == Plan(0, 4, 64, 1 / 200)  # warm-up, and never fewer than 4 pairs


@pytest.mark.filterwarnings("ignore:.*autocast")
def test_a_run_can_be_stopped_and_resumed(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "run", **SMALL)
    release = train(settings)
    rows = [json.loads(line) for line in (settings.out / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["images"] >= 96
    assert np.isfinite([value for value in rows[-1].values() if isinstance(value, float)]).all()
    with pytest.raises(FileExistsError, match="--resume"):
        train(settings)
    before = torch.load(settings.out / "checkpoint.pt", weights_only=True)
    train(replace(settings, images=160), resume=True)
    after = torch.load(settings.out / "checkpoint.pt", weights_only=True)
    assert after["step"] > before["step"]
    assert after["images"] >= 160

    detector = Detector(f"local-dir:{release}", precision="fp32")
    assert detector.options["layers"] == (6, 8)
    assert detector.options["cues"] == ("text", "tokens", "texture", "imagenet", "imagenet_fine")
    assert detector.options["dense_attention"] == "qk"
    assert 0 < detector.predict(np.zeros((50, 60, 3), np.uint8)).score < 1


@pytest.mark.filterwarnings("ignore:.*autocast")
def test_a_run_by_minutes_ends_with_its_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = count()
    monkeypatch.setattr("patchclip.pretrain.train.time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    settings = Settings(tmp_path / "run", **SMALL, minutes=0.25, checkpoint_every_s=4)
    release = train(settings)
    rows = [json.loads(line) for line in (settings.out / "log.jsonl").read_text().splitlines()]
    assert [row["side"] for row in rows] == sorted(row["side"] for row in rows)
    assert {row["side"] for row in rows} == {64, 96}
    assert 0.2 < rows[-1]["minutes"] <= 0.25
    assert (release / "open_clip_model.safetensors").exists()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"minutes=0\.25 is for one process, got 2"):
        train(settings, resume=True)


@pytest.mark.filterwarnings("ignore:.*autocast")
def test_a_run_stopped_at_its_end_is_released_when_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tmp_path / "run", **{**SMALL, "images": 16})
    with monkeypatch.context() as patch:
        patch.setattr("patchclip.pretrain.train.validate", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(settings)
    assert (train(settings, resume=True) / "open_clip_model.safetensors").exists()


@pytest.mark.filterwarnings("ignore:.*autocast")
def test_a_run_with_a_teacher(tmp_path: Path) -> None:
    release = train(Settings(tmp_path / "run", **SMALL, teacher=True))
    row = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert 0 < row["teacher"] < 10
    assert 0 < Detector(f"local-dir:{release}").predict(np.zeros((50, 60, 3), np.uint8)).score < 1


@pytest.mark.filterwarnings("ignore:.*autocast")
def test_an_interrupted_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    """The data of a step does not depend on the steps before it, nor does the schedule."""
    whole = Settings(tmp_path / "whole", **SMALL | {"images": 48}, checkpoint_every_s=0)
    train(whole)

    class Killed(Exception):
        pass

    def kill(*args: object, **options: object) -> None:
        raise Killed

    broken = replace(whole, out=tmp_path / "broken")
    with pytest.MonkeyPatch.context() as patch:
        calls = iter([None] * 3 + [kill])
        from patchclip.pretrain import train as module

        real = module.validate
        patch.setattr(module, "validate", lambda *a: (next(calls) or real)(*a))
        with pytest.raises(Killed):
            train(broken)
    train(broken, resume=True)
    states = [torch.load(out / "checkpoint.pt", weights_only=True) for out in (whole.out, broken.out)]
    assert states[0]["step"] == states[1]["step"]
    for key, value in states[0]["objective"].items():
        assert torch.allclose(value, states[1]["objective"][key], atol=1e-5), key
