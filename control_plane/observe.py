"""What a probe or a scraper may ask over plain HTTP: /live, /ready and /metrics, and nothing that is secret.

Starlette on Hypercorn. Accepting is ours, so that connections are bounded, and a request under a foreign Host is
refused: a web page that points its own name at this address learns nothing (law 22).
"""

import functools
import ipaddress
import logging
from collections.abc import Callable, Sequence
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from control_plane.metrics import CONTENT_TYPE, Metrics
from transport import serve

READ_TIMEOUT = 10  # seconds for a request, and between two on one connection
WRITE_TIMEOUT = 3.0  # Hypercorn shields its sends, so a client that does not read would hold up the end of the program
CONNECTION_SECONDS = 120.0  # and then a scraper connects anew
HALF_CLOSED_SECONDS = 1.0  # an answer is on its way by then; Hypercorn would hold on until READ_TIMEOUT

log = logging.getLogger("doorward.observe")


async def serve_observe(
    listeners: Sequence[trio.SocketListener],
    metrics: Metrics,
    unready: Callable[[], str],
    *,
    hosts: Sequence[str] = (),
    max_connections: int,
) -> None:
    """Answer on `listeners` until cancelled. `unready` says why this is not ready, "" where it is.

    `hosts` are names under which it may be asked, besides IP addresses and localhost.
    """
    app = ASGIWrapper(refuse_foreign_host(application(metrics, unready), hosts))  # type: ignore[arg-type]  # Starlette's
    places = trio.CapacityLimiter(max_connections)

    def unforeseen(error: Exception) -> None:
        metrics.failures.labels("observe").inc()
        log.error("a connection failed in a way that nobody foresaw", exc_info=error)

    async with trio.open_nursery() as nursery:
        handler = functools.partial(_serve_connection, app, _config())
        await serve(listeners, handler, nursery=nursery, places=places, on_error=unforeseen)


def application(metrics: Metrics, unready: Callable[[], str]) -> Starlette:
    """The three answers."""

    async def live(_: Request) -> Response:
        return PlainTextResponse("live\n")

    async def ready(_: Request) -> Response:
        reason = unready()
        return JSONResponse({"ready": not reason, "reason": reason}, status_code=503 if reason else 200)

    async def scrape(_: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return Starlette(routes=[Route("/live", live), Route("/ready", ready), Route("/metrics", scrape)])


def refuse_foreign_host(app: ASGIApp, hosts: Sequence[str]) -> ASGIApp:
    """`app` for requests with one Host that is an IP address, localhost or one of `hosts`; 421 for all others."""
    known = {"localhost", *(host.lower() for host in hosts)}

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(named) != 1 or not _is_own(named[0], known):
                refusal = {"error": "foreign_host", "message": "ask by IP address, or name this host in observe_hosts"}
                await JSONResponse(refusal, status_code=421)(scope, receive, send)
                return
        await app(scope, receive, send)

    return checked


def _is_own(host: str, known: set[str]) -> bool:
    bracket, closing, rest = host.partition("]")
    name = bracket.removeprefix("[") if closing else host.partition(":")[0]
    if closing and rest and not rest.startswith(":"):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.lower().removesuffix(".") in known
    return True


def _config() -> Config:
    config = Config()
    config.errorlog = log
    config.include_server_header = False
    config.read_timeout = READ_TIMEOUT
    config.keep_alive_timeout = READ_TIMEOUT
    return config


class _Stream:
    """What Hypercorn uses of a stream, with the bounds that it does not keep itself."""

    def __init__(self, sock: trio.socket.SocketType, scope: trio.CancelScope) -> None:
        self.socket = sock
        self._stream = trio.SocketStream(sock)
        self._scope = scope

    async def receive_some(self, max_bytes: int) -> bytes:
        data = await self._stream.receive_some(max_bytes)
        if not data:
            self._scope.deadline = trio.current_time() + HALF_CLOSED_SECONDS
        return bytes(data)

    async def send_all(self, data: bytes) -> None:
        with trio.move_on_after(WRITE_TIMEOUT) as patience:
            await self._stream.send_all(data)
        if patience.cancelled_caught:
            raise trio.BrokenResourceError("the client does not read")

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _serve_connection(app: ASGIWrapper, config: Config, sock: trio.socket.SocketType) -> None:
    with trio.move_on_after(CONNECTION_SECONDS) as scope:
        stream: Any = _Stream(sock, scope)
        await TCPServer(app, config, WorkerContext(None), ConnectionState({}), stream)
