"""What this sidecar knows and who it is, right now: the two values that every connection looks at.

A View is one snapshot, compiled and checked, swapped whole. Mesh holds the current View and the current SVID, hands
out TLS contexts made from both, and says whether traffic can flow at all. Only the control link replaces them.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Self

from attrs import field, frozen
from OpenSSL import SSL

from certs.bundle import TrustBundle, root_fingerprint
from certs.spiffe import SpiffeId, TrustDomain, WorkloadName
from certs.svid import Svid
from certs.tls import client_context, server_context
from certs.verify import Peer
from mesh.policy import Document, Reason, Rules, compile_rules, read_policies
from mesh.wire import Endpoint, Service, Snapshot
from sidecar.refused import NotReady

ALPN_HTTP: Final = b"doorward-http/1"
ALPN_TCP: Final = b"doorward-tcp/1"


class StaleSnapshot(ValueError):
    """A snapshot is older than the one that is enforced, within the same epoch."""


@frozen
class View:
    """One snapshot in the form in which it is enforced. `endpoints` is keyed by workload and application port.

    `_places` are the confirmed ones by the address and the port that an application dials who knows of no sidecar,
    `_virtual` the services by theirs, each with the confirmed endpoints behind it. An address under either is in the
    mesh.
    """

    epoch: str
    number: int
    hash: str
    rules: Rules
    endpoints: Mapping[tuple[WorkloadName, int], tuple[Endpoint, ...]]
    bans: frozenset[str]
    bundle: TrustBundle
    services: tuple[Service, ...] = ()
    _places: Mapping[str, Mapping[int, tuple[Endpoint, ...]]] = field(init=False, repr=False)
    _virtual: Mapping[str, Mapping[int, tuple[Service, tuple[Endpoint, ...]]]] = field(init=False, repr=False)
    _roots: frozenset[tuple[str, str]] = field(init=False, repr=False)

    @_places.default
    def _confirmed_places(self) -> Mapping[str, Mapping[int, tuple[Endpoint, ...]]]:
        places: defaultdict[str, dict[int, tuple[Endpoint, ...]]] = defaultdict(dict)
        for endpoint in (each for found in self.endpoints.values() for each in found if each.confirmed):
            ports = places[endpoint.address]
            ports[endpoint.port] = (*ports.get(endpoint.port, ()), endpoint)
        return dict(places)

    @_virtual.default
    def _services_by_address(self) -> Mapping[str, Mapping[int, tuple[Service, tuple[Endpoint, ...]]]]:
        virtual: defaultdict[str, dict[int, tuple[Service, tuple[Endpoint, ...]]]] = defaultdict(dict)
        for service in self.services:
            behind = tuple(endpoint for place in service.backends for endpoint in self._unambiguous(*place))
            for address in service.addresses:
                virtual[address][service.port] = service, behind
        return dict(virtual)

    def _unambiguous(self, address: str, port: int) -> tuple[Endpoint, ...]:
        found = self.endpoints_at(address, port)
        return found if len({endpoint.workload for endpoint in found}) == 1 else ()

    @_roots.default
    def _known_roots(self) -> frozenset[tuple[str, str]]:
        return frozenset(
            (str(domain), root_fingerprint(root))
            for domain in self.bundle.trust_domains
            for root in self.bundle.roots_of(domain.name)
        )

    @classmethod
    def build(cls, snapshot: Snapshot, trust_domain: TrustDomain) -> Self:
        """Compile a snapshot. Raises PolicyFaults, BundleMalformed or SpiffeIdMalformed: it is then refused whole."""
        documents = [Document("snapshot", index, content) for index, content in enumerate(snapshot.policies)]
        endpoints: defaultdict[tuple[WorkloadName, int], list[Endpoint]] = defaultdict(list)
        for endpoint in snapshot.endpoints:
            SpiffeId.parse(endpoint.identity)
            endpoints[WorkloadName.parse(endpoint.workload), endpoint.port].append(endpoint)
        return cls(
            epoch=snapshot.epoch,
            number=snapshot.number,
            hash=snapshot.hash,
            rules=compile_rules(read_policies(documents), trust_domain),
            endpoints={key: tuple(found) for key, found in endpoints.items()},
            bans=frozenset(snapshot.bans),
            bundle=TrustBundle.from_der(snapshot.roots),
            services=snapshot.services,
        )

    def endpoints_of(self, workload: WorkloadName, port: int) -> tuple[Endpoint, ...]:
        """Where that workload's port can be reached; none for one that nobody announced."""
        return self.endpoints.get((workload, port), ())

    def endpoints_at(self, address: str, port: int) -> tuple[Endpoint, ...]:
        """What is known to answer for an application's `port` at an IP address: confirmed endpoints only (law 4)."""
        return self._places.get(address, {}).get(port, ())

    def service_at(self, address: str, port: int) -> Service | None:
        """The service whose virtual address and port these are."""
        found = self._virtual.get(address, {}).get(port)
        return found and found[0]

    def endpoints_behind(self, address: str, port: int) -> tuple[Endpoint, ...]:
        """What a service's virtual address and port lead to: confirmed endpoints, of whom each has one identity."""
        _, behind = self._virtual.get(address, {}).get(port, (None, ()))
        return behind

    def is_in_mesh(self, address: str) -> bool:
        """Whether something confirmed, or a service, is known at that IP address, on whatever port."""
        return address in self._places or address in self._virtual

    def objection(self, peer: Peer) -> Reason | None:
        """Why a verified peer is not, or no longer, to be believed: a ban, or a root that left the bundle."""
        if str(peer.id) in self.bans or f"serial:{peer.serial}" in self.bans:
            return Reason.BANNED
        if (peer.id.trust_domain, peer.root) not in self._roots:
            return Reason.UNKNOWN_ISSUER
        return None


class Mesh:
    """The current View and SVID of this sidecar. `own` is the identity that it asks for.

    `clock` gives aware UTC for certificate dates. `fresh_seconds` is how long after its last word the control link
    counts as fresh (law 10). `generation` advances with every replaced SVID: pooled connections are keyed by it.
    """

    def __init__(
        self,
        own: SpiffeId,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        fresh_seconds: float = 60.0,
    ) -> None:
        self.own = own
        self.view: View | None = None
        self.svid: Svid | None = None
        self.generation = 0
        self.now = clock
        self._fresh_seconds = fresh_seconds
        self._heard: float | None = None
        self._contexts: dict[tuple[bool, tuple[bytes, ...]], SSL.Context] = {}

    @property
    def workload(self) -> WorkloadName:
        """The own workload: the `to` of every inbound decision (law 6)."""
        name = self.own.workload
        assert name is not None, "settings build the own identity from a workload"
        return name

    def replace_view(self, view: View) -> None:
        """Enforce `view` from now on; the caller then has live connections decided again. Raises StaleSnapshot."""
        if self.view is not None:
            if view.epoch == self.view.epoch and view.number < self.view.number:
                raise StaleSnapshot(f"snapshot {view.number} is older than {self.view.number}, which is enforced")
            if view.bundle != self.view.bundle:
                self._contexts.clear()
        self.view = view

    def replace_svid(self, svid: Svid) -> None:
        """Show this certificate in every handshake from now on; established connections go on."""
        self.svid = svid
        self.generation += 1
        self._contexts.clear()

    def heard(self) -> None:
        """The control plane has just said something: the control link is fresh."""
        self._heard = time.monotonic()

    def link_fresh(self) -> bool:
        """Whether the control plane was heard lately enough for a TCP connection to outlive a certificate."""
        return self._heard is not None and time.monotonic() - self._heard < self._fresh_seconds

    def current(self) -> tuple[View, Svid]:
        """The view and the certificate that traffic goes by. Raises NotReady."""
        view, svid = self.known()
        if svid.not_after <= self.now():
            raise NotReady(Reason.OWN_CERTIFICATE_EXPIRED)
        return view, svid

    def known(self) -> tuple[View, Svid]:
        """The view and the certificate, which may have expired. Raises NotReady where there is none yet."""
        if self.view is None:
            raise NotReady(Reason.NO_SNAPSHOT)
        if self.svid is None:
            raise NotReady(Reason.NO_OWN_CERTIFICATE)
        return self.view, self.svid

    def server_context(self, alpn: tuple[bytes, ...]) -> SSL.Context:
        """For accepting from the mesh, made once per SVID and bundle. Raises NotReady as known() does.

        A certificate that has expired is shown all the same: from it a caller learns why it gets no further.
        """
        return self._context(alpn, server_side=True)

    def client_context(self, alpn: tuple[bytes, ...]) -> SSL.Context:
        """For dialling into the mesh, made once per SVID and bundle. Raises NotReady."""
        return self._context(alpn, server_side=False)

    def _context(self, alpn: tuple[bytes, ...], *, server_side: bool) -> SSL.Context:
        view, svid = self.known() if server_side else self.current()
        key = server_side, alpn
        if key not in self._contexts:
            make = server_context if server_side else client_context
            self._contexts[key] = make(svid, view.bundle, alpn)
        return self._contexts[key]
