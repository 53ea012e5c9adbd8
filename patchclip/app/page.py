"""The page of all sessions: which action of a session each part calls, and what is shown anew afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import actions, html, layout, view
from .session import Session
from .sessions import Sessions
from .work import AppError

_TEACHING = ("learnt", *view.TEACH)
_INSPECTING = ("learnt", *view.INSPECT)


class Page:
    """The page, with its parts connected to the sessions.

    Args:
        gr: the module gradio.
        sessions: of which each open page has one.
        detector_file: that each session begins with; None for none.

    Attributes:
        blocks: a `gr.Blocks`, to be launched.
    """

    def __init__(self, gr: Any, sessions: Sessions, detector_file: Path | None):
        self._gr = gr
        self._sessions = sessions
        self.blocks = gr.Blocks(title="patchclip", analytics_enabled=False, fill_width=True)
        with self.blocks:
            self._parts = layout.build(gr)
            for name in ("normals", "cards", "verdict"):  # what to do first
                self._parts[name].value = view.render(Session(Path(), Path()), (name,))[name]["value"]
            self._connect_teaching()
            self._connect_inspecting()
            self._connect_correcting()
            self._connect_taking_along()
            # no more than needed: what a person does meanwhile is shown by the action for it
            opened = ("learnt",) if detector_file is None else ("learnt", *view.INSPECT, *view.TAKE_ALONG)
            self._on(self.blocks.load, actions.open_page(detector_file), shows=opened, slow=True)
            self._close_sessions()

    # --- which action each part calls ---------------------------------------------------------------------------------

    def _connect_teaching(self) -> None:
        parts = self._parts
        self._on(
            parts["normal_files"].upload,
            actions.add_normals,
            ["normal_files"],
            shows=_TEACHING,
            clears=["normal_files"],
        )
        self._on(parts["example_normals"].click, lambda s, r: s.add_example_normals(), shows=_TEACHING)
        self._on(parts["clear_normals"].click, lambda s, r: s.clear_normals(), shows=_TEACHING)
        self._on_html("normals", {"remove": Session.remove_normal}, shows=_TEACHING)
        files = ["unlabelled_files"]
        self._on(
            parts["unlabelled_files"].upload, actions.add_unlabelled, files, shows=_TEACHING, slow=True, clears=files
        )
        self._on_html("unlabelled", {"tick": actions.tick}, shows=_TEACHING)
        self._on(parts["take_ticked"].click, lambda s, r: s.add_ticked(), shows=_TEACHING)
        self._on(parts["learn"].click, actions.learn, ["object_name", "defects"], shows=view.ALL, slow=True)

    def _connect_inspecting(self) -> None:
        parts = self._parts
        common: dict[str, Any] = {"shows": _INSPECTING, "says": "inspect_message"}
        files = ["inspect_files"]
        self._on(parts["inspect_files"].upload, actions.inspect, files, slow=True, clears=files, **common)
        self._on(parts["example_images"].click, lambda s, r: s.inspect_examples(r), slow=True, **common)
        self._on(parts["snap"].click, actions.inspect_camera, ["camera"], slow=True, clears=["camera"], **common)
        self._on(parts["clear_inspected"].click, lambda s, r: s.clear_inspected(), **common)
        common = {"shows": view.JUDGED, "says": "correct_message"}
        self._on(parts["threshold"].input, actions.set_threshold, ["threshold"], **common)
        for name in ("cards", "table"):
            self._on_html(name, {"show": actions.show, "sort": actions.sort}, **common)

    def _connect_correcting(self) -> None:
        parts = self._parts
        common: dict[str, Any] = {"shows": view.ALL, "says": "correct_message", "slow": True}
        self._on(parts["mark"].click, actions.mark_as_normal, **common)
        self._on(parts["name_it"].click, actions.name_region, ["place", "kind"], **common)
        self._on(parts["undo"].click, actions.undo, **common)

    def _connect_taking_along(self) -> None:
        parts = self._parts
        files = ["detector_file"]
        common: dict[str, Any] = {"says": "take_message", "slow": True}
        self._on(parts["detector_file"].upload, actions.load, files, shows=view.ALL, clears=files, **common)
        self._on(parts["make_files"].click, actions.make_files, shows=view.TAKE_ALONG, **common)

    # --- how it is called ---------------------------------------------------------------------------------------------

    def _on(
        self,
        listener: Callable[..., Any],
        action: Callable[..., Any],
        inputs: Sequence[str] = (),
        *,
        shows: tuple[str, ...],
        says: str = "teach_message",
        slow: bool = False,
        clears: Sequence[str] = (),
    ) -> None:
        """Call `action(session, report, *values of the inputs)`, and show parts of the page anew.

        Args:
            shows: parts of the page.
            says: the part that has the sentence that the action returns, or its error.
            slow: shows progress there; one such action runs at a time, since each takes all of the processor.
            clears: inputs that are emptied.
        """
        gr, parts = self._gr, self._parts

        def handle(request: Any, progress: Any, *values: Any) -> dict[Any, Any]:
            def report(sentence: str, share: float) -> None:
                progress(share, desc=sentence)

            updates = self._act(request, lambda session: action(session, report, *values), shows, says)
            return updates | {parts[name]: None for name in clears}

        handle.__annotations__ = {"request": gr.Request}
        handle.__defaults__ = (gr.Progress(),)
        options: dict[str, Any] = {"show_progress": "hidden", "queue": False}
        if slow:
            options = {"show_progress_on": parts[says], "concurrency_id": "network", "concurrency_limit": 1}
        if listener == parts["threshold"].input:
            options["trigger_mode"] = "always_last"
        shown = dict.fromkeys([*shows, says, *clears])
        listener(
            handle,
            inputs=[parts[name] for name in inputs],
            outputs=[parts[name] for name in shown],
            api_visibility="private",
            **options,
        )

    def _on_html(
        self,
        name: str,
        acts: dict[str, Callable[[Session, int], None]],
        *,
        shows: tuple[str, ...],
        says: str = "teach_message",
    ) -> None:
        """Call the action of the element that was clicked, with its number."""
        gr = self._gr

        def handle(request: Any, event: Any) -> dict[Any, Any]:
            return self._act(request, lambda session: acts[event.act](session, int(event.index)), shows, says)

        handle.__annotations__ = {"request": gr.Request, "event": gr.EventData}
        self._parts[name].click(
            handle,
            inputs=[],
            outputs=[self._parts[part] for part in (*shows, says)],
            show_progress="hidden",
            queue=False,
            api_visibility="private",
        )

    def _act(self, request: Any, action: Callable[[Session], Any], shows: tuple[str, ...], says: str) -> dict[Any, Any]:
        """Act, and what the page is to show then; errors become sentences."""
        updates: dict[Any, Any] = {}
        # whoever comes second waits here: in another thread, a half-imported torch is worse than none
        from .. import detector  # noqa: F401

        try:
            session = self._sessions.of(request.session_hash)
            try:
                sentence = html.message(action(session) or "", "normal")
            except AppError as error:
                sentence = html.message(str(error), "broken")
            for name, properties in view.render(session, shows).items():
                updates[self._parts[name]] = self._gr.update(**properties)
        except AppError as error:  # of `of`
            sentence = html.message(str(error), "broken")
        except Exception as error:
            logging.getLogger("patchclip.app").exception("an action of the page failed")
            sentence = html.message(f"Something went wrong ({type(error).__name__}). Nothing was changed.", "broken")
        return updates | {self._parts[says]: sentence}

    def _close_sessions(self) -> None:
        def close(request: Any) -> None:
            self._sessions.close(request.session_hash)

        close.__annotations__ = {"request": self._gr.Request}
        self.blocks.unload(close)
