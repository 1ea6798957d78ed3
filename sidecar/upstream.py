"""The far side of a connection: dial an endpoint of the mesh and make sure who answers, or dial the application.

The identity that must answer belongs to the endpoint that was dialled (law 5): a neighbour of the same service with
another identity is refused like any stranger.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import TypeVar

import trio
from attrs import frozen

from certs.errors import CertificateRefused
from certs.tls import agreed_alpn, handshake_refusal, verified_peer
from certs.verify import Peer
from mesh.policy.reasons import Reason
from mesh.wire import Endpoint
from sidecar.balance import choose
from sidecar.destination import Destination, VirtualDestination
from sidecar.proxy import Proxy
from sidecar.refused import UpstreamFailed
from sidecar.settings import Address, Inbound
from transport import ConnectFailed, ConnectRefused, ConnectTimeout, PlainStream, TlsFailed, TlsStream, dial, sockets

T = TypeVar("T")


@frozen
class Upstream:
    """An established connection into the mesh. `not_after` is the earlier end of the two certificates, `generation`
    that of the own certificate which was shown: pools look at both (laws 10, 19)."""

    stream: TlsStream
    peer: Peer
    endpoint: Endpoint
    generation: int
    not_after: datetime


async def connect_destination(
    proxy: Proxy, destination: Destination | VirtualDestination, connect: Callable[[Endpoint], Awaitable[T]]
) -> T:
    """What `connect` makes of an endpoint of the destination: the less loaded of two, another one where a dial fails.

    Nothing of the caller's was sent yet, so a new attempt is always safe. Raises UpstreamFailed, the last failure's,
    NO_ENDPOINT where nobody is there to be called, or NotReady.
    """
    view, _ = proxy.mesh.current()
    endpoints = destination.endpoints(view)
    failure = UpstreamFailed(Reason.NO_ENDPOINT, destination.absence)
    tried: list[Endpoint] = []
    while len(tried) < proxy.limits.dial_attempts and (endpoint := choose(endpoints, proxy.loads, tried=tried)):
        tried.append(endpoint)
        try:
            connected = await connect(endpoint)
        except UpstreamFailed as failed:
            failure = failed
            proxy.loads.failed(endpoint)
        else:
            proxy.loads.reached(endpoint)
            return connected
    raise failure


async def connect_mesh(proxy: Proxy, endpoint: Endpoint, alpn: Sequence[bytes]) -> Upstream:
    """Dial one endpoint, shake hands and verify that its identity answers. Raises UpstreamFailed or NotReady."""
    view, svid = proxy.mesh.current()
    generation, context = proxy.mesh.generation, proxy.mesh.client_context(tuple(alpn))
    plain = await _dial_endpoint(proxy, Address(endpoint.address, endpoint.mesh_port))
    stream = TlsStream(plain.socket, context, server_side=False)
    try:
        await _shake_hands(stream, proxy)
        peer = verified_peer(stream.connection, view.bundle, proxy.mesh.now())
        if str(peer.id) != endpoint.identity:
            raise UpstreamFailed(Reason.WRONG_SERVER_IDENTITY, f"wanted {endpoint.identity}, {peer.id} answered")
        if objection := (proxy.mesh.view or view).objection(peer):
            raise UpstreamFailed(objection, str(peer.id))
        if agreed_alpn(stream.connection) not in alpn:
            raise UpstreamFailed(Reason.ALPN_MISMATCH, f"{peer.id} speaks another protocol on this port")
    except CertificateRefused as refused:
        stream.abort()
        raise UpstreamFailed(Reason(refused.code), str(refused)) from None
    except BaseException:
        stream.abort()
        raise
    return Upstream(stream, peer, endpoint, generation, min(peer.not_after, svid.not_after))


async def connect_application(proxy: Proxy, inbound: Inbound) -> PlainStream:
    """Dial the local application. Raises UpstreamFailed, also where its name led back to a door of ours (law 7)."""
    stream = await dial_upstream(proxy, inbound.application, source=inbound.source)
    if any(_leads_to(stream, listener) for listener in proxy.listening):
        stream.abort()
        raise UpstreamFailed(Reason.UPSTREAM_REFUSED, f"{inbound.application} is a listener of this sidecar")
    return stream


def _leads_to(stream: PlainStream, listener: Address) -> bool:
    """Whether a dialled connection ends at that listener of this process.

    Asked of the kernel, since 127.1, 0.0.0.0 and any name in /etc/hosts are loopback too. To an address of its own a
    machine connects from that same address, or from loopback.
    """
    host, port = stream.peername
    if port != listener.port:
        return False
    bound = ip_address(listener.host)
    if not bound.is_unspecified:
        return host == sockets.plain_address(listener.host)
    own, *_ = stream.socket.getsockname()
    here = host == sockets.plain_address(own) or ip_address(host).is_loopback
    return here and ip_address(host).version == bound.version  # [::] of ours takes no IPv4


async def _dial_endpoint(proxy: Proxy, address: Address) -> PlainStream:
    """Where the endpoint is in this pod, nothing redirects the connection: so it goes to our own inbound port.

    Raises UpstreamFailed.
    """
    if proxy.settings.transparent and sockets.is_own(address.host):
        door = Address(address.host, proxy.settings.transparent_inbound_port)
        return await dial_upstream(proxy, door, meant=address)
    return await dial_upstream(proxy, address)


async def dial_upstream(
    proxy: Proxy, address: Address, *, source: str | None = None, meant: Address | None = None
) -> PlainStream:
    """Dial within --dial-timeout, from the local IP address `source` where it is given. Raises UpstreamFailed.

    `meant` is what sidecar.transparent finds as the original destination, where it is the one who accepts.
    """
    deadline, told = proxy.limits.dial_timeout, (meant.host, meant.port) if meant else None
    try:
        return await dial(
            address.host, address.port, deadline=deadline, source=source, dialled=proxy.dialled, meant=told
        )
    except ConnectRefused as error:
        raise UpstreamFailed(Reason.UPSTREAM_REFUSED, str(error)) from None
    except ConnectTimeout as error:
        raise UpstreamFailed(Reason.UPSTREAM_TIMEOUT, str(error)) from None
    except ConnectFailed as error:
        raise UpstreamFailed(Reason.UPSTREAM_UNREACHABLE, str(error)) from None


async def _shake_hands(stream: TlsStream, proxy: Proxy) -> None:
    """Raises UpstreamFailed, or CertificateRefused where OpenSSL already objected to the server's certificate."""
    try:
        with trio.fail_after(proxy.limits.handshake_timeout):
            await stream.do_handshake(proxy.handshakes)
    except trio.TooSlowError:
        raise UpstreamFailed(Reason.UPSTREAM_TIMEOUT, "the TLS handshake did not end in time") from None
    except TlsFailed as failed:
        refusal = handshake_refusal(stream.connection)
        await stream.aclose()  # a close, not a reset: the alert that tells the server why is still under way
        raise refusal or UpstreamFailed(Reason.TLS_FAILED, failed.reason) from None
    except trio.BrokenResourceError as error:
        raise UpstreamFailed(Reason.UPSTREAM_RESET, f"in the TLS handshake: {error}") from None
