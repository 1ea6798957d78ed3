"""HTTP by Hypercorn, one connection at a time, with the bounds that it does not keep itself.

For the observe address and the admin socket. Accepting is ours: connections are bounded, and where no place is left the
one that has waited longest for its client gives way. A request has to arrive in time as a whole, not byte by byte; a
connection whose client has ended its side is not held on to; and a client that does not read holds up neither a place
nor the end of the program.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio
from attrs import define, frozen
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.log import fields
from control_plane.metrics import Metrics
from transport import Places, serve

WRITE_TIMEOUT = 3.0  # Hypercorn shields its sends, so a client that does not read would hold up the end of the program
HALF_CLOSED_SECONDS = 1.0  # an answer is on its way by then; Hypercorn would hold on until its read timeout

_CONNECTION = "connection"  # in the state of every request


@frozen
class Web:
    """One server. `name` is what log and metrics call it; `places` bounds its connections, and `patience` the seconds
    for the head of a request, from the end of the one before, and again for its body."""

    name: str
    app: ASGIApp
    metrics: Metrics
    places: int
    patience: float

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener],
        admit: Callable[[trio.socket.SocketType], Mapping[str, Any] | None] = lambda _: {},
    ) -> None:
        """Answer until cancelled. `admit` gives the state of a connection's requests, None where it is refused."""
        places, log = Places(self.places), logging.getLogger(f"doorward.{self.name}")
        app, config = ASGIWrapper(_by_connection(self.app)), self._config(log)  # type: ignore[arg-type]  # Starlette's

        async def handle(sock: trio.socket.SocketType) -> None:
            state = admit(sock)
            if state is None:
                return
            with places.idle() as place, trio.CancelScope() as life:
                connection = _Connection(sock, places, place, life, self.patience)
                connection.rest()
                stream: Any = connection
                own = ConnectionState({**state, _CONNECTION: connection})
                await _Http1(app, config, WorkerContext(None), own, stream)
            if place.cancelled_caught:
                self.metrics.gave_way.labels(self.name).inc()
                log.warning("a connection gave way to a newer one", extra=fields(connections=self.places))

        def unforeseen(error: Exception) -> None:
            self.metrics.failures.labels(self.name).inc()
            log.error("a connection failed in a way that nobody foresaw", exc_info=error)

        async with trio.open_nursery() as nursery:
            await serve(listeners, handle, nursery=nursery, places=places, on_error=unforeseen)

    def _config(self, log: logging.Logger) -> Config:
        config = Config()
        config.errorlog = log
        config.include_server_header = False
        config.read_timeout = None  # Hypercorn begins anew at every byte
        config.keep_alive_timeout = self.patience
        return config


class _Http1(TCPServer):
    """Hypercorn's, but for HTTP/2, which it would speak unasked for: none of our bounds is made for its streams."""

    async def _read_data(self) -> None:
        async def stay(_: object) -> None:
            """`Upgrade: h2c` changes nothing then, and `PRI * HTTP/2.0` is a request like others."""

        self.protocol.protocol._check_protocol = stay  # type: ignore[method-assign, union-attr]
        await super()._read_data()


@define(eq=False)
class _Connection:
    """What Hypercorn uses of a stream, and what ends it: `life` in time, `place` for a newcomer."""

    socket: trio.socket.SocketType
    _places: Places
    _place: trio.CancelScope
    _life: trio.CancelScope
    _patience: float
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
        data = bytes(await trio.SocketStream(self.socket).receive_some(max_bytes))
        if not data:
            self._ended = True
            if not self._requests:
                self.rest()
        return data

    async def send_all(self, data: bytes) -> None:
        with trio.move_on_after(WRITE_TIMEOUT) as patience:
            await trio.SocketStream(self.socket).send_all(data)
        if patience.cancelled_caught:
            raise trio.BrokenResourceError("the client does not read")

    async def send_eof(self) -> None:
        await trio.SocketStream(self.socket).send_eof()

    async def aclose(self) -> None:
        await trio.SocketStream(self.socket).aclose()


def _by_connection(app: ASGIApp) -> ASGIApp:
    """`app`, each of whose requests is served by its connection."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope["state"].pop(_CONNECTION)
        await connection.serve(app, scope, receive, send)

    return wrapped
