"""The one timer, the bare forward and the memory probe, and what a record says of where it was measured."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import environment
import internals
from patchclip import Detector
from speed.bench import at_least, at_most
from timing import CPU, alternate, bare_forward, measure_memory, resident_mb, time_parts, wall_clock


def test_functions_take_turns_after_a_round_to_warm_up() -> None:
    calls: list[str] = []
    ticks = itertools.count(0, 2)
    functions = {name: lambda name=name: calls.append(name) for name in ("a", "b")}
    times = alternate(functions, clock=lambda: float(next(ticks)), rounds=3)
    assert calls == ["a", "b"] * 4
    assert {name: values.tolist() for name, values in times.items()} == {"a": [2.0] * 3, "b": [2.0] * 3}


def test_rounds_go_on_until_the_time_is_up() -> None:
    times = alternate({"sum": lambda: np.arange(10_000).sum()}, clock=wall_clock(CPU), rounds=1, seconds=0.05)
    assert len(times["sum"]) > 1
    assert times["sum"].sum() < 1


def test_ratios_by_hand() -> None:
    row = at_most("what", np.array([2.0, 1.0, 3.0]), np.array([2.0, 2.0, 2.0]), limit=1.1)
    assert (row.value, row.target, row.hit) == ("1.00 x", "<= 1.10 x", True)
    assert row.detail == "rounds 0.50 to 1.50; 2.00 s to 2.00 s"
    row = at_least("what", np.array([0.010]), np.array([0.020]), limit=0.6)
    assert (row.value, row.target, row.hit) == ("0.50 x", ">= 0.60 x", False)
    assert row.detail == "rounds 0.50 to 0.50; 10.0 ms to 20.0 ms"


def test_parts_add_up_to_the_whole(tiny: Detector, normals: list[np.ndarray], tmp_path: Path) -> None:
    """By a clock that counts how often it is asked: each part, and the whole, asks twice a call."""
    Image.fromarray(normals[0]).save(tmp_path / "image.png")
    ticks = itertools.count()
    parts = time_parts(tiny, tmp_path / "image.png", repetitions=3, clock=lambda: float(next(ticks)))
    assert {"decode", "resize", "forward", "text", "heatmap", "rest"} <= set(parts)
    assert "bank" not in parts  # zero-shot
    assert list(parts)[-1] == "rest"
    assert all(seconds >= 1 for seconds in parts.values())


def test_the_bare_forward_leaves_the_detector_as_it_is(local_model: str) -> None:
    detector = Detector(local_model, precision="bf16")
    tower = internals.image_tower(detector)
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    bare_forward(detector, 2)()
    for name, value in tower.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


def test_memory_of_a_block() -> None:
    with measure_memory(CPU) as use:
        filled = np.ones(64 * 2**20, np.uint8)
    assert len(filled) == 64 * 2**20
    assert 60 < use.extra_mb < 80
    assert use.before_mb > 50
    assert resident_mb() >= use.before_mb


def test_another_patchclip_than_the_checkouts_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = environment.ROOT / "patchclip"
    monkeypatch.setattr(environment, "PACKAGE", checkout)
    assert environment.check_package() is None
    measured = environment.code_sha256([])
    copy = tmp_path / "patchclip"
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(environment, "PACKAGE", copy)
    assert environment.check_package() is None
    assert environment.code_sha256([]) == measured
    with (copy / "errors.py").open("a") as file:
        file.write("# changed\n")
    assert "differs from the checkout" in str(environment.check_package())
    assert environment.code_sha256([]) != measured
