"""A session in plain Python, and for tests marked "app" the page in a process of its own, seen by headless Chromium."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from patchclip.app.session import Session

DEMO = Path(__file__).parents[2] / "patchclip" / "assets" / "demo"


def no_report(sentence: str, share: float) -> None:
    """Where nobody watches."""
    assert 0 <= share <= 1


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Of a person who has done nothing yet."""
    for name in ("private", "served"):
        (tmp_path / name).mkdir()
    return Session(tmp_path / "private", tmp_path / "served")


@pytest.fixture
def taught(session: Session) -> Session:
    """After three example tiles were learnt, and a cracked and a normal one inspected."""
    session.add_example_normals()
    session.learn("tile", "crack, hole, scratch", no_report)
    session.inspect_examples(no_report)
    return session


@pytest.fixture
def upload(tmp_path: Path) -> Callable[..., Path]:
    """Make a file as the server leaves it: a copy of an example, or any bytes."""

    def make(name: str, content: bytes | str = "normal_0.jpg") -> Path:
        folder = tmp_path / "uploaded"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_bytes((DEMO / content).read_bytes() if isinstance(content, str) else content)
        return path

    return make


# --- in the browser ---------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Served:
    """`patchclip app` in a process of its own.

    Attributes:
        address: of the page; temporary: the folder for all temporary files of the process.
    """

    def __init__(self, temporary: Path, *arguments: str, **environment: str):
        self.temporary = temporary
        line = [sys.executable, "-m", "patchclip", "app", "--port", str(free_port()), *arguments]
        environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1", **environment}
        self.process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        announced = self.process.stdout.readline()  # "open http://127.0.0.1:7860/ in a browser"
        if not announced.startswith("open http"):
            self.process.kill()
            raise AssertionError(self.process.communicate()[1])
        self.address = announced.split()[1]

    def files(self) -> list[Path]:
        """What is in the temporary folder and not empty."""
        return [path for path in self.temporary.rglob("*") if path.is_file() and path.stat().st_size]

    def stop(self) -> str:
        """End it as a service manager does; what it wrote to standard error."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=30)[1]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    process = Served(tmp_path_factory.mktemp("served"))
    yield process
    errors = process.stop()
    assert "Traceback" not in errors
    assert process.files() == []


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, of Debian."""
    from playwright.sync_api import sync_playwright

    executable = shutil.which("chromium")
    assert executable is not None, "apt-get install chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any, served: Served) -> Iterator[Callable[..., Any]]:
    """A page of a person of its own; a request to anywhere else, an error of a script or a dialog fails the test."""
    contexts = []
    faults: list[str] = []

    def open_one(address: str = served.address, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        allowed = (address, "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(allowed) else faults.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(dialog.message) or dialog.dismiss())
        page.goto(address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert faults == []
