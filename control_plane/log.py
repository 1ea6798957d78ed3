"""The program's own log: one JSON object per line on stderr, whoever wrote it.

Everything goes through the standard library's `logging`, so that what the libraries below us have to say comes out in
the same form. Lines carry `time` (UTC), `level`, `logger`, `event` (what happened, in words) and then the fields given
by `extra=fields(...)`; an exception adds `error`. Tokens, keys and what a peer sent never become fields (law 20).
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

QUIET = ("hypercorn.access", "alembic", "httpx2")
"""Loggers of libraries that speak of every request or step: only their warnings are kept."""

LINES_PER_SECOND = 50
MAX_EVENTS = 1000  # that are remembered; our own are a few dozen


def fields(**values: object) -> dict[str, dict[str, object]]:
    """What to pass as `extra` so that `values` become fields of the line."""
    return {"fields": values}


class JsonLines(logging.Formatter):
    """One record as one line of JSON; control characters are escaped, so that no value can start a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, default=str)


class Sparing(logging.Filter):
    """At most `per_second` lines of one event below ERROR, so that strangers cannot fill the disk (law 21).

    What was left out is counted by metrics all the same, and the event's next line says how many in `left_out`.
    """

    def __init__(self, per_second: int = LINES_PER_SECOND) -> None:
        super().__init__()
        self._per_second = per_second
        self._seen: dict[tuple[str, object], tuple[int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is written."""
        if record.levelno >= logging.ERROR:
            return True
        key, second = (record.name, record.msg), int(record.created)
        began, count = self._seen.get(key, (second, 0))
        if began != second:
            left_out, began, count = count - self._per_second, second, 0
            if left_out > 0:
                record.fields = {**getattr(record, "fields", {}), "left_out": left_out}
        if len(self._seen) > MAX_EVENTS:
            self._seen.clear()
        self._seen[key] = began, count + 1
        return count < self._per_second


def set_up(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Send every logger of this process to `stream` (stderr), as JSON lines, and nowhere else."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(Sparing())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
