"""The admin API's second door: for operators, over TLS 1.3 with a client certificate `spiffe://<td>/operator/<name>`.

Accept -> budget -> TLS -> whose certificate is it? -> the same routes as on the Unix socket. A connection that has not
shown an operator's certificate holds a place in a budget of its own and lives for seconds (law 21). Whose connection it
is comes from its certificate, never from a request; whether that may still ask is looked up at every request, so a ban
or the certificate's end holds at once on open connections too (laws 2 and 10).
"""

import logging
from collections.abc import Sequence

import trio
from attrs import define, field, frozen
from starlette.types import ASGIApp, Receive, Scope, Send

from certs.bundle import root_fingerprint
from certs.errors import CertificateRefused
from certs.tls import verified_peer
from certs.verify import Peer
from control_plane.admin.backend import Backend, in_thread
from control_plane.admin.guard import guarded
from control_plane.admin.problems import Problem
from control_plane.admin.routes import application
from control_plane.log import fields
from control_plane.metrics import Metrics
from control_plane.push.ending import Ending
from control_plane.push.handshake import shake_hands
from control_plane.settings import Limits
from control_plane.store.errors import StoreError
from control_plane.tls_streams import ALPN, TlsStreams
from control_plane.web import Web
from transport import Budget, OverBudget, Places, TlsStream

PATIENCE = 60.0  # seconds for a request, and between two on one connection
RENEW = "get a new one with `doorward operator create`, as another operator or at the control plane's own socket"

log = logging.getLogger("doorward.operators")


@frozen
class Operator:
    """Who is at the other end, as its certificate says. No local user's name has a colon: see unix_socket."""

    peer: Peer

    @property
    def author(self) -> str:
        """The name under which its changes are kept; `doorward ban add` takes it as it is."""
        return f"operator:{self.peer.id.operator}"


@define(eq=False)
class OperatorsDoor:
    """Serves operators on given listeners."""

    backend: Backend
    metrics: Metrics
    limits: Limits
    _web: Web = field(init=False)
    _unauthenticated: Budget = field(init=False)
    _places: Places = field(init=False)
    _streams: TlsStreams = field(init=False, factory=TlsStreams)

    def __attrs_post_init__(self) -> None:
        limits = self.limits
        app = guarded(vetted(application(self.backend), self.backend, self.metrics))
        places = limits.operator_connections
        self._web = Web("operators", app, self.metrics, places, PATIENCE, limits.write_timeout)
        self._unauthenticated = Budget(limits.unauthenticated_links, limits.unauthenticated_links_per_address)
        self._places = Places(places + limits.unauthenticated_links)

    async def serve(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Accept until cancelled."""
        await self._streams.accept(self._web, listeners, self._handle, self._places)

    async def _handle(self, sock: trio.socket.SocketType) -> None:
        async with self._streams.over(sock, self.backend.authority.server_context(ALPN)) as stream:
            address = stream.peername[0]
            try:
                with self._unauthenticated.claim(address):
                    await shake_hands(stream, ALPN, seconds=self.limits.handshake_timeout, wanted="a doorward command")
                    operator = self._operator(stream)
                await self._web.answer(stream, sock, {"caller": operator}, self._places)
            except OverBudget as error:
                self._refused("over_budget", str(error), address)
            except Ending as ending:
                self._refused(ending.reason, str(ending), address)

    def _operator(self, stream: TlsStream) -> Operator:
        """Whose connection it is. Raises Ending."""
        try:
            peer = verified_peer(stream.connection, self.backend.authority.bundle, self.backend.clock())
        except CertificateRefused as error:
            raise Ending(error.code, str(error)) from None
        if peer.id.operator is None or peer.id.trust_domain != self.backend.trust_domain.name:
            raise Ending("no_operator", f"{peer.id} is no operator of the trust domain {self.backend.trust_domain}")
        return Operator(peer)

    def _refused(self, reason: str, detail: str, address: str) -> None:
        self.metrics.operators_refused.labels(reason).inc()
        log.warning("refused a connection", extra=fields(reason=reason, detail=detail, address=address))


def vetted(app: ASGIApp, backend: Backend, metrics: Metrics) -> ASGIApp:
    """`app` for operators that may ask now; the others are told why not, and their connection ends."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        operator: Operator = scope["state"]["caller"]
        problem = await objection(backend, operator.peer)
        if problem is None:
            await app(scope, receive, send)
            return
        metrics.operators_refused.labels(problem.error).inc()
        said = fields(reason=problem.error, detail=problem.message, identity=str(operator.peer.id))
        log.warning("refused a request", extra=said)
        response = problem.response()
        response.headers["connection"] = "close"
        await response(scope, receive, send)

    return checked


async def objection(backend: Backend, peer: Peer) -> Problem | None:
    """Why this operator may ask for nothing now; None where it may. A store that cannot be asked is a reason too."""
    if backend.clock() > peer.not_after:
        ended = f"the certificate of {peer.id} ended at {peer.not_after:%Y-%m-%d %H:%M:%S} UTC: {RENEW}"
        return Problem(403, "certificate_expired", ended)
    if peer.root not in {root_fingerprint(root) for root in backend.authority.bundle.all_roots}:
        return Problem(403, "unknown_issuer", f"the root of this certificate is no longer trusted: {RENEW}")
    try:
        ban = await in_thread(lambda: backend.store.banned(str(peer.id), f"serial:{peer.serial}"))
    except StoreError as error:
        return Problem(503, error.code, f"it cannot be looked up whether {peer.id} is banned: {error}")
    return (
        None if ban is None else Problem(403, "banned", f"{ban.subject} is banned: {ban.reason or 'no reason given'}")
    )
