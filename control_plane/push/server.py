"""The push server: accept -> TLS -> who is it? -> a session, or the short visit of somebody who has no certificate yet.

A connection that has shown no certificate holds a place in a budget of its own, in total and per address, and lives for
seconds (law 21). With a certificate it is checked by all of our rules before its first byte is believed, gives the
place back, and becomes a link. Whatever goes wrong costs that one connection, one line in the log and one count.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack

import trio
from attrs import define, field

from certs.errors import CertificateMissing, CertificateRefused
from certs.tls import verified_peer
from certs.verify import Peer
from control_plane.log import fields
from control_plane.push.attest import Attestor
from control_plane.push.conversation import Conversation
from control_plane.push.ending import Ending
from control_plane.push.handshake import shake_hands
from control_plane.push.links import Link
from control_plane.push.office import Office
from control_plane.push.session import Session
from control_plane.push.visit import Visit, greet
from mesh.wire import ALPN, MAX_FRAME_TO_CONTROL_PLANE, Hello, Nack
from transport import Budget, OverBudget, Places, TlsStream, serve

GOODBYE_SECONDS = 0.5
MAX_FRAME_OF_A_VISITOR = 32 * 1024  # a Hello, or a CSR and a token

EXPECTED = frozenset({"closed", "superseded", "stopped"})
"""How a link ends where nothing is wrong."""

log = logging.getLogger("doorward.push")


@define(eq=False)
class PushServer:
    """Serves sidecars on given listeners. One per control plane."""

    office: Office
    _attestor: Attestor = field(init=False)
    _unauthenticated: Budget = field(init=False)

    def __attrs_post_init__(self) -> None:
        limits = self.office.limits
        self._attestor = Attestor(self.office)
        self._unauthenticated = Budget(limits.unauthenticated_links, limits.unauthenticated_links_per_address)
        self.office.metrics.links.set_function(lambda: len(self.office.links))
        self.office.metrics.unauthenticated_links.set_function(lambda: self._unauthenticated.taken)

    async def serve(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Accept until cancelled, then end every link."""
        limits = self.office.limits
        places = Places(limits.links + limits.unauthenticated_links)
        async with trio.open_nursery() as nursery:
            await serve(listeners, self._handle, nursery=nursery, places=places, on_error=self._unforeseen)

    async def _handle(self, sock: trio.socket.SocketType) -> None:
        context = self.office.authority.server_context(ALPN, client_certificate=False)  # a visitor has none yet
        stream = TlsStream(sock, context, server_side=True)
        address = stream.peername[0]
        try:
            with ExitStack() as unauthenticated:
                unauthenticated.enter_context(self._unauthenticated.claim(address))
                await shake_hands(stream, ALPN, seconds=self.office.limits.handshake_timeout, wanted="a sidecar")
                peer = self._peer(stream)
                if peer is not None:
                    unauthenticated.close()
                    await self._serve_link(stream, peer)
                else:
                    await self._serve_visitor(stream)
        except OverBudget as error:
            self._refused("over_budget", str(error), address)
        except Ending as ending:
            self._refused(ending.reason, str(ending), address)
            await self._say(stream, ending)
        finally:
            with trio.move_on_after(GOODBYE_SECONDS, shield=True):  # also when this program stops: an end, no reset
                await stream.aclose()

    def _peer(self, stream: TlsStream) -> Peer | None:
        """Whom the link's certificate proves; None where it has none. Raises Ending."""
        try:
            peer = verified_peer(stream.connection, self.office.authority.bundle, self.office.clock())
        except CertificateMissing:
            return None
        except CertificateRefused as error:
            raise Ending(error.code, str(error), Nack("Link", error.code, str(error))) from None
        if peer.id.workload is None or peer.id.trust_domain != self.office.trust_domain.name:
            message = f"{peer.id} is no workload of the trust domain {self.office.trust_domain}"
            raise Ending("no_workload", message, Nack("Link", "no_workload", message))
        objection = self.office.objection(peer)
        if objection is not None:
            raise Ending(objection.code, objection.message, objection)
        return peer

    async def _serve_visitor(self, stream: TlsStream) -> None:
        conversation = self._conversation(stream, MAX_FRAME_OF_A_VISITOR)
        await Visit(self.office, self._attestor, conversation, stream.peername[0]).hold()

    async def _serve_link(self, stream: TlsStream, peer: Peer) -> None:
        if len(self.office.links) >= self.office.limits.links:
            raise Ending("too_many_links", f"{self.office.limits.links} sidecars are connected")
        conversation = self._conversation(stream, MAX_FRAME_TO_CONTROL_PLANE)
        seconds = self.office.limits.hello_timeout
        hello = await greet(conversation, instance=self.office.instance, seconds=seconds)
        link = self._link(stream, peer, hello)
        session = Session(self.office, self._attestor, link, conversation)
        self.office.links.add(link)
        log.info("a sidecar is connected", extra=self._said(link))
        ending = Ending("failed", "an error that nobody foresaw: see the next line")
        try:
            ending = await session.hold()
        except Exception:
            raise  # the wall around the link logs it
        except BaseException:  # cancelled: trio.Cancelled, or a group of them
            ending = Ending("stopped", "the control plane stops")
            raise
        finally:
            self.office.links.remove(link)
            self.office.metrics.links_ended.labels(ending.reason).inc()
            level = logging.INFO if ending.reason in EXPECTED else logging.WARNING
            log.log(level, "a link ended", extra=self._said(link, reason=ending.reason, detail=str(ending)))
        await self._say(stream, ending)

    @staticmethod
    def _said(link: Link, **more: object) -> dict[str, dict[str, object]]:
        identity = str(link.identity)
        return fields(identity=identity, instance=link.instance, address=link.address, software=link.version, **more)

    def _link(self, stream: TlsStream, peer: Peer, hello: Hello) -> Link:
        return Link(
            peer=peer,
            instance=hello.instance,
            address=stream.peername[0],
            version=hello.software,
            connected_since=self.office.clock(),
        )

    def _conversation(self, stream: TlsStream, limit: int) -> Conversation:
        return Conversation(stream, limit=limit, write_timeout=self.office.limits.write_timeout)

    async def _say(self, stream: TlsStream, ending: Ending) -> None:
        """The last word, where there is one."""
        if ending.last_word is not None:
            await self._conversation(stream, MAX_FRAME_OF_A_VISITOR).end_with(ending.last_word)

    def _refused(self, reason: str, detail: str, address: str) -> None:
        self.office.metrics.links_refused.labels(reason).inc()
        log.warning("refused a connection", extra=fields(reason=reason, detail=detail, address=address))

    def _unforeseen(self, error: Exception) -> None:
        self.office.metrics.failures.labels("push").inc()
        log.error("a connection failed in a way that nobody foresaw", exc_info=error)
