"""One sidecar's two doors in this process, over real sockets and real TLS; no control plane, no program around it.

node = Node.make(pki, "shop/payments", policies=[...])     a Proxy with its records, and snapshots to push
async with inbound_door(node, port): ...                   serve_inbound for an application
async with outbound_door(node, "shop/payments", 8080): ... serve_outbound into the mesh
async with echo() as port: ...                             an application
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import trio
from attrs import define, evolve, field
from OpenSSL import SSL

from certs.bundle import TrustBundle
from certs.spiffe import WorkloadName
from certs.svid import Svid
from certs.tls import client_context
from mesh.wire import Endpoint, Service, Snapshot, snapshot_hash
from sidecar.access_log import AccessLog, Record
from sidecar.inbound import serve_inbound
from sidecar.metrics import Metrics
from sidecar.outbound import serve_outbound
from sidecar.proxy import Proxy
from sidecar.settings import Address, Inbound, Limits, Outbound, Settings
from sidecar.view import ALPN_TCP, Mesh, View
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from transport import PlainStream, TlsStream, dial

PORT = 8080  # what policies and destinations call the application's port


class Records(AccessLog):
    """The access log, which also keeps its records."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(instance="test", metrics=metrics, which="off")
        self.written: list[Record] = []

    def write(self, record: Record) -> None:
        self.written.append(record)
        super().write(record)


def snapshot(
    roots: TrustBundle,
    *,
    number: int = 1,
    policies: Sequence[dict[str, Any]] = (),
    endpoints: Sequence[Endpoint] = (),
    bans: Sequence[str] = (),
    services: Sequence[Service] = (),
) -> Snapshot:
    """A snapshot as the control plane would send it."""
    said = tuple(policies), tuple(endpoints), tuple(bans), roots.to_der(), tuple(services)
    draft = Snapshot("epoch", number, "none", *said)
    return evolve(draft, hash=snapshot_hash(draft))


def endpoint(pki: Pki, workload: str, mesh_port: int, *, protocol: str = "tcp", identity: str = "") -> Endpoint:
    """An endpoint on loopback that must prove the workload's own identity, unless another one is named."""
    return Endpoint(workload, PORT, "127.0.0.1", mesh_port, protocol, identity or str(pki.id(workload)))


@define
class Node:
    """One sidecar without its program: what it knows, what it wrote and what it counted."""

    pki: Pki
    proxy: Proxy
    written: list[Record]
    bundle: TrustBundle
    number: int = 0
    now: list[datetime] = field(factory=list)

    @classmethod
    def make(
        cls,
        pki: Pki,
        workload: str,
        *,
        limits: Limits | None = None,
        svid: Svid | None = None,
        bundle: TrustBundle | None = None,
        ready: bool = True,
        **content: Any,
    ) -> "Node":
        """A sidecar of this workload with a certificate and, where `ready`, a snapshot with this content."""
        settings = Settings(
            WorkloadName.parse(workload), Address("127.0.0.1", 1), Path("none"), pki.domain, limits=limits or Limits()
        )
        frozen_now: list[datetime] = []
        mesh = Mesh(settings.identity, clock=lambda: frozen_now[-1] if frozen_now else datetime.now(UTC))
        mesh.replace_svid(svid or pki.svid(workload))
        metrics = Metrics()
        log = Records(metrics)
        proxy = Proxy(settings, mesh, metrics, log, "test")
        node = cls(pki, proxy, log.written, bundle or pki.bundle, now=frozen_now)
        if ready:
            node.learn(**content)
        return node

    def learn(self, **content: Any) -> View:
        """Take over a new snapshot; live connections are decided again only by `push`."""
        self.number += 1
        view = View.build(snapshot(self.bundle, number=self.number, **content), self.pki.domain)
        self.proxy.mesh.replace_view(view)
        return view

    async def push(self, **content: Any) -> int:
        """Take over a new snapshot as the control link does. Returns how many live connections it ended."""
        return await self.proxy.live.redecide(self.learn(**content))

    def counted(self, metric: str, **labels: str) -> float:
        """The value of a counter or gauge; 0 where it was never touched."""
        return self.proxy.metrics.registry.get_sample_value(f"doorward_sidecar_{metric}", labels) or 0.0

    async def record(self) -> Record:
        """The one record that was written, waiting for it. Fails where there is none, or a second one."""
        with trio.fail_after(PATIENCE):
            while not self.written or len(self.proxy.live):
                await trio.sleep(0.005)
        await trio.sleep(0.01)
        assert len(self.written) == 1, self.written
        return self.written[0]


@asynccontextmanager
async def inbound_door(node: Node, application: int, *, protocol: str = "tcp") -> AsyncIterator[int]:
    """Guard the application's port; yields the mesh port. Policy knows the application by its real port."""
    inbound = Inbound(Address("127.0.0.1", 0), Address("127.0.0.1", application), protocol)
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(serve_inbound, inbound, node.proxy))
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def outbound_door(node: Node, destination: str, *, path: Path | None = None) -> AsyncIterator[int]:
    """Open a door to the destination's PORT; yields the local port."""
    outbound = Outbound(path or Address("127.0.0.1", 0), WorkloadName.parse(destination), PORT)
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(serve_outbound, outbound, node.proxy))
        nursery.cancel_scope.cancel()


Application = Callable[[PlainStream], Any]


@asynccontextmanager
async def application(handle: Application, *, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A plain TCP server; yields its port. Whatever breaks in a handler ends that connection only."""

    async def serve(stream: trio.SocketStream) -> None:
        plain = PlainStream(stream.socket)
        try:
            await handle(plain)
        except trio.BrokenResourceError:
            pass
        finally:
            plain.abort()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host=host))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def echo(stream: PlainStream) -> None:
    """Send back what comes, carry the end back too."""
    while data := await stream.receive_some():
        await stream.send_all(data)
    await stream.send_eof()
    await stream.aclose()


async def read_to_the_end(stream: PlainStream | TlsStream) -> bytes:
    """Everything up to the orderly end. Raises BrokenResourceError where there is none."""
    received = bytearray()
    while data := await stream.receive_some():
        received += data
    return bytes(received)


async def call(port: int, svid: Svid | None, bundle: TrustBundle, *, alpn: Sequence[bytes] = (ALPN_TCP,)) -> TlsStream:
    """Dial a mesh port and shake hands, as another sidecar would."""
    return await call_with(port, client_context(svid, bundle, alpn))


async def call_with(port: int, context: SSL.Context) -> TlsStream:
    """Dial a mesh port and shake hands with this context."""
    plain = await dial("127.0.0.1", port, deadline=PATIENCE)
    stream = TlsStream(plain.socket, context, server_side=False)
    try:
        await stream.do_handshake()
    except BaseException:
        stream.abort()
        raise
    return stream
