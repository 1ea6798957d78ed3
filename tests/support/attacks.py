"""What hostile peers have in common: crowds of sockets, honest callers who go on meanwhile, and what it may cost.

shop = await open_shop(mesh, application)
async with surviving(shop.payments, memory=64 * MIB), going_on(shop.call):
    ...                                             the attack, which ends within the block
"""

import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import trio
from attrs import define, frozen

from certs.authority import Authority
from certs.bundle import TrustBundle
from certs.svid import Svid
from certs.tls import client_context
from examples.demo.local_mesh import LocalMesh, Process, Sidecar
from tests.support.applications import Application, exchange, get
from tests.support.pki import Pki
from tests.support.policies import allow
from tests.support.processes import Growth, descriptors
from transport import TlsStream, dial

DESTINATION = "shop/payments:8080"
PATIENCE = 60.0  # seconds for one honest call: nothing is that slow, also on a busy machine
SPARE_DESCRIPTORS = 24  # a pooled connection, a page that is being read
IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h: the port is chosen when it is known where the connection leads
TCP_REPAIR = 19  # linux/tcp.h: what happens to the socket is not told to the other end
BATCH = 250  # connections opened before the listener gets a moment: a full queue of its would lose them
UNIX_BATCH = 50  # the same, to a Unix socket


@frozen
class Shop:
    """shop/checkout may call shop/payments, which guards an application, by any request."""

    mesh: LocalMesh
    payments: Sidecar
    checkout: Sidecar

    @property
    def mesh_port(self) -> str:
        """Where mTLS arrives."""
        return self.payments.inbound[8080]

    @property
    def local_port(self) -> str:
        """Where plaintext of checkout's own application arrives."""
        return self.checkout.outbound[DESTINATION]

    @property
    def bundle(self) -> TrustBundle:
        return TrustBundle.from_pem((self.mesh.directory / "bundle.pem").read_bytes())

    def svid(self, workload: str = "shop/checkout") -> Svid:
        """A good certificate of the mesh's own CA."""
        state = self.mesh.state
        issuer = Authority.load((state / "issuer.key").read_bytes(), (state / "issuer.pem").read_bytes())
        pki = Pki()
        return pki.forge(pki.template(workload), by=issuer)

    async def call(self) -> None:
        """One honest request, on a connection of its own."""
        answer = await exchange(self.local_port, get("/"), seconds=PATIENCE)
        assert answer.startswith(b"HTTP/1.1 200 "), answer

    async def direct(self, address: str, alpn: bytes) -> TlsStream:
        """A connection to `address` with checkout's identity."""
        host, _, port = address.rpartition(":")
        plain = await dial(host, int(port), deadline=PATIENCE)
        stream = TlsStream(plain.socket, client_context(self.svid(), self.bundle, [alpn]), server_side=False)
        with trio.fail_after(PATIENCE):
            await stream.do_handshake()
        return stream


async def open_shop(mesh: LocalMesh, application: Application, *options: str, call: bool = True) -> Shop:
    """Both sidecars, with these options, and the policy that lets one call the other; tried once where `call`."""
    guarded = f"127.0.0.1:0=127.0.0.1:{application.port}/http,port=8080"
    payments = await mesh.start_sidecar("shop/payments", *options, inbound=[guarded])
    checkout = await mesh.start_sidecar("shop/checkout", *options, outbound=[f"127.0.0.1:0={DESTINATION}"])
    await allow(mesh, "checkout", "payments", 8080)
    shop = Shop(mesh, payments, checkout)
    if call:
        await shop.call()
    return shop


@asynccontextmanager
async def surviving(process: Process, *, memory: int) -> AsyncIterator[Growth]:
    """Within the block the process lives, and grows by at most `memory` bytes; soon after it, it holds no more
    descriptors than before."""
    before, grown = descriptors(process), Growth.of(process)
    yield grown
    assert process.popen.poll() is None, process.tail()
    assert grown.bytes < memory, f"{process.name} grew by {grown.bytes / 2**20:.1f} MiB"
    with trio.move_on_after(PATIENCE):
        while descriptors(process) > before + SPARE_DESCRIPTORS:
            await trio.sleep(0.05)
    assert descriptors(process) <= before + SPARE_DESCRIPTORS


@define
class Honest:
    """How often honest callers were served."""

    served: int = 0

    async def go_on(self, more: int = 10) -> None:
        """Return after so many further calls."""
        wanted = self.served + more
        with trio.fail_after(PATIENCE):
            while self.served < wanted:
                await trio.sleep(0.01)


@asynccontextmanager
async def going_on(*calls: Callable[[], Awaitable[object]]) -> AsyncIterator[Honest]:
    """Make each of these calls again and again for as long as the block lasts; whatever one raises fails the test.

    In the end each was made at least once more, after the block.
    """
    honest = Honest()

    async def repeat(call: Callable[[], Awaitable[object]]) -> None:
        while True:
            with trio.fail_after(PATIENCE):
                await call()
            honest.served += 1
            await trio.sleep(0.02)

    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(repeat, call)
        yield honest
        nursery.cancel_scope.cancel()
    for call in calls:
        await call()


@contextmanager
def crowd(
    address: str,
    count: int,
    *,
    said: bytes = b"",
    sources: Sequence[str] = ("127.0.0.1",),
    leave: Callable[[socket.socket], object] = socket.socket.close,
) -> Iterator[list[socket.socket]]:
    """Up to `count` connections to `address` (HOST:PORT, or the path of a Unix socket), from these addresses in turn.

    Each says `said`, and then nothing, until it ends by `leave`. Nobody is waited for: one may be refused or still be
    under way.
    """
    sockets: list[socket.socket] = []
    try:
        for number in range(count):
            if not number % (UNIX_BATCH if address.startswith("/") else BATCH):
                time.sleep(0.05)
            sockets.append(_caller(address, sources[number % len(sources)]))
            with suppress(OSError):
                sockets[-1].send(said)
        yield sockets
    finally:
        for each in sockets:
            leave(each)


@asynccontextmanager
async def crowding(
    address: str,
    count: int,
    *,
    said: bytes = b"",
    sources: Sequence[str] = ("127.0.0.1",),
    leave: Callable[[socket.socket], object] = socket.socket.close,
) -> AsyncIterator[list[socket.socket]]:
    """As crowd(), opened in a thread: this one goes on."""
    manager = crowd(address, count, said=said, sources=sources, leave=leave)
    sockets = await trio.to_thread.run_sync(manager.__enter__)
    try:
        yield sockets
    finally:
        manager.__exit__(None, None, None)


def vanish(sock: socket.socket) -> None:
    """Leave without a word, as a machine does that loses its power: no FIN, no RST. Needs CAP_NET_ADMIN."""
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    sock.close()


def _caller(address: str, source: str) -> socket.socket:
    unix = address.startswith("/")
    sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    sock.setblocking(False)
    if unix:
        with suppress(BlockingIOError):
            sock.connect(address)
        return sock
    host, _, port = address.rpartition(":")
    sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)  # else a crowd takes ports that others listen at
    sock.bind((source, 0))
    sock.connect_ex((host, int(port)))
    return sock


def local_addresses(count: int) -> list[str]:
    """Addresses of this machine's loopback besides 127.0.0.1."""
    return [f"127.0.1.{number + 1}" for number in range(count)]
