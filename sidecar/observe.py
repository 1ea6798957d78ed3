"""The observe address: /ready, /live, /metrics for whoever may reach it, /config for this machine only.

One small HTTP/1.1 server on h11, apart from the data path. GET and HEAD only, no request bodies, and a foreign Host is
refused, so that a web page cannot read it through a rebound name (law 22). Every connection has a deadline.
"""

import ipaddress
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import h11
import trio
from attrs import frozen

from mesh.policy.reasons import Reason
from sidecar import log
from sidecar.metrics import Metrics, exposition
from sidecar.readiness import Readiness
from sidecar.settings import Limits
from transport import Places, PlainStream, serve

MAX_HEAD_BYTES: Final = 8 * 1024
RECEIVE_BYTES: Final = 4 * 1024
MAX_REQUESTS: Final = 100  # on one connection

JSON: Final = "application/json"
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"  # the Prometheus exposition format


@frozen
class Answer:
    """One response. `extra` are further header fields."""

    status: int
    body: bytes
    content_type: str = JSON
    extra: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, status: int, content: dict[str, Any], *extra: tuple[str, str]) -> "Answer":
        """A response with `content` as JSON."""
        return cls(status, json.dumps(content).encode() + b"\n", JSON, extra)


@frozen(eq=False)
class Observe:
    """Answers requests. `config` builds what /config shows; `hosts` are names, lower
    case, that it answers to besides IP addresses and localhost."""

    readiness: Readiness
    metrics: Metrics
    config: Callable[[], dict[str, Any]]
    hosts: frozenset[str]

    def answer(self, request: h11.Request, address: str) -> Answer:
        """What to say to one request from `address`."""
        if request.method not in (b"GET", b"HEAD"):
            return Answer.of(405, {"error": "only GET and HEAD are answered"}, ("allow", "GET, HEAD"))
        if not request.target.startswith(b"/"):
            return Answer.of(400, {"error": "the target must be a path"})
        if not self._known_host(request):
            return Answer.of(421, {"error": "this Host is not served here: use an IP address, localhost or a set name"})
        match request.target.partition(b"?")[0]:
            case b"/live":
                return Answer.of(200, {"live": True})
            case b"/ready":
                return self._ready()
            case b"/metrics":
                self.metrics.ready(self.readiness.look())
                return Answer(200, exposition(self.metrics), TEXT)
            case b"/config" if _is_loopback(address):
                return Answer.of(200, self.config())
            case b"/config":
                return Answer.of(403, {"error": "/config is for callers on this machine only"})
        return Answer.of(404, {"error": "there are /ready, /live, /metrics and /config"})

    def _ready(self) -> Answer:
        if self.readiness.look():
            return Answer.of(200, {"ready": True})
        return Answer.of(503, {"ready": False, "reasons": self.readiness.missing()})

    def _known_host(self, request: h11.Request) -> bool:
        """HTTP/1.0 may come without a Host: no browser does."""
        named = [value.decode("ascii", "replace") for name, value in request.headers if name == b"host"]
        if not named:
            return request.http_version == b"1.0"
        host = _without_port(named[0]).lower()
        return host == "localhost" or host in self.hosts or _is_address(host)


async def serve_observe(listeners: list[trio.SocketListener], observe: Observe, limits: Limits) -> None:
    """Serve until cancelled; connections end with it."""

    def on_error(error: Exception) -> None:
        observe.metrics.unexpected("observe")
        log.error("an observe connection failed", exception=error)

    places = Places(limits.observe_connections)
    async with trio.open_nursery() as nursery:
        handler = partial(_serve_newest, observe, limits.observe_timeout, places)
        await serve(listeners, handler, nursery=nursery, places=places, on_error=on_error)


async def _serve_newest(observe: Observe, timeout: float, places: Places, sock: trio.socket.SocketType) -> None:
    """Answering takes a moment: where places run out, the oldest connection is one that makes no use of its own."""
    with places.idle() as place:
        await _serve_connection(observe, timeout, sock)
    if place.cancelled_caught:
        observe.metrics.refused("observe", Reason.OVER_LIMIT)
        log.debug("refused", direction="observe", reason=Reason.OVER_LIMIT)


async def _serve_connection(observe: Observe, timeout: float, sock: trio.socket.SocketType) -> None:
    stream = PlainStream(sock)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
    try:
        for _ in range(MAX_REQUESTS):
            with trio.move_on_after(timeout) as patience:
                await _one_request(observe, stream, connection)
            if patience.cancelled_caught or connection.our_state is not h11.DONE:
                break
            if connection.their_state is not h11.DONE:
                break
            connection.start_next_cycle()
        with trio.move_on_after(timeout):
            await _close_read(stream)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return  # the caller left
    finally:
        sock.close()


async def _close_read(stream: PlainStream) -> None:
    """Close so that the caller can read the last answer: unread bytes would turn the close into a reset."""
    await stream.send_eof()
    left = 2 * MAX_HEAD_BYTES
    while left > 0 and (data := await stream.receive_some()):
        left -= len(data)
    await stream.aclose()


async def _one_request(observe: Observe, stream: PlainStream, connection: h11.Connection) -> None:
    """Read one request and answer it; whatever else was said makes the connection end."""
    try:
        request = await _next_event(stream, connection)
        if not isinstance(request, h11.Request):
            return
        ended = await _next_event(stream, connection)
        head = request.method == b"HEAD"
        answer = observe.answer(request, stream.peername[0])
        if not isinstance(ended, h11.EndOfMessage):
            answer = Answer.of(400, {"error": "a request body is not taken"}, ("connection", "close"))
    except h11.RemoteProtocolError as error:
        if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        head, answer = False, Answer.of(error.error_status_hint, {"error": "this is no HTTP/1.1 request"})
    await stream.send_all(_encoded(connection, answer, head=head))


async def _next_event(stream: PlainStream, connection: h11.Connection) -> object:
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        # In small pieces: h11 bounds only what is incomplete.
        connection.receive_data(await stream.receive_some(RECEIVE_BYTES))


def _encoded(connection: h11.Connection, answer: Answer, *, head: bool) -> bytes:
    headers = [
        ("content-type", answer.content_type),
        ("content-length", str(len(answer.body))),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        *answer.extra,
    ]
    sent = connection.send(h11.Response(status_code=answer.status, headers=headers)) or b""
    if not head:
        sent += connection.send(h11.Data(answer.body)) or b""
    return sent + (connection.send(h11.EndOfMessage()) or b"")


def _without_port(authority: str) -> str:
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(address: str) -> bool:
    return _is_address(address) and ipaddress.ip_address(address).is_loopback
