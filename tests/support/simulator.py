"""A control plane that a test can script: the real messages on any stream, over real TLS or in memory.

It keeps the rules that a sidecar relies on (a token for one workload, renewal by the link's certificate, a snapshot
after Announce) and writes down everything that it was told, in order, and under which certificate.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import trio
import trio.testing
from attrs import define, evolve, field

from certs.bundle import TrustBundle
from certs.csr import read_csr
from certs.spiffe import SpiffeId, WorkloadName
from certs.svid import Svid
from certs.tls import server_context, verified_peer
from mesh.wire import (
    ALPN,
    MAX_FRAME_TO_CONTROL_PLANE,
    Announce,
    Certificate,
    CertificateRequest,
    Endpoint,
    FrameDecoder,
    Hello,
    Message,
    Nack,
    Ping,
    Pong,
    Snapshot,
    decode,
    encode,
    snapshot_hash,
)
from sidecar.channel import Channel, LinkFailed
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from transport import Places, TlsStream, serve

WORKLOAD = WorkloadName("shop", "checkout")
TOKEN = "dwt_the-right-one"


@define(eq=False)
class Link:
    """One connection as the simulator sees it."""

    stream: trio.abc.Stream
    peer: SpiffeId | None
    messages: list[Any] = field(factory=list)

    async def send(self, message: Message) -> None:
        await self.stream.send_all(encode(message))

    def said(self, kind: type) -> list[Any]:
        """The messages of one type that came over this link."""
        return [message for message in self.messages if isinstance(message, kind)]


@define(eq=False)
class Simulator:
    """The scriptable control plane. Change its fields while it runs."""

    pki: Pki = field(factory=Pki)
    svid: Svid = field(default=None)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    tokens: dict[str, WorkloadName] = field(factory=lambda: {TOKEN: WORKLOAD})
    lifetime: timedelta = timedelta(hours=1)
    snapshot: Snapshot | None = None
    refusal: Nack | None = None  # what every certificate request is answered, where set
    mute: bool = False  # receives and says nothing
    away: bool = False  # refuses connections (in memory)
    links: list[Link] = field(factory=list)
    alpn: bytes = ALPN

    def __attrs_post_init__(self) -> None:
        self.svid = self.svid or self.pki.control_plane_svid()

    def messages(self, kind: type) -> list[Any]:
        """Everything of one type that was ever said, over all links."""
        return [message for link in self.links for message in link.said(kind)]

    async def until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until a condition holds."""
        with trio.fail_after(seconds):
            while not condition():
                await trio.sleep(0.01)

    async def listen(self, nursery: trio.Nursery) -> int:
        """Serve over real TLS on a free port of loopback, and return it."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        places = Places(100)
        errors: list[Exception] = []

        async def accept() -> None:
            await serve(listeners, self._accept, nursery=nursery, places=places, on_error=errors.append)

        nursery.start_soon(accept)
        return int(listeners[0].socket.getsockname()[1])

    async def _accept(self, sock: trio.socket.SocketType) -> None:
        context = server_context(self.svid, self.pki.bundle, [self.alpn], client_certificate=False)
        stream = TlsStream(sock, context, server_side=True)
        try:
            await stream.do_handshake()
            shown = stream.connection.get_peer_certificate() is not None
            peer = verified_peer(stream.connection, self.pki.bundle, self.clock()).id if shown else None
            await self.hold(Link(stream, peer))
        except trio.BrokenResourceError:
            return
        finally:
            stream.abort()

    async def hold(self, link: Link) -> None:
        """Serve one link until the sidecar ends it."""
        self.links.append(link)
        frames = FrameDecoder(MAX_FRAME_TO_CONTROL_PLANE)
        try:
            while data := await link.stream.receive_some():
                for payload in frames.feed(bytes(data)):
                    message = decode(payload)
                    link.messages.append(message)
                    if not self.mute:
                        await self._take(link, message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def _take(self, link: Link, message: object) -> None:
        match message:
            case Hello():
                await link.send(Hello(1, "simulator", "one"))
            case CertificateRequest():
                await link.send(self.refusal or self._certificate(message, link.peer))
            case Announce() if self.snapshot is not None:
                await link.send(self.snapshot)
            case Ping(number):
                await link.send(Pong(number))

    def _certificate(self, request: CertificateRequest, peer: SpiffeId | None) -> Certificate | Nack:
        if request.token is not None:
            workload = self.tokens.get(request.token)
            if workload is None:
                return Nack("CertificateRequest", "token_unknown", "no such token")
            identity = workload.in_domain(self.pki.domain)
        elif peer is not None:
            identity = peer
        else:
            return Nack("CertificateRequest", "not_attested", "a token is needed")
        key = read_csr(request.csr)
        chain = self.pki.intermediate.issue(key, identity, now=self.clock(), lifetime=self.lifetime)
        return Certificate(Svid(None, chain).chain_der(), self.pki.bundle.to_der())  # type: ignore[arg-type]  # no key needed

    async def push(self, snapshot: Snapshot) -> None:
        """Send a snapshot over the newest link, and after every later Announce."""
        self.snapshot = snapshot
        await self.links[-1].send(snapshot)


@define(eq=False)
class InMemory:
    """The sidecar's way to a Simulator without a socket, for virtual time. Implements sidecar.link.Connects."""

    simulator: Simulator
    nursery: trio.Nursery
    attempts: list[float] = field(factory=list)
    refuses: Svid | None = None  # as TLS refuses a certificate whose root is gone
    abruptly: bool = False  # with a reset, which overtakes the alert

    async def connect(self, svid: Svid | None, learnt: TrustBundle | None) -> Channel:
        self.attempts.append(trio.current_time())
        if self.simulator.away:
            raise LinkFailed("unreachable", "the control plane is away")
        if svid is not None and svid is self.refuses:
            if self.abruptly:
                ours, theirs = trio.testing.memory_stream_pair()
                await theirs.aclose()
                return Channel(ours, self.simulator.pki.bundle)
            raise LinkFailed("refused", "unknown ca")
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.simulator.hold, Link(theirs, svid.id if svid else None))
        return Channel(ours, learnt or self.simulator.pki.bundle)


def allow(name: str = "frontend-calls-checkout", caller: str = "frontend", **spec: Any) -> dict[str, Any]:
    """An allow policy for shop/checkout."""
    return {
        "apiVersion": "doorward.dev/v1",
        "kind": "AllowPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"to": {"workload": "checkout", "ports": [8080]}, "from": [{"workload": caller}], **spec},
    }


def snapshot(
    pki: Pki,
    number: int = 1,
    *policies: dict[str, Any],
    epoch: str = "first",
    endpoints: tuple[Endpoint, ...] = (),
    bans: tuple[str, ...] = (),
) -> Snapshot:
    """A snapshot with a right hash."""
    made = Snapshot(epoch, number, "?", policies, endpoints, bans, pki.bundle.to_der())
    return evolve(made, hash=snapshot_hash(made))
