"""Callers that never rest, and a book of every answer: what a fault costs is counted here.

    async with loading(address, keep_alive=4, fresh=2) as load:     six callers, each with one request at a time
        ...                                                         the fault
    load.failed                                                     every answer that was not a 200

A caller that keeps its connection makes a new one only where the other end closed or broke the last.
"""

import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from attrs import define, field, frozen

from tests.support.applications import connect

PATIENCE = 30.0  # seconds for one answer: nothing here is that slow, also on a busy machine
PAUSE = 0.005  # between two requests of one caller: the machine is shared


@frozen
class Answer:
    """One request's fate. `status` is 0 where the connection ended before a whole answer; `reason` is Doorward's.

    `began` and `at` are trio's times before it was sent and at its end.
    """

    began: float
    at: float
    status: int
    reason: str = ""
    detail: str = ""


@define
class Load:
    """Everything that was answered, in order."""

    answers: list[Answer] = field(factory=list)
    asked: int = 0

    @property
    def failed(self) -> list[Answer]:
        """Every answer that was not a 200."""
        return [each for each in self.answers if each.status != 200]

    @property
    def in_flight(self) -> int:
        """Requests that were sent and not answered yet."""
        return self.asked - len(self.answers)

    def failed_between(self, begin: float, end: float = math.inf) -> int:
        """How many of the calls that were begun from `begin` until before `end` failed, by trio's time."""
        return sum(begin <= each.began < end for each in self.failed)

    def forget(self) -> None:
        """Begin a new page, with what is in flight."""
        self.asked = self.in_flight
        self.answers.clear()

    async def goes_on(self, more: int = 50, seconds: float = 60.0) -> None:
        """Return after `more` further answers."""
        wanted = len(self.answers) + more
        await self.until(lambda: len(self.answers) >= wanted, seconds)

    async def until(self, true: Callable[[], object], seconds: float = 60.0) -> None:
        """Return once `true()` holds."""
        with trio.fail_after(seconds):
            while not true():
                await trio.sleep(0.01)

    def begun_since(self, moment: float) -> list[Answer]:
        """The answers to what was asked at that moment of trio's time or later."""
        return [each for each in self.answers if each.began >= moment]


@asynccontextmanager
async def loading(
    address: str, *, keep_alive: int = 0, fresh: int = 0, method: str = "GET", pause: float = PAUSE
) -> AsyncIterator[Load]:
    """Call `address` with that many callers of either kind until the block ends; what is in flight then is let go."""
    load, over = Load(), trio.Event()
    request = f"{method} /load HTTP/1.1\r\nHost: payments\r\nContent-Length: 0\r\n".encode()
    async with trio.open_nursery() as nursery:
        for _ in range(keep_alive):
            nursery.start_soon(_call, address, request + b"\r\n", load, over, pause)
        for _ in range(fresh):
            nursery.start_soon(_call, address, request + b"Connection: close\r\n\r\n", load, over, pause)
        try:
            yield load
        finally:
            over.set()


async def _call(address: str, request: bytes, load: Load, over: trio.Event, pause: float) -> None:
    stream: trio.SocketStream | None = None
    try:
        while not over.is_set():
            load.asked += 1
            began, goes_on = trio.current_time(), False
            try:
                with trio.fail_after(PATIENCE):
                    stream = stream or await connect(address)
                    await stream.send_all(request)
                    answer, goes_on = await _answer(stream, began)
            except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
                answer = Answer(began, trio.current_time(), 0, type(error).__name__, str(error))
            load.answers.append(answer)
            if not goes_on and stream is not None:
                stream.socket.close()
                stream = None
            await trio.sleep(pause)
    finally:
        if stream is not None:
            stream.socket.close()


async def _answer(stream: trio.SocketStream, began: float) -> tuple[Answer, bool]:
    """One whole answer, framed by Content-Length, and whether the connection goes on behind it."""
    received = b""
    while b"\r\n\r\n" not in received or len(received) < _whole(received):
        chunk = await stream.receive_some(65536)
        if not chunk:
            return Answer(began, trio.current_time(), 0, "closed", f"{len(received)} bytes had come"), False
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split(None, 2)[1])
    said = json.loads(body) if status != 200 else {}
    goes_on = b"connection: close" not in head.lower()
    return Answer(began, trio.current_time(), status, said.get("reason", ""), said.get("detail", "")), goes_on


def _whole(received: bytes) -> int:
    """How many bytes head and body have together."""
    head, _, _ = received.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(head) + 4 + int(value)
    return len(head) + 4
