"""The door out of the workload: plaintext from the local application comes in, and goes on over mTLS into the mesh.

    accept      a loopback port, or a Unix socket that only the application's user can open (law 22)
    protocol    as the destination declares it; with no endpoint known the first bytes tell how to say so
    upstream    one of two random endpoints, another one where the dial fails; its identity is verified (law 5)
    register    among the live connections: a ban of the server or its root ends them too
    relay       both ways, until it ends; http: sidecar.http.outbound
    record      one line, however it ended

Whether the call is allowed is decided by the sidecar of the one who is called, never here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from mesh.wire import Endpoint
from sidecar import log
from sidecar.accepting import Life, accept_until_draining, find_protocol, recorded, relay_counted
from sidecar.destination import Destination, VirtualDestination
from sidecar.http.outbound import serve_http_outbound
from sidecar.live import LiveConnection
from sidecar.proxy import Proxy
from sidecar.refused import Refused
from sidecar.settings import Address, Outbound
from sidecar.upstream import Upstream, connect_destination, connect_mesh
from sidecar.view import ALPN_TCP
from transport import PlainStream, listen, unix_listener

DIRECTION = "outbound"
FORM_PATIENCE = 1.0  # seconds for first bytes that only tell in which form a failure is to be said


async def serve_outbound(
    outbound: Outbound, proxy: Proxy, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve one door into the mesh until the proxy drains. Reports the port that was bound, 0 for a Unix socket.

    Raises OSError at the start: in use, or (transport.SocketTaken) not ours to replace.
    """
    handler = partial(_serve, Destination.of(outbound), proxy)
    if isinstance(outbound.bind, Path):
        with unix_listener(outbound.bind) as listener:
            task_status.started(0)
            await accept_until_draining([listener], handler, proxy, DIRECTION)
        return
    listeners = await listen(outbound.bind.host, outbound.bind.port)
    port = listeners[0].socket.getsockname()[1]
    proxy.listening.append(Address(outbound.bind.host, port))
    log.warning(
        "every local user can speak as this workload through a TCP port",
        address=str(outbound.bind),
        advice="use --outbound unix:PATH where other users share this machine",
    )
    task_status.started(port)
    await accept_until_draining(listeners, handler, proxy, DIRECTION)


async def _serve(destination: Destination, proxy: Proxy, sock: trio.socket.SocketType) -> None:
    with recorded(proxy, DIRECTION, "tcp") as life, called_by(sock, proxy, life) as caller:
        await carry(caller, destination, proxy, life)


@contextmanager
def called_by(sock: trio.socket.SocketType, proxy: Proxy, life: Life) -> Iterator[PlainStream]:
    """The local application as a stream, which ends with the block; the record says who talks."""
    caller = PlainStream(sock)
    life.record.source, life.record.peer_address = str(proxy.mesh.own), caller.peername[0]
    try:
        yield caller
    finally:
        caller.abort()  # does nothing where it was closed in order


async def carry(caller: PlainStream, destination: Destination | VirtualDestination, proxy: Proxy, life: Life) -> None:
    """Carry the application's connection to what it meant in the mesh, until it ends. Raises Refused."""
    life.record.port = destination.port
    life.record.destination = destination.name(proxy.settings.trust_domain)
    protocol, first = await _protocol(caller, destination, proxy)
    if protocol == "http":
        life.taken_over = True
        await serve_http_outbound(caller, destination, proxy, first)
        return
    await _carry_tcp(caller, destination, proxy, life, first)


async def _carry_tcp(
    caller: PlainStream, destination: Destination | VirtualDestination, proxy: Proxy, life: Life, first: bytes
) -> None:
    async def connect(endpoint: Endpoint) -> Upstream:
        life.record.destination = endpoint.identity
        return await connect_mesh(proxy, endpoint, (ALPN_TCP,))

    upstream = await connect_destination(proxy, destination, connect)
    try:
        life.record.allowed = True
        life.record.snapshot = proxy.mesh.view.number if proxy.mesh.view else None
        life.record.tls_group = upstream.stream.connection.get_group_name() or ""
        connection = LiveConnection(upstream.peer, not_after=upstream.not_after)
        with proxy.live.register(connection) as live, proxy.loads.calling(upstream.endpoint):
            await relay_counted(proxy, life, caller, upstream.stream, first)
    finally:
        upstream.stream.abort()  # does nothing where it was closed in order
    if live.ended:
        life.end(live.ended)


async def _protocol(
    caller: PlainStream, destination: Destination | VirtualDestination, proxy: Proxy
) -> tuple[str, bytes]:
    """The protocol of the destination, as it is declared, and what was read to learn it. Raises Refused."""
    view = proxy.mesh.view
    if declared := destination.protocol(view) if view else None:
        return await find_protocol(declared, caller, proxy, patience=proxy.limits.keep_alive_timeout)
    try:  # nobody is there to be called: HTTP is told so by a 503, anything else by a reset
        return await find_protocol("auto", caller, proxy, patience=FORM_PATIENCE)
    except Refused:
        return "tcp", b""
