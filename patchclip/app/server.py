"""Serves the page from one process: on this machine alone unless told otherwise, and without anything from outside."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import MissingDependencyError
from .layout import ASSETS
from .page import Page
from .photos import MAX_BYTES
from .sessions import Sessions

#: What is left over is removed so often.
_TIDY_EVERY_S = 60

#: The browser loads nothing from elsewhere, whatever a library asks for. Gradio compiles templates as they come.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; form-action 'self'; "
    "base-uri 'self'; object-src 'none'"
)


def serve(
    *,
    host: str,
    port: int,
    detector_file: Path | None,
    auth: tuple[str, str] | None,
    announce: Callable[[str], None],
) -> None:
    """Until the process is interrupted; then all files of all sessions are removed.

    Args:
        announce: called with the address once the page can be opened.

    Raises:
        MissingDependencyError: without `pip install "patchclip[app]"`.
        OSError: the port is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import gradio as gr
    except ImportError as error:
        raise MissingDependencyError(f'the page needs Gradio ({error}): pip install "patchclip[app]"') from error
    with tempfile.TemporaryDirectory(prefix="patchclip-app-", ignore_cleanup_errors=True) as root:
        private, served = Path(root) / "private", Path(root) / "served"
        os.environ["GRADIO_TEMP_DIR"] = str(served)
        sessions = Sessions(private, served)
        page = Page(gr, sessions, detector_file)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            address = _launch(gr, page, host, port, auth)
            announce(address)
            while True:
                time.sleep(_TIDY_EVERY_S)
                sessions.tidy()
        except KeyboardInterrupt:
            pass
        finally:
            page.blocks.close(verbose=False)


def _launch(gr: Any, page: Page, host: str, port: int, auth: tuple[str, str] | None) -> str:
    """Start the server in a thread of its own; the address of the page."""
    try:
        _, address, _ = page.blocks.launch(
            server_name=host,
            server_port=port,
            auth=auth,
            share=False,
            quiet=True,
            inbrowser=False,
            prevent_thread_lock=True,
            show_error=True,
            ssr_mode=False,
            max_file_size=2 * MAX_BYTES,
            footer_links=[],
            app_kwargs={"middleware": [_middleware()], "docs_url": None, "redoc_url": None, "openapi_url": None},
            theme=_theme(gr),
            css_paths=ASSETS / "style.css",
        )
    except OSError as error:
        raise OSError(f"port {port} of {host} is taken or not allowed: choose another one with --port") from error
    return str(address)


def _theme(gr: Any) -> Any:
    """With fonts of the machine, in the colours of the heatmaps."""
    font = gr.themes.Font
    return gr.themes.Default(
        primary_hue=gr.themes.colors.blue,
        secondary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        font=[font("system-ui"), font("sans-serif")],
        font_mono=[font("ui-monospace"), font("monospace")],
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
    )


def _middleware() -> Any:
    """Headers that keep the page to itself, and no fetching of addresses by the server."""
    from starlette.middleware import Middleware

    return Middleware(_Guard)


class _Guard:
    """ASGI middleware.

    Args:
        app: what comes after it.
    """

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Refuse "file=http://...", which Gradio would fetch, and add headers to each answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if "file=http:" in path or "file=https:" in path or "/proxy=" in path:
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"refused"})
            return

        async def send_with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                headers += [
                    (b"content-security-policy", _POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_headers)
