"""The observe address: /ready, /live, /metrics, /probe/… for whoever may reach it, /config for this machine only.

One small HTTP/1.1 server on h11, apart from the data path. GET and HEAD only, no request bodies, and a foreign Host is
refused, so that a web page cannot read it through a rebound name (law 22). Every connection has a deadline.
"""

import ipaddress
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import h11
import trio
from attrs import define, field, frozen

from mesh.policy.reasons import Reason
from sidecar import log
from sidecar.metrics import Metrics, exposition
from sidecar.probes import HEALTHY, Outcome, Prober
from sidecar.readiness import Readiness
from sidecar.settings import Limits, Probe
from transport import Places, PlainStream, serve
from transport.sockets import plain_address

MAX_HEAD_BYTES: Final = 8 * 1024
RECEIVE_BYTES: Final = 4 * 1024
MAX_REQUESTS: Final = 100  # on one connection

PROBE: Final = b"/probe/"
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
    prober: Prober

    def answer(self, request: h11.Request, address: str) -> Answer | Probe:
        """What to say to one request from `address`, or the probe that has to be performed for it."""
        if request.method not in (b"GET", b"HEAD"):
            return Answer.of(405, {"error": "only GET and HEAD are answered"}, ("allow", "GET, HEAD"))
        if not request.target.startswith(b"/"):
            return Answer.of(400, {"error": "the target must be a path"})
        if not self._known_host(request):
            return Answer.of(421, {"error": "this Host is not served here: use an IP address, localhost or a set name"})
        path = request.target.partition(b"?")[0]
        if path.startswith(PROBE):
            probe = self.prober.probes.get(path.removeprefix(PROBE).decode("ascii", "replace"))
            return probe or Answer.of(404, {"error": "there is no probe of this name"})
        match path:
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
        return Answer.of(404, {"error": "there are /ready, /live, /metrics, /probe/NAME and /config"})

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
        await _serve_connection(observe, timeout, _Waiting(places, place), sock)
    if place.cancelled_caught:
        observe.metrics.refused("observe", Reason.OVER_LIMIT)
        log.debug("refused", direction="observe", reason=Reason.OVER_LIMIT)


@define
class _Waiting:
    """That the caller has to say something, by the end of `patience` and before its place is needed."""

    places: Places
    place: trio.CancelScope
    patience: trio.CancelScope = field(factory=trio.CancelScope)

    @contextmanager
    def busy(self, seconds: float) -> Iterator[None]:
        """Around what is done for the caller and may take so long: neither of the two counts meanwhile."""
        self.patience.deadline += seconds
        self.places.work(self.place)
        try:
            yield
        finally:
            self.places.rest(self.place)


async def _serve_connection(observe: Observe, timeout: float, waiting: _Waiting, sock: trio.socket.SocketType) -> None:
    stream = PlainStream(sock)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
    try:
        for _ in range(MAX_REQUESTS):
            with trio.move_on_after(timeout) as waiting.patience:
                await _one_request(observe, waiting, stream, connection)
            if waiting.patience.cancelled_caught or connection.our_state is not h11.DONE:
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


async def _one_request(observe: Observe, waiting: _Waiting, stream: PlainStream, connection: h11.Connection) -> None:
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
    if isinstance(answer, Probe):
        with waiting.busy(answer.timeout):
            outcome = await observe.prober.perform(answer, plain_address(stream.socket.getsockname()[0]))
        if answer.hook and outcome.status is None:
            stream.abort()  # the kubelet takes any answer for success
            return
        answer = _outcome(answer, outcome)
    await stream.send_all(_encoded(connection, answer, head=head))


def _outcome(probe: Probe, outcome: Outcome) -> Answer:
    said: dict[str, Any] = {"probe": probe.name, "outcome": outcome.name}
    if outcome.status is not None:
        said["status"] = outcome.status
    return Answer.of(200 if outcome.name == HEALTHY else 503, said)


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
