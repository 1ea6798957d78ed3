"""The process log: one JSON line on standard error per event, with named fields and never a secret.

`log.info("listening", address="127.0.0.1:8443")` gives `{"time": …, "level": "info", "event": "listening", …}`. It
stands on the standard library's logging, so that what other packages log comes out in the same form. A line is
dropped where standard error does not take it at once: a stopped reader of the log must not stop the traffic (law 31).
"""

import json
import logging
import os
import select
from datetime import UTC, datetime
from typing import Any, Final

MAX_LINE: Final = 4096  # PIPE_BUF: a pipe that polls as writable takes this much without waiting (pipe(7))
MAX_VALUE: Final = 1000  # characters of one field

_logger: Final = logging.getLogger("doorward.sidecar")


def configure(level: str, *, fd: int = 2) -> None:
    """Send everything from `level` (debug, info, warning, error) on to the descriptor. Replaces earlier handlers."""
    root = logging.getLogger()
    root.handlers[:] = [JsonLines(fd)]
    root.setLevel(level.upper())


def debug(event: str, **fields: object) -> None:
    """What helps to follow one connection. `fields` must not hold secrets, query strings or header values."""
    _log(logging.DEBUG, event, fields)


def info(event: str, **fields: object) -> None:
    """Something changed as it should."""
    _log(logging.INFO, event, fields)


def warning(event: str, **fields: object) -> None:
    """Something failed and will be tried again, or deserves a look. `advice` says what to do."""
    _log(logging.WARNING, event, fields)


def error(event: str, *, exception: BaseException | None = None, **fields: object) -> None:
    """Something failed that should not have; `exception` adds its traceback."""
    _log(logging.ERROR, event, fields, exception)


def _log(level: int, event: str, fields: dict[str, object], exception: BaseException | None = None) -> None:
    # exc_info as a tuple: the exception is logged where it was caught, or later from another task.
    info = (type(exception), exception, exception.__traceback__) if exception else None
    _logger.log(level, "%s", event, extra={"fields": fields}, exc_info=info)


class JsonLines(logging.Handler):
    """Writes each record as one line of JSON to a descriptor, or drops it where that would wait."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._room = select.poll()
        self._room.register(fd, select.POLLOUT)
        self._exceptions = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; what cannot be written is lost."""
        try:
            if self._room.poll(0):
                os.write(self._fd, self.line(record))
        except (OSError, ValueError):
            return  # standard error is gone: there is nobody to tell

    def line(self, record: logging.LogRecord) -> bytes:
        """The record as JSON, newline included, at most about MAX_LINE bytes."""
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage()[:MAX_VALUE],
        }
        said |= {name: _short(value) for name, value in getattr(record, "fields", {}).items()}
        if record.exc_info and record.exc_info[0]:
            # The end of a traceback names the place; messages may hold what a peer sent, so JSON escapes them.
            said["traceback"] = self._exceptions.formatException(record.exc_info)[-2 * MAX_VALUE :]
        line = json.dumps(said, separators=(",", ":"), default=str).encode()
        if len(line) >= MAX_LINE:
            line = json.dumps({name: said[name] for name in ("time", "level", "event")}).encode()
        return line + b"\n"


def _short(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_short(item) for item in value[:32]]
    return str(value)[:MAX_VALUE]
