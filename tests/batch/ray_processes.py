"""Ray for tests: started, quiet, and gone afterwards."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

#: Of the clusters that tests start: all their processes have the same token, which is gone with them.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

#: Tests that start Ray, which warns of its own code.
RAY = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")]


@contextlib.contextmanager
def ray_started(**options: Any) -> Iterator[Any]:
    """`ray.init`, without progress and logs, and `ray.shutdown`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.wait_for_min_actors_s = 60  # before any image, so that all actors have a part
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        ray.shutdown()


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RayNode:
    """A machine of a cluster, as `ray start --block` on loopback, with one processor.

    Args:
        port: of the cluster; head: whether this is its first machine.
        folder: for logs and sockets, of a short name.
    """

    def __init__(self, port: int, folder: Path, *, head: bool):
        where = [f"--address=127.0.0.1:{port}"]
        if head:
            where = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]
        script = "from ray.scripts.scripts import main; main()"
        command = [sys.executable, "-c", script, "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
        command += ["--object-store-memory=200000000", "--node-ip-address=127.0.0.1", *where]
        # a machine that is gone is noticed after 2 seconds, in place of 15
        health = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4"}
        self.log = folder / f"{'head' if head else 'second'}.log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **health}, start_new_session=True
            )

    def wait_until_started(self) -> None:
        """Until it is a part of the cluster."""
        wait_until(lambda: "Ray runtime started" in self.log.read_text() or self._process.poll() is not None)
        assert self._process.poll() is None, self.log.read_text()

    def kill(self) -> None:
        """All of its processes at once, as a machine that loses its power."""
        for process in [self._process.pid, *descendants(self._process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait()


def descendants(process: int) -> list[int]:
    """The identities of all processes that a process has started, and these in turn."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [process]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def command_line(process: int) -> str:
    """As `ps` shows it; "" for one that has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def actors_below(process: int) -> list[int]:
    """The processes of a pool's actors."""
    return [child for child in descendants(process) if command_line(child).startswith("ray::MapWorker")]


def wait_until(condition: Any, *, seconds: float = 60) -> None:
    """Until it holds.

    Raises:
        TimeoutError: it does not.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.05)
