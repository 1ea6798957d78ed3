"""What can be learnt of a running process: what it logged, and what the kernel says of it."""

import json
from typing import Any

from examples.demo.local_mesh import Process


def logged(process: Process, event: str) -> list[dict[str, Any]]:
    """The lines of the process log (standard error) that report this event, oldest first."""
    lines = process.log.read_text(errors="replace").splitlines()
    return [line for line in map(_line, lines) if line.get("event") == event]


def _line(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:  # half a line: it is being written
        return {}
    return line if isinstance(line, dict) else {}
