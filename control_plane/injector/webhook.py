"""The mutating webhook: API servers POST an AdmissionReview to /inject over TLS 1.3, and are answered with a patch.

Accept -> TLS -> HTTP/1.1 -> a bounded body -> `review`, in a thread -> log and metrics. No client certificate is asked
for: API servers show none unless they are configured to, and whoever else comes learns what a pure function makes of
its own input, which `doorward inject` tells everybody. What strangers can cost is bounded (law 21): connections, of
which the one that has waited longest gives way; the seconds for a handshake and for a body; and the bodies that are
large, of which a few are taken at once, so that ordinary pods never wait for them.
"""

import functools
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import trio
from attrs import asdict, define, field
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from control_plane.injector.admission import REFUSED, Admission
from control_plane.injector.serving_certificate import Serving
from control_plane.log import fields
from control_plane.metrics import Metrics
from control_plane.push.ending import Ending
from control_plane.push.handshake import shake_hands
from control_plane.settings import Limits
from control_plane.tls_streams import ALPN, TlsStreams
from control_plane.web import Web
from transport import Places

PATH = "/inject"
PATIENCE = 120.0  # seconds between two requests: API servers close idle connections after 90 s, and are to be the first
BODY_SECONDS = 10.0  # API servers give up by then
MAX_BODY_BYTES = 4 * 1024 * 1024
"""API servers take objects of at most 3 MiB."""
LARGE_BYTES = 256 * 1024
LARGE_AT_ONCE = 8
REVIEWS_AT_ONCE = 4

log = logging.getLogger("doorward.injector")

Review = Callable[[bytes], dict[str, Any]]
"""One AdmissionReview in JSON to its answer: `review.review` with its settings. Never raises."""


class _Refused(Exception):
    """A request that is no admission. `status` is HTTP's."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@define(eq=False)
class Webhook:
    """Serves API servers on given listeners."""

    review: Review
    serving: Serving
    metrics: Metrics
    limits: Limits
    _web: Web = field(init=False)
    _places: Places = field(init=False)
    _large: trio.Semaphore = field(init=False, factory=lambda: trio.Semaphore(LARGE_AT_ONCE))
    _threads: trio.CapacityLimiter = field(init=False, factory=lambda: trio.CapacityLimiter(REVIEWS_AT_ONCE))
    _streams: TlsStreams = field(init=False, factory=TlsStreams)

    def __attrs_post_init__(self) -> None:
        places = self.limits.injector_connections
        self._web = Web("injector", self._answer, self.metrics, places, PATIENCE)
        self._places = Places(places)

    async def serve(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Accept until cancelled."""
        await self._streams.accept(self._web, listeners, self._handle, self._places)

    async def _handle(self, sock: trio.socket.SocketType) -> None:
        context = self.serving.context()
        async with self._streams.over(sock, context) as stream:
            try:
                with self._places.idle() as place:
                    await shake_hands(stream, ALPN, seconds=self.limits.handshake_timeout, wanted="an API server")
                if place.cancelled_caught:
                    raise Ending("gave_way", "its place was given to a newcomer: it had not finished its handshake")
                state = {"address": stream.peername[0], "shown": context}
                await self._web.answer(stream, sock, state, self._places)
            except Ending as ending:
                self._note(ending.reason, str(ending), stream.peername[0], "refused a connection")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        request = Request(scope, receive)
        try:
            response = await self._admit(request)
        except _Refused as refused:
            self._note(refused.reason, str(refused), scope["state"]["address"], "refused a request")
            response = PlainTextResponse(f"{refused}\n", refused.status, {"connection": "close"})
        except ClientDisconnect:
            self._note("left_early", "it ended within its request", scope["state"]["address"], "refused a request")
            return
        except Exception:
            self.metrics.failures.labels("injector").inc()
            log.exception("a review failed in a way that nobody foresaw")
            response = PlainTextResponse("a fault of Doorward: the control plane's log has it\n", 500)
        if scope["state"]["shown"] is not self.serving.context():
            response.headers["connection"] = "close"  # API servers keep connections for days: let them see the new one
        await response(scope, receive, send)

    async def _admit(self, request: Request) -> Response:
        """Answer an AdmissionReview. Raises _Refused, ClientDisconnect."""
        if request.url.path != PATH:
            raise _Refused(404, "no_such_path", f"the webhook answers on {PATH} only")
        if request.method != "POST":
            raise _Refused(405, "no_such_method", "the webhook takes POST only")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise _Refused(415, "not_json", "send an AdmissionReview as application/json")
        async with self._body(request) as body:
            began = trio.current_time()
            work = functools.partial(_work, self.review, body)
            admission, answer = await trio.to_thread.run_sync(work, limiter=self._threads)
        self._say(admission, trio.current_time() - began)
        return Response(answer, media_type="application/json")

    @asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """The request's body; where it is large, one of the few places for such is held. Raises as `_admit`."""
        content, large = bytearray(), False
        try:
            with trio.move_on_after(BODY_SECONDS) as patience:
                async with aclosing(request.stream()) as parts:
                    async for part in parts:
                        content += part
                        if len(content) > MAX_BODY_BYTES:
                            raise _Refused(413, "body_too_large", f"a review has at most {MAX_BODY_BYTES} bytes")
                        if len(content) > LARGE_BYTES and not large:
                            self._take_large()
                            large = True
            if patience.cancelled_caught:
                raise _Refused(408, "body_timeout", f"the review did not arrive within {BODY_SECONDS:g} s")
            yield bytes(content)
        finally:
            if large:
                self._large.release()

    def _take_large(self) -> None:
        try:
            self._large.acquire_nowait()
        except trio.WouldBlock:
            raise _Refused(503, "busy", f"{LARGE_AT_ONCE} large reviews are under way: try again") from None

    def _say(self, admission: Admission, seconds: float) -> None:
        self.metrics.admissions.labels(admission.outcome).inc()
        self.metrics.admission_seconds.observe(seconds)
        log.log(
            logging.WARNING if admission.outcome == REFUSED else logging.INFO,
            "admission",
            extra=fields(**asdict(admission), milliseconds=round(seconds * 1000, 1)),
        )

    def _note(self, reason: str, detail: str, address: str, what: str) -> None:
        self.metrics.injector_refused.labels(reason).inc()
        log.warning(what, extra=fields(reason=reason, detail=detail, address=address))


def _work(review: Review, body: bytes) -> tuple[Admission, bytes]:
    """What to log and what to answer. Runs in a thread."""
    answer = review(body)
    return Admission.of(body, answer), json.dumps(answer).encode("ascii")
