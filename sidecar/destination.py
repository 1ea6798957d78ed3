"""What the local application wants to reach. PURE: settings, or the address that it dialled, in; a destination out.

Destination          a workload's port: an explicit door's, or one that was dialled at its own address
VirtualDestination   a service's port: an address of the platform that belongs to nobody and leads to several
"""

from collections.abc import Iterable
from ipaddress import ip_address

from attrs import frozen

from certs.spiffe import TrustDomain, WorkloadName
from mesh.policy.reasons import Reason
from mesh.wire import Endpoint, Service
from sidecar.refused import Refused
from sidecar.settings import Address, Outbound, Settings
from sidecar.view import View


@frozen
class Destination:
    """A workload's port. `address` leaves only the endpoints at that IP address; None takes any.

    `named_by_host` says that an HTTP request has to name this workload, or none, in its Host (law 22): so it is at a
    loopback port, which a browser can be led to. An application that is redirected knows no other way, and may call
    the address by any name: Host never routes (law 6).
    """

    workload: WorkloadName
    port: int
    address: str | None = None
    named_by_host: bool = False

    @classmethod
    def of(cls, outbound: Outbound) -> "Destination":
        """Where an explicit door leads."""
        return cls(outbound.destination, outbound.port, named_by_host=not outbound.unix)

    @property
    def original(self) -> str:
        """What the application dialled, where it was redirected; else ""."""
        return str(Address(self.address, self.port)) if self.address else ""

    @property
    def host(self) -> str:
        """What Host says of a request that has none."""
        return f"{self.workload.name}.{self.workload.namespace}:{self.port}"

    @property
    def only_host(self) -> WorkloadName | None:
        """The workload that Host has to name; None where it may name any."""
        return self.workload if self.named_by_host else None

    @property
    def absence(self) -> str:
        """What is missing where there are no endpoints."""
        return f"nobody has announced {self.workload}:{self.port}"

    def name(self, trust_domain: TrustDomain) -> str:
        """What a record calls it before an endpoint is dialled: the one identity that all of them have."""
        return str(self.workload.in_domain(trust_domain))

    def endpoints(self, view: View) -> tuple[Endpoint, ...]:
        """Where it can be reached now."""
        if self.address is None:
            return view.endpoints_of(self.workload, self.port)
        found = view.endpoints_at(self.address, self.port)
        return tuple(each for each in found if each.workload == str(self.workload))

    def protocol(self, view: View) -> str | None:
        """What its endpoints declare, "auto" where they disagree; None without any."""
        return _common(self.endpoints(view))


@frozen
class VirtualDestination:
    """A service's port at one of its addresses. Whom a call reaches, and who has to answer, its endpoints say.

    `service` is `<namespace>/<name>`: where the address has become another service's, nothing of it is left.
    """

    service: str
    port: int
    address: str

    only_host = None

    @property
    def original(self) -> str:
        """What the application dialled."""
        return str(Address(self.address, self.port))

    @property
    def host(self) -> str:
        """What Host says of a request that has none."""
        namespace, _, name = self.service.partition("/")
        return f"{name}.{namespace}:{self.port}"

    @property
    def absence(self) -> str:
        """What is missing where there are no endpoints."""
        return f"nobody is ready behind port {self.port} of the service {self.service}"

    def name(self, _: TrustDomain) -> str:
        """What a record calls it before an endpoint is dialled: its endpoints may have several identities."""
        return self.service

    def endpoints(self, view: View) -> tuple[Endpoint, ...]:
        """The confirmed endpoints at the places of its backends now."""
        return view.endpoints_behind(self.address, self.port) if self._service(view) else ()

    def protocol(self, view: View) -> str | None:
        """What its endpoints declare, or the service where they know none or disagree; None where nobody knows."""
        service, declared = self._service(view), _common(self.endpoints(view))
        if declared in (None, "auto") and service is not None and service.protocol != "auto":
            return service.protocol
        return declared

    def _service(self, view: View) -> Service | None:
        found = view.service_at(self.address, self.port)
        return found if found is not None and found.name == self.service else None


def find_destination(original: Address, view: View, settings: Settings) -> Destination | VirtualDestination | None:
    """What listens at the address which the application dialled; None where that is outside the mesh.

    What is outside may be called in plaintext; what is, or by `mesh_cidrs` must be, inside never is (law 5).
    Raises Refused: NO_ENDPOINT inside the mesh, EGRESS_REFUSED outside.
    """
    found = view.endpoints_at(original.host, original.port)
    workloads = {endpoint.workload for endpoint in found}
    if len(workloads) == 1:
        return Destination(WorkloadName.parse(workloads.pop()), original.port, original.host)
    if workloads:
        raise Refused(Reason.NO_ENDPOINT, f"{original} is announced by several: {', '.join(sorted(workloads))}")
    if service := view.service_at(original.host, original.port):
        return VirtualDestination(service.name, original.port, original.host)
    if view.is_in_mesh(original.host):
        raise Refused(
            Reason.NO_ENDPOINT, f"{original.host} is in the mesh, and port {original.port} not announced there"
        )
    address = ip_address(original.host)
    if any(address in network for network in settings.mesh_cidrs):
        raise Refused(Reason.NO_ENDPOINT, f"{original} lies in mesh_cidrs, and nobody has announced it")
    if settings.egress != "allow":
        raise Refused(Reason.EGRESS_REFUSED, f"{original} is not announced in the mesh")
    return None


def _common(endpoints: Iterable[Endpoint]) -> str | None:
    declared = {endpoint.protocol for endpoint in endpoints}
    return declared.pop() if len(declared) == 1 else "auto" if declared else None
