"""HTTP from the local application into the mesh: to an endpoint of the destination whose identity is verified.

    canonical path -> fields -> endpoint (the less loaded of two) -> idle or new mTLS connection -> exchange

Whether a request is allowed is decided by the sidecar of the one who is called; its 403 passes through as it is.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from mesh.policy.reasons import Reason
from mesh.wire import Endpoint
from sidecar.access_log import Record
from sidecar.destination import Destination, VirtualDestination
from sidecar.http import headers
from sidecar.http.client import Client
from sidecar.http.failures import HttpRefused
from sidecar.http.heads import Request, RequestHead
from sidecar.http.pool import Pool, Pooled
from sidecar.http.reading import ResponseReader
from sidecar.http.serving import Conversation
from sidecar.http.targets import is_foreign, requested
from sidecar.live import LiveConnection
from sidecar.proxy import Proxy
from sidecar.upstream import connect_destination, connect_mesh
from sidecar.view import ALPN_HTTP
from transport import PlainStream, TlsStream


async def serve_http_outbound(
    stream: PlainStream, destination: Destination | VirtualDestination, proxy: Proxy, first: bytes = b""
) -> None:
    """Serve the local application's requests until the connection ends, and close it.

    `first` was read from `stream` already.
    """
    await Conversation(Client(stream, proxy.limits, first), _OutboundRoute(stream, destination, proxy), proxy).run()


class _OutboundRoute:
    direction = "outbound"
    own = False
    ended = None

    def __init__(self, stream: PlainStream, destination: Destination | VirtualDestination, proxy: Proxy) -> None:
        self._destination = destination
        self._proxy = proxy
        self._address, _ = stream.peername

    def introduce(self, record: Record) -> None:
        record.source = str(self._proxy.mesh.own)
        record.destination = self._destination.name(self._proxy.settings.trust_domain)
        record.port, record.original = self._destination.port, self._destination.original
        record.peer_address = self._address

    def live(self) -> LiveConnection:
        return LiveConnection(None)

    def patience(self) -> float:
        return self._proxy.limits.keep_alive_timeout

    def admit(self, head: RequestHead, record: Record, _live: LiveConnection) -> Request:
        view, _ = self._proxy.mesh.current()
        record.snapshot = view.number
        target, host = requested(head, record)
        only = self._destination.only_host
        if only is not None and is_foreign(host, only):
            raise HttpRefused(Reason.FOREIGN_HOST, 421, "this door leads to one workload, and Host names another")
        if host is None:
            host = self._destination.host.encode()
        upgrade = headers.asks_websocket(head)
        return Request(head, str(target).encode(), headers.request_fields(head, host, upgrade=upgrade), upgrade)

    @asynccontextmanager
    async def upstream(self, record: Record, live: LiveConnection, *, fresh: bool) -> AsyncIterator[Pooled]:
        connect = partial(self._connection, record=record, fresh=fresh)
        endpoint, pooled = await connect_destination(self._proxy, self._destination, connect)
        # No checkpoint lies between the look at bans and roots and this: from here snapshots find the exchange.
        live.peer, live.not_after = pooled.peer, pooled.not_after
        record.allowed = True
        if isinstance(pooled.stream, TlsStream):
            record.tls_group = pooled.stream.connection.get_group_name() or ""
        try:
            with self._proxy.loads.calling(endpoint):
                yield pooled
        finally:
            await self._proxy.shared(Pool.of).release(pooled)

    async def _connection(self, endpoint: Endpoint, *, record: Record, fresh: bool) -> tuple[Endpoint, Pooled]:
        """An idle connection to that endpoint, or a new one. Raises UpstreamFailed or NotReady."""
        proxy, record.destination = self._proxy, endpoint.identity
        key = "outbound", endpoint.address, endpoint.mesh_port, endpoint.identity, proxy.mesh.generation
        if not fresh and (idle := await proxy.shared(Pool.of).take(key, self._is_good)):
            return endpoint, idle
        upstream = await connect_mesh(proxy, endpoint, (ALPN_HTTP,))
        key = (*key[:-1], upstream.generation)
        reader = ResponseReader(proxy.limits.head_bytes)
        return endpoint, Pooled(upstream.stream, key, reader, upstream.peer, upstream.not_after)

    def _is_good(self, pooled: Pooled) -> bool:
        """Whether the peer of an idle connection is still to be believed (law 10)."""
        view, _ = self._proxy.mesh.current()
        return pooled.peer is not None and view.objection(pooled.peer) is None
