"""`patchclip app` up to the page, which tests/app opens."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from patchclip.cli.web_page import AUTH_VARIABLE

from .command_line import Command


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the page would be served with; nothing is."""
    calls: list[dict[str, Any]] = []

    def serve(**options: Any) -> None:
        options.pop("announce")("http://127.0.0.1:7860/")
        calls.append(options)

    monkeypatch.setattr("patchclip.app.server.serve", serve)
    monkeypatch.delenv(AUTH_VARIABLE, raising=False)
    return calls


def test_on_this_machine_alone_unless_told(command: Command, served: list[dict[str, Any]]) -> None:
    done = command("app")
    assert done.exit_code == 0
    assert done.stdout == "open http://127.0.0.1:7860/ in a browser\n"
    assert "note" not in done.stderr
    assert served == [{"host": "127.0.0.1", "port": 7860, "detector_file": None, "auth": None}]
    for host in ("localhost", "::1"):
        assert "password" not in command("app", "--host", host).stderr


def test_others_are_warned_of(command: Command, served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    done = command("app", "--host", "0.0.0.0")
    assert "everyone who reaches this machine can use the page" in done.stderr
    assert f"set {AUTH_VARIABLE}=USER:PASSWORD" in done.stderr
    monkeypatch.setenv(AUTH_VARIABLE, "anna:se:cret")
    done = command("app", "--host", "factory.example")
    assert "everyone who reaches" in done.stderr
    assert "no password" not in done.stderr
    assert served[-1]["auth"] == ("anna", "se:cret")


@pytest.mark.parametrize("value", ["anna", ":secret", "anna:"])
def test_half_a_password_is_refused(
    value: str, command: Command, served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(AUTH_VARIABLE, value)
    done = command("app")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {AUTH_VARIABLE}: expected USER:PASSWORD")
    assert "secret" not in done.output
    assert served == []


def test_the_detector_is_looked_for_before_the_page(
    command: Command, served: list[dict[str, Any]], detector_file: Path
) -> None:
    assert command("app", "--detector", detector_file).exit_code == 0
    assert served[0]["detector_file"] == detector_file
    for path, message in (("no.safetensors", "does not exist"), (__file__, "must be a .safetensors file")):
        done = command("app", "--detector", path)
        assert done.exit_code == 2
        assert message in done.stderr


def test_without_gradio(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # to be put back
    done = command("app")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith('pip install "patchclip[app]"\n')
