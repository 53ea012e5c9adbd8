"""All sessions of the process, each with folders of its own that nobody else's session can name."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from .session import Session
from .work import AppError

#: At once; a session with a hundred inspected images takes some 300 MB.
MAX_SESSIONS = 20

#: Uploads that no session can be waiting for any more are removed after so long; sessions have copies.
_UPLOAD_S = 600

#: A session that was not used for so long is closed, where its browser did not say that its page was.
_IDLE_S = 4 * 3600


@dataclass(eq=False)
class _Entry:
    session: Session
    folders: tuple[Path, ...]
    used_s: float


class Sessions:
    """Opened when they are first asked for, and closed with their files.

    Args:
        private: folder for what people upload.
        served: folder for what they download, whose files the server hands out to whoever knows the path. Uploads are
            put here by the server, a folder each.
    """

    def __init__(self, private: Path, served: Path):
        self._roots = (private, served)
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, key: str) -> Session:
        """The session of a page, by what the server knows the page by.

        Raises:
            AppError: too many people are at work.
        """
        with self._lock:
            self._close_idle()
            if key not in self._entries:
                if len(self._entries) >= MAX_SESSIONS:
                    raise AppError("Too many people use this page at once: try again later.")
                token = secrets.token_hex(16)
                folders = tuple(root / token for root in self._roots)
                for folder in folders:
                    folder.mkdir(parents=True)
                self._entries[key] = _Entry(Session(*folders), folders, 0.0)
            entry = self._entries[key]
            entry.used_s = time.monotonic()
            return entry.session

    def close(self, key: str) -> None:
        """Forget a session and remove its files, if there is one."""
        with self._lock:
            self._close(key)

    def tidy(self) -> None:
        """Remove uploads of some minutes ago, and sessions that were not used for hours."""
        with self._lock:
            self._close_idle()
            kept = {folder for entry in self._entries.values() for folder in entry.folders}
        oldest_s = time.time() - _UPLOAD_S
        for path in self._roots[1].glob("*"):
            if path not in kept and path.stat().st_mtime < oldest_s:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def _close(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        for folder in entry.folders if entry else ():
            shutil.rmtree(folder, ignore_errors=True)

    def _close_idle(self) -> None:
        oldest = time.monotonic() - _IDLE_S
        for key in [key for key, entry in self._entries.items() if entry.used_s < oldest]:
            self._close(key)
