"""Waiting until a change is enforced: asking who has acknowledged it, and showing how far it is meanwhile.

The count is the control plane's, made from acknowledgements. The line that shows it is written over itself on a
terminal, and left out where standard error is none.
"""

import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from control_plane.admin.client import Client

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5


def wait_until_enforced(client: "Client", change: dict[str, Any], patience: timedelta) -> dict[str, Any]:
    """Wait at most `patience` for what the answer `change` says was stored: the last count, and how long it took."""
    started, pause, seconds = time.monotonic(), FIRST_PAUSE, patience.total_seconds()
    while True:
        found = client.post("/v1/enforcement", {"number": change["number"], "targets": change["targets"]})
        found["seconds"] = round(time.monotonic() - started, 3)
        _show(f"enforced on {found['on']} of {found['of']} sidecars")
        if found["on"] == found["of"] or found["seconds"] >= seconds:
            _show("")
            return found
        time.sleep(min(pause, max(0.0, seconds - found["seconds"])))
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _show(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{text}", err=True, nl=False, color=True)
