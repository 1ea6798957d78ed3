"""Finding where a head or a block of trailers ends in what has arrived, bounded, whatever the pieces.

A whole block is only cut off: its check reads it once. In one that arrives in pieces every line is judged as soon
as it is there, so that garbage is not waited for. Both ways refuse the same first faulty line.
"""

from mesh.policy.reasons import Reason
from sidecar.http import refusals
from sidecar.http.failures import HttpRefused


class Block:
    """One block of lines up to and including its empty line. `limit` bounds it in bytes."""

    def __init__(self, limit: int, start_line: refusals.StartLine | None = None) -> None:
        self._limit = limit
        self._start_line = start_line
        self._judged = 0  # bytes, and below lines, at the buffer's start that have been looked at
        self._lines = 0

    def take(self, buffer: bytearray) -> bytes | None:
        """Cut the block off the buffer, for its check to judge; None: more has to arrive. Raises HttpRefused."""
        end = self._end(buffer)
        if end:
            self._judged = self._lines = 0
            return cut(buffer, end)
        self._judge_lines(buffer)
        if len(buffer) >= self._limit:
            raise HttpRefused(Reason.HEAD_TOO_LARGE, 431, f"a head may have {self._limit} bytes")
        return None

    def _end(self, buffer: bytearray) -> int:
        if self._start_line is None and buffer.startswith(b"\r\n"):
            return 2
        # An end that spans two pieces begins within the last line judged.
        found = buffer.find(b"\r\n\r\n", max(0, self._judged - 2), self._limit)
        return found + 4 if found >= 0 else 0

    def _judge_lines(self, buffer: bytearray) -> None:
        if buffer and self._start_line is not None:
            self._start_line.begun(bytes(buffer[:16]))
        while end := buffer.find(b"\n", self._judged, self._limit) + 1:
            refusals.check_line(bytes(buffer[self._judged : end]), self._lines, self._start_line)
            self._judged, self._lines = end, self._lines + 1


def cut(buffer: bytearray, most: int) -> bytes:
    """Take at most so many bytes off the buffer's start."""
    with memoryview(buffer) as view:
        data = bytes(view[:most])
    del buffer[: len(data)]
    return data
