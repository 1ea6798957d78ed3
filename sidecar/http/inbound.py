"""HTTP from the mesh to the application: policy is asked for every request.

    canonical path -> facts -> live.facts -> decide -> fields, identity last -> application

The exchange is registered among the live connections before it is decided, so a snapshot that arrives in between is
either the one decided by, or decides it again.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_address
from typing import Final

from mesh.policy import Facts, HttpFacts, decide
from mesh.policy.reasons import Reason
from sidecar.access_log import Record
from sidecar.http import headers
from sidecar.http.client import Client
from sidecar.http.failures import Denied
from sidecar.http.heads import Request, RequestHead
from sidecar.http.pool import Pool, Pooled
from sidecar.http.reading import ResponseReader
from sidecar.http.serving import Conversation
from sidecar.http.targets import requested
from sidecar.live import LiveConnection
from sidecar.proxy import Proxy
from sidecar.settings import Inbound
from sidecar.upstream import connect_application
from transport import PlainStream, TlsStream

_PLAINTEXT_NEVER_EXPIRES: Final = timedelta(days=1)


async def serve_http_inbound(
    stream: TlsStream | PlainStream,
    connection: LiveConnection,
    inbound: Inbound,
    proxy: Proxy,
    first: bytes = b"",
) -> None:
    """Serve one caller's requests until the connection ends, and close it.

    `connection` says who calls, and is registered already; `first` was read from `stream` already.
    """
    route = _InboundRoute(stream, connection, inbound, proxy)
    await Conversation(Client(stream, proxy.limits, first), route, proxy).run()


class _InboundRoute:
    direction = "inbound"
    own = True

    def __init__(
        self,
        stream: TlsStream | PlainStream,
        connection: LiveConnection,
        inbound: Inbound,
        proxy: Proxy,
    ) -> None:
        self._connection = connection
        self._peer, self._not_after = connection.peer, connection.not_after
        self._inbound = inbound
        self._proxy = proxy
        address, _ = stream.peername
        self._address = ip_address(address) if address else None
        self._tls_group = stream.connection.get_group_name() or "" if isinstance(stream, TlsStream) else ""
        self._identified = headers.identity(proxy.mesh.own, self._peer.id) if self._peer else ()

    @property
    def ended(self) -> Reason | None:
        return self._connection.ended

    def introduce(self, record: Record) -> None:
        record.source = str(self._peer.id) if self._peer else ""
        record.destination, record.port = str(self._proxy.mesh.own), self._inbound.port
        record.peer_address = str(self._address or "")
        record.tls_group = self._tls_group

    def live(self) -> LiveConnection:
        return LiveConnection(self._peer, not_after=self._not_after)

    def patience(self) -> float:
        left = self._not_after - self._proxy.mesh.now() if self._not_after else _PLAINTEXT_NEVER_EXPIRES
        return max(0.0, min(self._proxy.limits.keep_alive_timeout, left.total_seconds()))

    def admit(self, head: RequestHead, record: Record, live: LiveConnection) -> Request:
        mesh = self._proxy.mesh
        view, _ = mesh.current()
        record.snapshot = view.number
        if self._not_after is not None and self._not_after <= mesh.now():
            raise Denied(Reason.CERTIFICATE_RETIRED)
        target, host = requested(head, record)
        live.facts = Facts(
            to=mesh.workload,
            port=self._inbound.port,
            caller=self._peer.id if self._peer else None,
            address=self._address,
            http=HttpFacts(head.method, target.path),
        )
        decision = decide(view.rules, live.facts)
        record.decided(decision, view.number)
        self._proxy.metrics.decision(self.direction, record.source, record.destination, decision.reason)
        if not decision.allowed:
            raise Denied(decision.reason)
        upgrade = headers.asks_websocket(head)
        host = str(self._inbound.application).encode() if host is None else host
        fields = headers.request_fields(head, host, upgrade=upgrade, identified=self._identified)
        return Request(head, str(target).encode(), fields, upgrade)

    @asynccontextmanager
    async def upstream(self, _record: Record, _live: LiveConnection, *, fresh: bool) -> AsyncIterator[Pooled]:
        pool = self._proxy.shared(Pool.of)
        key = "inbound", self._inbound.application, self._peer.id if self._peer else self._address
        pooled = None if fresh else await pool.take(key, lambda _: True)
        if pooled is None:
            stream = await connect_application(self._proxy, self._inbound)
            pooled = Pooled(stream, key, ResponseReader(self._proxy.limits.head_bytes))
        try:
            yield pooled
        finally:
            await pool.release(pooled)
