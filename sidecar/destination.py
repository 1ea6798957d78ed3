"""What the local application wants to reach. PURE: settings, or the address that it dialled, in; a Destination out."""

from ipaddress import ip_address

from attrs import frozen

from certs.spiffe import WorkloadName
from mesh.policy.reasons import Reason
from mesh.wire import Endpoint
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

    def endpoints(self, view: View) -> tuple[Endpoint, ...]:
        """Where it can be reached now."""
        if self.address is None:
            return view.endpoints_of(self.workload, self.port)
        found = view.endpoints_at(self.address, self.port)
        return tuple(each for each in found if each.workload == str(self.workload))


def find_destination(original: Address, view: View, settings: Settings) -> Destination | None:
    """The workload that listens at the address which the application dialled; None where that is outside the mesh.

    What is outside may be called in plaintext; what is, or by `mesh_cidrs` must be, inside never is (law 5).
    Raises Refused: NO_ENDPOINT inside the mesh, EGRESS_REFUSED outside.
    """
    found = view.endpoints_at(original.host, original.port)
    workloads = {endpoint.workload for endpoint in found}
    if len(workloads) == 1:
        return Destination(WorkloadName.parse(workloads.pop()), original.port, original.host)
    if workloads:
        raise Refused(Reason.NO_ENDPOINT, f"{original} is announced by several: {', '.join(sorted(workloads))}")
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
