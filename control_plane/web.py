"""HTTP by Hypercorn, one connection at a time, with the bounds that it does not keep itself.

For the observe address and both doors of the admin API. Accepting is ours: connections are bounded, and where no place
is left the one that has waited longest for its client gives way. A request has to arrive in time as a whole, not byte
by byte; a connection whose client has ended its side is not held on to; and a client that does not read holds up
neither a place nor the end of the program.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import trio
from attrs import define, field, frozen
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.log import fields
from control_plane.metrics import Metrics
from transport import Handler, Places, serve

WRITE_TIMEOUT = 3.0  # Hypercorn shields its sends, so a client that does not read would hold up the end of the program
HALF_CLOSED_SECONDS = 1.0  # an answer is on its way by then; Hypercorn would hold on until its read timeout

_CONNECTION = "connection"  # in the state of every request


@frozen
class Web:
    """One server. `name` is what log and metrics call it; `places` bounds its connections, and `patience` the seconds
    for the head of a request, from the end of the one before, and again for its body; `write_timeout` the seconds for
    its client to take a piece of an answer."""

    name: str
    app: ASGIApp
    metrics: Metrics
    places: int
    patience: float
    write_timeout: float = WRITE_TIMEOUT

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener],
        admit: Callable[[trio.socket.SocketType], Mapping[str, Any] | None] = lambda _: {},
    ) -> None:
        """Answer until cancelled. `admit` gives the state of a connection's requests, None where it is refused."""
        places = Places(self.places)

        async def handle(sock: trio.socket.SocketType) -> None:
            state = admit(sock)
            if state is not None:
                await self.answer(trio.SocketStream(sock), sock, state, places)

        await self.accept(listeners, handle, places)

    async def accept(self, listeners: Sequence[trio.SocketListener], handle: Handler, places: Places) -> None:
        """Run `handle` for every connection until cancelled, for whom it is not enough to `admit`."""

        def unforeseen(error: Exception) -> None:
            self.metrics.failures.labels(self.name).inc()
            self.log.error("a connection failed in a way that nobody foresaw", exc_info=error)

        async with trio.open_nursery() as nursery:
            await serve(listeners, handle, nursery=nursery, places=places, on_error=unforeseen)

    async def answer(
        self,
        stream: trio.abc.HalfCloseableStream,
        sock: trio.socket.SocketType,
        state: Mapping[str, Any],
        places: Places,
    ) -> None:
        """Answer the requests of one connection; `stream` goes over `sock`, `state` becomes that of its requests."""
        app = ASGIWrapper(_by_connection(self.app))  # type: ignore[arg-type]  # Starlette's
        with places.idle() as place, trio.CancelScope() as life:
            connection = _Connection(stream, sock, places, place, life, self.patience, self.write_timeout)
            connection.rest()
            untyped: Any = connection
            own = ConnectionState({**state, _CONNECTION: connection})
            await _Http1(app, self._config, WorkerContext(None), own, untyped)
        if place.cancelled_caught:
            self.metrics.gave_way.labels(self.name).inc()
            self.log.warning("a connection gave way to a newer one", extra=fields(connections=self.places))

    @property
    def log(self) -> logging.Logger:
        """Where this server logs."""
        return logging.getLogger(f"doorward.{self.name}")

    @cached_property
    def _config(self) -> Config:
        config = Config()
        config.errorlog = self.log
        config.include_server_header = False
        config.read_timeout = None  # Hypercorn begins anew at every byte
        config.keep_alive_timeout = self.patience
        return config


class _Http1(TCPServer):
    """Hypercorn's, but for HTTP/2, which it would speak unasked for: none of our bounds is made for its streams."""

    async def _read_data(self) -> None:
        async def stay(_: object) -> None:
            """`Upgrade: h2c` changes nothing then, and `PRI * HTTP/2.0` is a request like others."""

        self.protocol.protocol._check_protocol = stay  # type: ignore[method-assign, union-attr]  # no setting
        await super()._read_data()


@define(eq=False)
class _Connection:
    """What Hypercorn uses of a stream, and what ends it: `life` in time, `place` for a newcomer."""

    _stream: trio.abc.HalfCloseableStream
    socket: trio.socket.SocketType
    _places: Places
    _place: trio.CancelScope
    _life: trio.CancelScope
    _patience: float
    _write_timeout: float
    _sending: trio.Lock = field(factory=trio.Lock)  # Hypercorn may answer one task's request while another ends it
    _ended: bool = False
    _requests: int = 0

    def rest(self) -> None:
        """From now on it waits for its client's next request."""
        self._wait_until(trio.current_time() + (HALF_CLOSED_SECONDS if self._ended else self._patience))

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let `app` answer a request. It is not broken off, but for while more of the request is waited for."""
        due = trio.current_time() + self._patience

        async def receive_in_time() -> Message:
            self._wait_until(due)
            message = await receive()
            self._work()
            return message

        self._requests += 1
        self._work()
        try:
            await app(scope, receive_in_time, send)
        finally:
            self._requests -= 1
            if not self._requests:
                self.rest()

    def _wait_until(self, deadline: float) -> None:
        self._life.deadline = deadline
        self._places.rest(self._place)

    def _work(self) -> None:
        self._life.deadline = float("inf")
        self._places.work(self._place)

    async def receive_some(self, max_bytes: int) -> bytes:
        data = bytes(await self._stream.receive_some(max_bytes))
        if not data:
            self._ended = True
            if not self._requests:
                self.rest()
        return data

    async def send_all(self, data: bytes) -> None:
        with trio.move_on_after(self._write_timeout) as patience:
            async with self._sending:
                await self._stream.send_all(data)
        if patience.cancelled_caught:
            raise trio.BrokenResourceError("the client does not read")

    async def send_eof(self) -> None:
        """Raises BusyResourceError where something is being sent: Hypercorn closes without an end then."""
        try:
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            raise trio.BusyResourceError("an answer is on its way") from None
        try:
            with trio.move_on_after(self._write_timeout):
                await self._stream.send_eof()
        finally:
            self._sending.release()

    async def aclose(self) -> None:
        await self._stream.aclose()


def _by_connection(app: ASGIApp) -> ASGIApp:
    """`app`, each of whose requests is served by its connection."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope["state"].pop(_CONNECTION)
        await connection.serve(app, scope, receive, send)

    return wrapped
