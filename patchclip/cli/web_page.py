"""`patchclip app`: a page in the browser for those who do not write code."""

from __future__ import annotations

import ipaddress
import os
from argparse import Namespace
from pathlib import Path

import click

from .command import Command
from .console import Console
from .detectors import check_exists
from .reporting import DONE

#: USER:PASSWORD that a browser is asked for: not an option, since everyone on a machine can read those.
AUTH_VARIABLE = "PATCHCLIP_APP_AUTH"


def run(console: Console, args: Namespace) -> int:
    """Serve until it is interrupted."""
    if args.detector is not None:
        check_exists(args.detector, "--detector")
        if not args.detector.lower().endswith(".safetensors"):
            raise click.UsageError(f"--detector: {args.detector} must be a .safetensors file, from `patchclip fit`")
    auth = _read_auth()
    if not _is_this_machine(args.host):
        console.note(
            f"--host {args.host}: everyone who reaches this machine can use the page, upload images and load "
            "detectors, and nothing is encrypted"
        )
        if auth is None:
            console.note(f"no password is asked for: set {AUTH_VARIABLE}=USER:PASSWORD")
    from ..app.server import serve

    def announce(address: str) -> None:
        console.data(f"open {address} in a browser")
        console.say("Images stay on this machine. Press Ctrl+C to end; all uploads are removed then.")

    detector_file = None if args.detector is None else Path(args.detector).resolve()
    serve(host=args.host, port=args.port, detector_file=detector_file, auth=auth, announce=announce)
    return DONE


def _read_auth() -> tuple[str, str] | None:
    value = os.environ.get(AUTH_VARIABLE)
    if not value:
        return None
    user, separator, password = value.partition(":")
    if not user or not separator or not password:
        raise click.UsageError(f"{AUTH_VARIABLE}: expected USER:PASSWORD")
    return user, password


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


COMMAND = Command(
    "app",
    run,
    purpose="Open a page in the browser for those who do not write code: teach, inspect, correct, take along. Needs "
    'pip install "patchclip[app]". With PATCHCLIP_APP_AUTH=USER:PASSWORD in the environment it asks for these.',
    options={
        "Page": [
            click.Option(["--detector"], metavar="FILE", help="Detector to begin with, from `patchclip fit`."),
            click.Option(
                ["--host"],
                default="127.0.0.1",
                metavar="ADDRESS",
                help="0.0.0.0 is all of the network.  [default: 127.0.0.1]",
            ),
            click.Option(
                ["--port"],
                type=click.IntRange(1, 65535),
                default=7860,
                metavar="N",
                help="Port to listen on.  [default: 7860]",
            ),
        ],
    },
    examples=[
        "patchclip app",
        "patchclip app --detector bottle.safetensors",
        "patchclip app --port 8000",
    ],
)
