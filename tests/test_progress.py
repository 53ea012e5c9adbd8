"""Progress bars: on a terminal and in a notebook, not in a pipe."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import struct
import sys
import termios

import numpy as np
import pytest

from patchclip import Detector
from patchclip.progress import progress_bar, progress_reported


def test_silent_in_a_pipe(local: Detector, normals: list[np.ndarray], capfd: pytest.CaptureFixture[str]) -> None:
    list(local.predict_batch(normals))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("progress", [True, False])
def test_on_a_terminal(
    progress: bool, local: Detector, normals: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pseudo-terminal there is a bar, and none with progress=False."""
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(writer, "w") as terminal:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", terminal)
            list(local.predict_batch(normals[:3], progress=progress))
        terminal.flush()
        waiting, _, _ = select.select([reader], [], [], 0.1)
        shown = os.read(reader, 4096) if waiting else b""
    os.close(reader)
    assert (b"predict" in shown) == progress


class Terminal(io.StringIO):
    """What tqdm takes for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("in_notebook", [False, True])
@pytest.mark.parametrize("on_terminal", [False, True])
def test_a_bar_is_shown_on_a_terminal_and_in_a_notebook(
    on_terminal: bool, in_notebook: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal() if on_terminal else io.StringIO())
    if in_notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", object())
    else:
        monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    for show in (True, False):
        with progress_bar("fit", total=3, show=show) as bar:
            assert (not bar.disable) == (show and (on_terminal or in_notebook))


def test_a_listener_hears_of_each_step_and_no_bar_is_shown(
    local: Detector, normals: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    heard: list[tuple[str, int, int | None]] = []
    with progress_reported(lambda *step: heard.append(step)):
        list(local.predict_batch(normals[:3]))
        list(local.predict_batch(normals[:3], progress=False))
    assert heard == [("predict", 1, 3), ("predict", 2, 3), ("predict", 3, 3)]
    with progress_bar("fit", total=3, show=True) as bar:
        assert not bar.disable
