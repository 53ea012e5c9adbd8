"""Files written in one step."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from patchclip.files import atomic_write, hash_file, resolve_writable


def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """A process that writes two contents in turn is killed at random moments."""
    path = tmp_path / "file"
    code = (
        "from patchclip.files import atomic_write\n"
        "contents = [bytes([value]) * 1_000_000 for value in (1, 2)]\n"
        "def write(content):\n"
        f"    with atomic_write({str(path)!r}) as temporary, open(temporary, 'wb') as file:\n"
        "        for start in range(0, len(content), 10_000):\n"
        "            file.write(content[start : start + 10_000])\n"
        "write(contents[0]); print('ready', flush=True)\n"
        "while True:\n"
        "    write(contents[1]); write(contents[0])\n"
    )
    rng = np.random.default_rng(0)
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, 0.05))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        content = path.read_bytes()
        assert len(content) == 1_000_000
        assert set(content) in ({1}, {2})


def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def write_half() -> None:
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_links_are_followed_and_what_is_no_file_is_spared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "current").symlink_to(tmp_path / "real")
    with atomic_write(tmp_path / "current") as temporary:
        temporary.write_bytes(b"content")
    assert (tmp_path / "current").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"content"
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(OSError, match="no ordinary file"):
            resolve_writable(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        resolve_writable(tmp_path / "absent" / "file")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=f"the folder {tmp_path} is read-only"):
        resolve_writable(tmp_path / "new")


def test_the_hash_of_a_file_and_of_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 2**20)
    assert hash_file(path) == hashlib.sha256(b"abc" * 2**20).hexdigest()
    assert hash_file(path, 5) == hashlib.sha256(b"abcab").hexdigest()
