"""The requests of one connection, one after the other, each with its record, whichever way they go.

    next head -> register among the live -> Route.admit (decide) -> Route.upstream -> Exchange -> record

Inbound and outbound differ only in their Route. A request that ends early gets an answer of ours, and its connection
goes on where the rest of the request is small enough to be read away.
"""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Final, Protocol

import trio

from mesh.policy.reasons import FAILURES, Reason
from sidecar import log
from sidecar.access_log import Record
from sidecar.http.answers import answer
from sidecar.http.client import Client
from sidecar.http.exchange import Exchange
from sidecar.http.failures import Aborted, Denied, Failed, HttpEnded, HttpRefused
from sidecar.http.heads import Body, Request, RequestHead, values
from sidecar.http.pool import Pooled
from sidecar.live import LiveConnection
from sidecar.proxy import Proxy
from sidecar.refused import Refused

# What ends a whole connection, not only the request that met it.
_LEAVING: Final = frozenset(
    {Reason.BANNED, Reason.UNKNOWN_ISSUER, Reason.CERTIFICATE_EXPIRED, Reason.CERTIFICATE_RETIRED, Reason.DRAINING}
)


class Route(Protocol):
    """What makes a direction: whom a request comes from, whether it may go on, and where to.

    `own` says whether responses may not carry Doorward's own fields: an application's may not, a sidecar's may.
    `ended` is why the whole connection was ended from outside, None where it was not.
    """

    direction: str
    own: bool

    @property
    def ended(self) -> Reason | None: ...

    def introduce(self, record: Record) -> None:
        """Write into a new record who talks to whom."""

    def live(self) -> LiveConnection:
        """The entry of one exchange among the live connections."""

    def patience(self) -> float:
        """Seconds that the connection may idle before its next request."""

    def admit(self, head: RequestHead, record: Record, live: LiveConnection) -> Request:
        """What to send on. Decides, and notes it in `record` and `live`. Raises HttpEnded or Refused."""

    def upstream(self, record: Record, live: LiveConnection, *, fresh: bool) -> AbstractAsyncContextManager[Pooled]:
        """A connection for one exchange, an idle one unless `fresh`; leaving gives it back. Raises Refused."""


class Conversation:
    """One client's connection, request by request."""

    def __init__(self, client: Client, route: Route, proxy: Proxy) -> None:
        self._client = client
        self._route = route
        self._proxy = proxy
        self._exchange: Exchange | None = None
        self._live: LiveConnection | None = None

    async def run(self) -> None:
        """Serve until the connection ends, and close it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._leave_when_draining)
            while not self._draining() and await self._next():
                pass
            nursery.cancel_scope.cancel()
        await self._client.close()

    async def _leave_when_draining(self) -> None:
        await self._proxy.draining.wait()
        self._client.stop_waiting()

    def _draining(self) -> bool:
        return self._proxy.draining.is_set()

    async def _next(self) -> bool:
        """Serve the next request. Returns whether another one may follow."""
        head: RequestHead | None = None
        failure: HttpRefused | Aborted | None = None
        try:
            with self._proxy.places.idle() as place:
                head = await self._client.next_head(self._route.patience())
        except (HttpRefused, Aborted) as met:
            failure = met
        if place.cancelled_caught:
            self._proxy.metrics.refused(self._route.direction, Reason.OVER_LIMIT)
            failure = Aborted(Reason.OVER_LIMIT)
        if head is None and failure is None:
            return False
        goes_on = False
        with self._recorded() as record:
            if head is not None:
                goes_on = await self._serve(head, record)
            elif isinstance(failure, HttpRefused):
                goes_on = await self._answer(failure, None, record)
            else:
                assert failure is not None
                raise failure
        return goes_on

    @contextmanager
    def _recorded(self) -> Iterator[Record]:
        """One record and its counters, whatever happens. Swallows Aborted, for which it resets the connection."""
        record = self._proxy.log.start(self._route.direction, "http")
        self._route.introduce(record)
        try:
            yield record
        except Aborted as aborted:
            record.reason = aborted.reason
            self._client.stream.abort()
        except Exception:
            record.reason = Reason.INTERNAL_ERROR
            raise
        except BaseException:  # cancelled from outside: with the whole connection, or by the end of the drain
            record.reason = (self._live and self._live.ended) or self._route.ended or Reason.DRAINING
            raise
        finally:
            self._live = self._exchange = None
            self._write(record)

    def _write(self, record: Record) -> None:
        metrics, status = self._proxy.metrics, record.status
        status_class = f"{status // 100}xx" if status else "none"
        metrics.request(record.direction, record.source, record.destination, status_class, record.seconds)
        if record.reason in FAILURES:
            metrics.failed(record.direction, record.reason)
        metrics.bytes(record.direction, sent=record.bytes_out, received=record.bytes_in)
        self._proxy.log.write(record)

    async def _serve(self, head: RequestHead, record: Record) -> bool:
        """Carry one request to its end, in whichever way it ends."""
        record.method = head.method
        record.traceparent = b"".join(values(head.fields, b"traceparent")[:1]).decode("latin-1")
        live = self._live = self._route.live()
        ended: HttpEnded | None = None
        with self._proxy.live.register(live):
            try:
                request = self._route.admit(head, record, live)
                await self._carry(request, record, live)
            except HttpEnded as failure:
                ended, record.detail = failure, failure.detail
            except Refused as failure:
                ended, record.detail = self._translated(failure), failure.detail
        # A response that was sent whole stands, also where the exchange was ended from outside a moment later.
        if self._exchange is not None and self._exchange.goes_on is not None:
            return self._exchange.goes_on
        if ended is None:
            assert live.ended is not None, "only end() cancels the scope"
            ended = Failed(live.ended) if live.ended is Reason.DRAINING else Denied(live.ended)
        return await self._answer(ended, head, record)

    async def _carry(self, request: Request, record: Record, live: LiveConnection, *, fresh: bool = False) -> None:
        """One exchange; once more on a fresh connection where law 19 lets it be sent again."""
        async with self._route.upstream(record, live, fresh=fresh) as upstream:
            exchange = self._exchange = Exchange(
                self._client,
                upstream,
                request,
                record,
                self._proxy.limits,
                own=self._route.own,
                draining=self._draining,
            )
            try:
                await exchange.run()
            except Failed as failed:
                died = failed.reason is Reason.UPSTREAM_RESET and upstream.reused and not exchange.answered
                if not (died and request.repeatable):
                    raise
            else:
                return
        await self._carry(request, record, live, fresh=True)

    def _translated(self, refused: Refused) -> Failed:
        """The details name addresses: they are for our log, not for the caller."""
        direction = self._route.direction
        if refused.reason not in FAILURES:
            self._proxy.metrics.refused(direction, refused.reason)
        log.info("a request failed", direction=direction, reason=refused.reason, detail=refused.detail)
        return Failed(refused.reason)

    async def _answer(self, ended: HttpEnded, head: RequestHead | None, record: Record) -> bool:
        """Answer in our own name. Returns whether the connection can go on. Raises Aborted."""
        record.reason = ended.reason
        if not self._client.writable or (self._exchange is not None and self._exchange.begun):
            raise Aborted(ended.reason)
        if isinstance(ended, HttpRefused):
            self._proxy.metrics.refused(record.direction, ended.reason)
        view = self._proxy.mesh.view
        keep = self._can_go_on(ended, head)
        record.status = ended.status
        said = answer(
            ended,
            decision=record.decision,
            snapshot=record.snapshot if record.snapshot is not None or view is None else view.number,
            now=self._proxy.mesh.now(),
            head_only=head is not None and head.method == "HEAD",
            close=not keep,
        )
        try:
            await self._client.send(said)
        except Aborted:
            raise Aborted(ended.reason) from None  # nobody escapes the record of a denial by not reading it
        return keep and await self._client.discard_body()

    def _can_go_on(self, ended: HttpEnded, head: RequestHead | None) -> bool:
        """Whether the next request can be found behind this one, at a bounded cost (law 19)."""
        if head is None or not head.persistent or not self._client.can_go_on:
            return False
        if ended.reason in _LEAVING or ended.reason is Reason.DOWNSTREAM_TIMEOUT or self._draining():
            return False
        if not self._client.body_open:
            return True
        # A client that waits for 100 may never send its body, and not close either (RFC 9110 §10.1.1).
        short = not isinstance(head.framing, int) or head.framing <= self._proxy.limits.drain_body_bytes
        return short and (head.framing is Body.NONE or not head.expects_continue)
