"""Announce in, leases out: a sidecar registers addresses for its own identity only (law 3).

An address is the sidecar's own where it equals the address that its link comes from. Any other is dialled back: what
answers there must prove the same SVID over TLS, as a sidecar's listener does. Leases are renewed for as long as the
link lives and end by running out, never because a link dropped (law 4); an Announce without listeners gives them up.
"""

import ipaddress
import logging
from ipaddress import IPv4Address, IPv6Address

import trio
from attrs import define, field

from certs.errors import CertificateRefused, SpiffeIdMalformed
from certs.spiffe import WorkloadName
from certs.tls import agreed_alpn, client_context, verified_peer
from control_plane.log import fields
from control_plane.push.links import Link
from control_plane.push.office import Office, in_thread
from control_plane.store.errors import LeaseRefused, StoreError
from control_plane.store.records import Lease
from mesh.wire import EVERY_DESTINATION, Announce, Listener, Nack
from transport import ConnectFailed, TlsStream, dial

ABOUT = "Announce"
MESH_ALPN = (b"doorward-http/1", b"doorward-tcp/1")
"""What a sidecar's listener speaks to other sidecars."""

PROOFS_PER_LINK = 4  # addresses of one link that are dialled at the same time, so that others get their turn

Address = IPv4Address | IPv6Address

log = logging.getLogger("doorward.registry")


class AnnounceRefused(Exception):
    """The announcement is not registered. `code` is for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def check_destinations(announce: Announce) -> None:
    """Each destination is `<namespace>/<workload>:<port>` or EVERY_DESTINATION. Raises AnnounceRefused."""
    for destination in announce.destinations:
        if destination == EVERY_DESTINATION:
            continue
        workload, _, port = destination.rpartition(":")
        try:
            WorkloadName.parse(workload)
        except SpiffeIdMalformed as error:
            raise AnnounceRefused("bad_destination", str(error)) from None
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
            raise AnnounceRefused("bad_destination", f"{destination[:80]!r}: write namespace/workload:port")


@define(eq=False)
class Registration:
    """What one link has announced, and which of its addresses have proved to be its own."""

    office: Office
    link: Link
    _proved: set[tuple[str | None, int]] = field(factory=set)
    _renewing: trio.Lock = field(factory=trio.Lock)
    _proofs: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(PROOFS_PER_LINK))

    async def renew(self) -> Nack | None:
        """Lease every listener that may be registered; a Nack says which may not, and why."""
        async with self._renewing:
            return await self._renew()

    async def _renew(self) -> Nack | None:
        announce = self.link.announced
        assert announce is not None
        if not self.link.answered and any(map(self._needs_proof, announce.listeners)):
            return None  # before its first snapshot it refuses everyone; its first answer to one brings us here again
        self._proved &= {(each.address, each.mesh_port) for each in announce.listeners}
        refusals: list[AnnounceRefused] = []
        leases: list[Lease] = []

        async def consider(listener: Listener) -> None:
            try:
                leases.append(self._lease(listener, await self._own_address(listener)))
            except AnnounceRefused as error:
                refusals.append(error)

        async with trio.open_nursery() as nursery:
            for listener in announce.listeners:
                nursery.start_soon(consider, listener)
        try:
            await self._store(leases)
        except AnnounceRefused as error:
            refusals.append(error)
        return self._nack(refusals)

    def _needs_proof(self, listener: Listener) -> bool:
        place = listener.address, listener.mesh_port
        if listener.address is None or place in self._proved:
            return False
        try:
            return _read_address(listener.address) != ipaddress.ip_address(self.link.address)
        except AnnounceRefused:
            return False  # it is refused without being dialled

    async def _own_address(self, listener: Listener) -> Address:
        """The listener's address, once it is sure that it is this sidecar's. Raises AnnounceRefused."""
        source = ipaddress.ip_address(self.link.address)
        if listener.address is None:
            return source
        address = _read_address(listener.address)
        if self._needs_proof(listener):
            _check_dialable(address, source)
            async with self._proofs, self.office.proofs:
                await self._prove(address, listener.mesh_port)
            self._proved.add((listener.address, listener.mesh_port))
        return address

    async def _prove(self, address: Address, port: int) -> None:
        """Dial back. The sidecar is not told what else answered: it must not learn the network from us."""
        office, identity = self.office, self.link.identity
        context = client_context(office.authority.svid, office.authority.bundle, MESH_ALPN)
        reason = f"no proof within {office.limits.proof_timeout:g} s"
        with trio.move_on_after(office.limits.proof_timeout):
            try:
                plain = await dial(str(address), port, deadline=office.limits.proof_timeout)
                async with TlsStream(plain.socket, context, server_side=False) as stream:
                    await stream.do_handshake()
                    peer = verified_peer(stream.connection, office.authority.bundle, office.clock())
                    if peer.id == identity and agreed_alpn(stream.connection) in MESH_ALPN:
                        return
                    reason = f"{peer.id} answered, speaking {agreed_alpn(stream.connection)!r}"
            except (ConnectFailed, trio.BrokenResourceError, CertificateRefused) as error:
                reason = str(error)
        log.warning(
            "an announced address was not proved",
            extra=fields(identity=str(identity), address=str(address), port=port, reason=reason),
        )
        raise AnnounceRefused(
            "address_not_proved",
            f"{address} is not where this link comes from, and nothing at port {port} there proved to be {identity}",
        )

    def _lease(self, listener: Listener, address: Address) -> Lease:
        return Lease(
            identity=str(self.link.identity),
            instance=self.link.instance,
            workload=str(self.link.identity.workload),
            port=listener.port,
            mesh_port=listener.mesh_port,
            address=str(address),
            protocol=listener.protocol,
            expires=self.office.clock() + self.office.lifetimes.lease,
            confirmed=True,
        )

    async def _store(self, leases: list[Lease]) -> None:
        """Raises AnnounceRefused; an unreadable store costs this renewal only."""
        office, link = self.office, self.link
        leased = office.board.picture.leased.get(str(link.identity), {})
        held = sum(count for instance, count in leased.items() if instance != link.instance)
        if held + len(leases) > office.limits.endpoints_per_identity:
            raise AnnounceRefused("too_many_endpoints", f"{link.identity} has {held} endpoints registered already")
        try:
            if await in_thread(lambda: office.store.lease_endpoints(link.identity, link.instance, leases)):
                office.advance.announce()
        except LeaseRefused as error:
            raise AnnounceRefused(error.code, str(error)) from None
        except StoreError as error:
            log.exception("leases cannot be renewed", extra=fields(identity=str(link.identity), reason=str(error)))
            office.metrics.failures.labels("store").inc()

    def _nack(self, refusals: list[AnnounceRefused]) -> Nack | None:
        if not refusals:
            return None
        for error in refusals:
            self.office.metrics.requests_refused.labels(ABOUT, error.code).inc()
        message = "; ".join(dict.fromkeys(str(error) for error in refusals))[:4096]
        log.warning(
            "announcement refused",
            extra=fields(identity=str(self.link.identity), code=refusals[0].code, reason=message),
        )
        return Nack(ABOUT, refusals[0].code, message)


def _read_address(text: str) -> Address:
    """An IP address, as IPv4 where it was mapped into IPv6. Raises AnnounceRefused."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise AnnounceRefused("bad_address", f"{text[:80]!r} is no IP address") from None
    return getattr(address, "ipv4_mapped", None) or address


def _check_dialable(address: Address, source: Address) -> None:
    """Refuse to dial what can only mean the control plane's own host or link, or nobody. Raises AnnounceRefused."""
    elsewhere = address.is_loopback and not source.is_loopback
    if elsewhere or address.is_unspecified or address.is_multicast or address.is_link_local or address.is_reserved:
        raise AnnounceRefused("bad_address", f"{address} is no address at which others reach this sidecar")
