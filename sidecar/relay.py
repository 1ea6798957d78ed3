"""The one place where bytes of established connections are moved: both ways, bounded, and honest about how it ended.

    relay(a, b, ...)        two streams, until both directions have ended or something ends them: raw TCP, tunnels
    move(source, sink, ...) one direction, a known number of bytes or until the end: bodies that are not looked at

Bytes that nobody looks at are moved nowhere else, so that how they move can change without anyone noticing. Here each
direction is a task that holds at most one buffer: it reads no more before the other side has taken what it has.
"""

from collections.abc import Callable
from enum import Enum
from typing import Protocol

import trio
from attrs import define

BUFFER_BYTES = 64 * 1024


class Stream(Protocol):
    """What a stream needs to be relayed; transport.TlsStream and transport.PlainStream are such."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """At least one byte, or b"" at the end."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it."""

    async def send_eof(self) -> None:
        """End this direction only."""

    async def aclose(self) -> None:
        """Close both directions."""

    def abort(self) -> None:
        """Close so that the other end sees that something was cut off. May be called on a closed stream."""


class Ending(Enum):
    """How a relay ended. `a` is the stream named first: the one who called."""

    DONE = "both directions ended, each with its end carried through"
    A_BROKE = "a was reset or cut off"
    B_BROKE = "b was reset or cut off"
    IDLE = "no byte moved either way for as long as is allowed"


class SourceBroke(Exception):
    """The source was reset or cut off."""


class SourceEnded(Exception):
    """The source ended before the bytes that it had promised."""


class SinkBroke(Exception):
    """The sink was reset, or takes nothing any more."""


@define
class Tally:
    """Bytes moved so far, by where they came from."""

    from_a: int = 0
    from_b: int = 0


async def move(
    source: Stream,
    sink: Stream,
    count: int | None,
    moved: Callable[[int], None],
    *,
    buffer_bytes: int = BUFFER_BYTES,
) -> None:
    """Move exactly `count` bytes, or all until the end where that is None; the sink's end is the caller's to send.

    `moved` is told the length of each piece once the sink took it. Raises SourceBroke, SourceEnded or SinkBroke.
    """
    left = count
    while left is None or left:
        try:
            data = await source.receive_some(buffer_bytes if left is None else min(left, buffer_bytes))
        except trio.BrokenResourceError as error:
            raise SourceBroke(str(error)) from None
        if not data:
            if left is None:
                return
            raise SourceEnded(f"{left} bytes are missing")
        await _send(sink, data)
        moved(len(data))
        if left is not None:
            left -= len(data)


async def relay(
    a: Stream, b: Stream, tally: Tally, *, idle: float, first: bytes = b"", buffer_bytes: int = BUFFER_BYTES
) -> Ending:
    """Move bytes both ways until it ends, and leave both streams closed, however it ends.

    The end of one direction is carried to the other side and the other direction goes on. What breaks on one side is
    a reset on the other, and so are `idle` seconds of silence and a cancellation. `first` are bytes of `a` that were
    read already; they and all others are counted in `tally`.
    """
    try:
        ending = await _both_ways(a, b, tally, idle, first, buffer_bytes)
        if ending is Ending.DONE:
            await a.aclose()
            await b.aclose()
        return ending
    finally:
        a.abort()
        b.abort()


async def _both_ways(a: Stream, b: Stream, tally: Tally, idle: float, first: bytes, buffer_bytes: int) -> Ending:
    ending = Ending.DONE

    def from_a(size: int) -> None:
        tally.from_a += size
        quiet.deadline = trio.current_time() + idle

    def from_b(size: int) -> None:
        tally.from_b += size
        quiet.deadline = trio.current_time() + idle

    async def carry(
        source: Stream, sink: Stream, moved: Callable[[int], None], endings: tuple[Ending, Ending], first: bytes = b""
    ) -> None:
        nonlocal ending
        try:
            if first:
                await _send(sink, first)
                moved(len(first))
            await move(source, sink, None, moved, buffer_bytes=buffer_bytes)
            await _end(sink)
        except SourceBroke:
            ending = endings[0]
            nursery.cancel_scope.cancel()
        except SinkBroke:
            ending = endings[1]
            nursery.cancel_scope.cancel()

    with trio.move_on_after(idle) as quiet:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carry, a, b, from_a, (Ending.A_BROKE, Ending.B_BROKE), first)
            nursery.start_soon(carry, b, a, from_b, (Ending.B_BROKE, Ending.A_BROKE))
    return Ending.IDLE if quiet.cancelled_caught else ending


async def _send(sink: Stream, data: bytes) -> None:
    try:
        await sink.send_all(data)
    except trio.BrokenResourceError as error:
        raise SinkBroke(str(error)) from None


async def _end(sink: Stream) -> None:
    try:
        await sink.send_eof()
    except trio.BrokenResourceError as error:
        raise SinkBroke(str(error)) from None
