"""The door into the workload: mTLS from the mesh comes in, and what policy allows goes on to the application.

Each connection goes through these steps, in this order, and any of them may end it:

    accept          within the bounds, and only while there is a snapshot and a certificate of our own
    TLS             both sides show certificates; a plaintext caller goes on only where its namespace is permissive
    peer identity   verified by our own rules, not banned, and speaking the protocol that this port is for
    register        among the live connections, so that every later snapshot decides it again
    protocol        http: sidecar.http.inbound asks policy for every request
    decide          tcp: policy is asked once, here
    upstream        dial the application
    relay           both ways, until it ends
    record          one line, however it ended
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from ipaddress import ip_address

import trio
from attrs import frozen

from certs.errors import CertificateRefused
from certs.svid import Svid
from certs.tls import agreed_alpn, handshake_refusal, verified_peer
from certs.verify import Peer
from mesh.policy import Facts, Mtls, Reason, decide
from sidecar.accepting import Life, accept_until_draining, find_protocol, recorded, relay_counted
from sidecar.http.inbound import serve_http_inbound
from sidecar.live import LiveConnection
from sidecar.proxy import Proxy
from sidecar.refused import Refused
from sidecar.settings import Address, Inbound
from sidecar.upstream import connect_application
from sidecar.view import ALPN_HTTP, ALPN_TCP
from transport import BudgetClosed, NotTls, OverBudget, PlainStream, TlsFailed, TlsStream, listen
from transport.sockets import peername

DIRECTION = "inbound"

_ALPN = {"http": (ALPN_HTTP,), "tcp": (ALPN_TCP,), "auto": (ALPN_HTTP, ALPN_TCP)}


@frozen
class Caller:
    """Who called. `peer` and `not_after` (the earlier end of both certificates) are None for a plaintext caller."""

    stream: TlsStream | PlainStream
    peer: Peer | None
    not_after: datetime | None


async def serve_inbound(
    inbound: Inbound, proxy: Proxy, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve one guarded port until the proxy drains. Reports the port that was bound. Raises OSError at the start."""
    listeners = await listen(inbound.bind.host, inbound.bind.port)
    port = listeners[0].socket.getsockname()[1]
    proxy.listening.append(Address(inbound.bind.host, port))
    task_status.started(port)
    await accept_until_draining(listeners, partial(serve_caller, lambda _: inbound, proxy), proxy, DIRECTION)


async def serve_caller(
    find: Callable[[trio.socket.SocketType], Inbound], proxy: Proxy, sock: trio.socket.SocketType
) -> None:
    """Carry one accepted connection through all steps. `find` says which port it is for, or raises Refused."""
    with recorded(proxy, DIRECTION, "tcp") as life:
        life.record.destination = str(proxy.mesh.own)
        life.record.peer_address, _ = peername(sock)
        inbound = find(sock)
        life.record.port = inbound.port
        if inbound.protocol == "http":
            life.record.protocol = "http"
        caller = await _welcome(sock, inbound, proxy, life)
        try:
            with proxy.live.register(LiveConnection(caller.peer, not_after=caller.not_after)) as live:
                await _serve_caller(caller, inbound, proxy, life, live)
        finally:
            caller.stream.abort()  # does nothing where it was closed in order
        if live.ended:
            life.end(live.ended)


async def _serve_caller(caller: Caller, inbound: Inbound, proxy: Proxy, life: Life, live: LiveConnection) -> None:
    patience = proxy.limits.keep_alive_timeout
    protocol, first = await find_protocol(inbound.protocol, caller.stream, proxy, patience=patience)
    if protocol == "http":
        life.taken_over = True
        await serve_http_inbound(caller.stream, live, inbound, proxy, first)
        return
    life.record.protocol = "tcp"
    live.facts = Facts(
        to=proxy.mesh.workload,
        port=inbound.port,
        caller=caller.peer.id if caller.peer else None,
        address=ip_address(life.record.peer_address) if life.record.peer_address else None,
    )
    if _allowed(live.facts, proxy, life):
        application = await connect_application(proxy, inbound)
        await relay_counted(proxy, life, caller.stream, application, first)


def _allowed(facts: Facts, proxy: Proxy, life: Life) -> bool:
    """Ask policy about a raw TCP connection, by the snapshot of this moment, and write the answer down."""
    view, _ = proxy.mesh.current()
    decision, record = decide(view.rules, facts), life.record
    record.decided(decision, view.number)
    proxy.metrics.decision(DIRECTION, record.source, record.destination, decision.reason)
    if not decision.allowed:
        life.end(decision.reason)
    return decision.allowed


async def _welcome(sock: trio.socket.SocketType, inbound: Inbound, proxy: Proxy, life: Life) -> Caller:
    """Find out who calls, within the budget for those who have not said so. Raises Refused."""
    _, svid = proxy.mesh.known()  # the one that is shown: it may be renewed before the handshake has ended
    stream = TlsStream(sock, proxy.mesh.server_context(_ALPN[inbound.protocol]), server_side=True)
    try:
        with proxy.budget.claim(life.record.peer_address), trio.fail_after(proxy.limits.handshake_timeout):
            await stream.do_handshake(proxy.handshakes)
        return _identified(stream, svid, inbound, proxy, life)
    except BaseException as error:
        if isinstance(error, NotTls) and _permissive(proxy):
            return Caller(PlainStream(stream.detach()), None, None)
        refused = _translated(error, stream)
        if isinstance(error, TlsFailed):
            await stream.aclose()  # a close, not a reset: the alert that tells the caller why is still under way
        stream.abort()
        if refused is None:
            raise
        raise refused from None


def _identified(stream: TlsStream, svid: Svid, inbound: Inbound, proxy: Proxy, life: Life) -> Caller:
    """What the handshake proved, by our own rules (law 9). Raises CertificateRefused or Refused."""
    view, _ = proxy.mesh.current()
    connection = stream.connection
    peer = verified_peer(connection, view.bundle, proxy.mesh.now())
    life.record.source = str(peer.id)
    life.record.tls_group = connection.get_group_name() or ""
    if objection := view.objection(peer):
        raise Refused(objection, str(peer.id))
    if agreed_alpn(connection) not in _ALPN[inbound.protocol]:
        raise Refused(Reason.ALPN_MISMATCH, f"{peer.id} offered no protocol that port {inbound.port} speaks")
    return Caller(stream, peer, min(peer.not_after, svid.not_after))


def _permissive(proxy: Proxy) -> bool:
    """Whether plaintext callers may come as far as policy (law 13)."""
    view = proxy.mesh.view
    return view is not None and view.rules.defaults(proxy.mesh.workload.namespace).mtls is Mtls.PERMISSIVE


def _translated(error: BaseException, stream: TlsStream) -> Refused | None:
    """The reason code for what went wrong; None for what is none of the caller's doing, such as a cancellation."""
    match error:
        case OverBudget():
            return Refused(Reason.OVER_LIMIT, str(error))
        case BudgetClosed():
            return Refused(Reason.DRAINING, "the handshake had not ended when the drain began")
        case CertificateRefused():
            return Refused(Reason(error.code), str(error))
        case trio.TooSlowError():
            return Refused(Reason.DOWNSTREAM_TIMEOUT, "the TLS handshake did not end in time")
        case NotTls():
            return Refused(Reason.NOT_TLS, error.reason)
        case TlsFailed():
            if refusal := handshake_refusal(stream.connection):
                return Refused(Reason(refusal.code), str(refusal))
            return Refused(Reason.TLS_FAILED, error.reason)
        case trio.BrokenResourceError():
            return Refused(Reason.DOWNSTREAM_RESET, str(error))
    return None
