"""Transparent mode: connections that netfilter redirected here go where their callers meant them to go.

`doorward-sidecar redirect` makes the rules. Each connection begins with the same question, "what did the caller dial?",
and goes on as at an explicit door:

    inbound     from outside the pod: the application's port that was dialled -> sidecar.inbound
    outbound    from the application: the address that it dialled -> a workload or service of the mesh
                -> sidecar.outbound, or a destination outside it -> in plaintext as it is, where egress allows that

What was not redirected, leads to this sidecar itself, or is a connection of its own is refused (law 7).
"""

from functools import partial
from ipaddress import ip_address
from typing import Final

import trio

from mesh.policy.reasons import Reason
from sidecar import inbound, log, outbound
from sidecar.accepting import Life, accept_until_draining, recorded, relay_counted
from sidecar.destination import find_destination
from sidecar.live import LiveConnection
from sidecar.proxy import Proxy
from sidecar.refused import Refused
from sidecar.settings import Address, Inbound
from sidecar.upstream import dial_upstream
from transport import PlainStream, listen_on_both, original_destination
from transport.sockets import peername

# REDIRECT leads what comes from outside to an address of its interface, and what comes from here to loopback.
INBOUND_HOSTS: Final = ("0.0.0.0", "::")  # noqa: S104  # the pod's addresses, which are not known beforehand
OUTBOUND_HOSTS: Final = ("127.0.0.1", "::1")

_AS_WHOM: Final = "run the sidecar as the user that `doorward-sidecar redirect --sidecar-uid` names"


async def serve_transparent_inbound(
    proxy: Proxy, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve connections that were redirected on their way in, until the proxy drains. Raises OSError at the start."""
    listeners = await _listen(proxy, INBOUND_HOSTS, proxy.settings.transparent_inbound_port)
    task_status.started()
    handler = partial(inbound.serve_caller, partial(_meant, proxy), proxy)
    await accept_until_draining(listeners, handler, proxy, inbound.DIRECTION)


async def serve_transparent_outbound(
    proxy: Proxy, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve connections that were redirected on their way out, until the proxy drains. Raises OSError at the start."""
    listeners = await _listen(proxy, OUTBOUND_HOSTS, proxy.settings.transparent_outbound_port)
    task_status.started()
    await accept_until_draining(listeners, partial(_serve_outbound, proxy), proxy, outbound.DIRECTION)


async def _listen(proxy: Proxy, hosts: tuple[str, str], port: int) -> list[trio.SocketListener]:
    listeners = await listen_on_both(*hosts, port)
    proxy.listening.extend(Address(*listener.socket.getsockname()[:2]) for listener in listeners)
    return listeners


def _meant(proxy: Proxy, sock: trio.socket.SocketType) -> Inbound:
    """The application's port that the caller dialled. Raises Refused.

    The application is dialled from its own address: so it has to be one of this machine's, and what listens on
    loopback only, or trusts who comes from there, stays out of reach (law 7). A call of this pod to itself was not
    redirected: our own outbound side says what it was meant for.
    """
    from_here = proxy.dialled.meant((peername(sock), sock.getsockname()[:2]))
    original = Address(*from_here) if from_here else _original(sock)
    if ip_address(original.host).is_loopback:
        raise Refused(Reason.NO_ORIGINAL_DESTINATION, f"{original} is out of reach for other pods")
    if explicit := next((each for each in proxy.settings.inbound if _is_for(each, original)), None):
        return explicit
    protocol = next((each.protocol for each in proxy.settings.ports if each.port == original.port), "auto")
    bind = Address(*sock.getsockname()[:2])
    return Inbound(bind, original, protocol, source=original.host)


def _is_for(inbound: Inbound, original: Address) -> bool:
    """Whether an explicit listener was dialled: the rules capture its connections as they do the application's."""
    if inbound.bind.port != original.port:
        return False
    bound, dialled = ip_address(inbound.bind.host), ip_address(original.host)
    return bound == dialled or (bound.is_unspecified and bound.version == dialled.version)


async def _serve_outbound(proxy: Proxy, sock: trio.socket.SocketType) -> None:
    with recorded(proxy, outbound.DIRECTION, "tcp") as life, outbound.called_by(sock, proxy, life) as caller:
        original = _original(sock)
        life.record.original, life.record.port = str(original), original.port
        if (peername(sock), (original.host, original.port)) in proxy.dialled:
            log.error("a connection of the sidecar's own was redirected back to it", to=original, advice=_AS_WHOM)
            raise Refused(Reason.REDIRECT_LOOP, _AS_WHOM)
        with proxy.live.register(LiveConnection(None)) as live:
            view, _ = proxy.mesh.current()
            destination = find_destination(original, view, proxy.settings)
            if destination is None:
                live.plaintext_to = original.host
                life.record.snapshot = view.number
                await _pass_through(caller, original, proxy, life)
        if destination is not None and not live.ended:
            await outbound.carry(caller, destination, proxy, life)
        if live.ended:
            life.end(live.ended)


async def _pass_through(caller: PlainStream, original: Address, proxy: Proxy, life: Life) -> None:
    """Relay to a destination outside the mesh as it is: no identity is shown, and none is known."""
    record = life.record
    record.allowed, record.reason = True, Reason.EGRESS_ALLOWED
    proxy.metrics.decision(record.direction, record.source, "", Reason.EGRESS_ALLOWED)
    upstream = await dial_upstream(proxy, original)
    try:
        await relay_counted(proxy, life, caller, upstream, b"")
    finally:
        upstream.abort()  # does nothing where it was closed in order


def _original(sock: trio.socket.SocketType) -> Address:
    """What the caller of an accepted connection dialled. Raises Refused."""
    original = original_destination(sock)
    if original is None or original == tuple(sock.getsockname()[:2]):
        raise Refused(Reason.NO_ORIGINAL_DESTINATION, "it came straight to the port that takes redirected connections")
    return Address(*original)
