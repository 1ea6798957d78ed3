"""Which pod an address belongs to, and which of its ports can be called through its sidecar. PURE.

An address that two pods have at the same time belongs to neither. What EndpointSlices say of a port adds it to those
of the pod at that address, whoever wrote them, since the called side decides about each call; but what it speaks is
said only by slices of the pod's own namespace.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import frozen

from certs.spiffe import TrustDomain
from control_plane.discovery.objects import Pod, Ports, ServicePort, Sidecar, Slice
from control_plane.injector.application_ports import protocol_of_name
from mesh.wire import Endpoint

MAX_PORTS: Final = 256  # of one pod, its own first: anybody may write slices
HTTP: Final = ("http", "kubernetes.io/ws")
"""Application protocols that are HTTP/1.1; others are bytes to the mesh."""

AUTO: Final = "auto"

Place = tuple[str, int]
"""Address and port."""
_Said = tuple[str, ServicePort]
"""What a slice says of a port, and the namespace of the slice."""


@frozen
class Ownership:
    """The one pod of each address; `contested` are addresses that several have, `guarded` those where any pod, the
    only one or not, has a sidecar."""

    pods: Mapping[str, Pod]
    contested: frozenset[str]
    guarded: frozenset[str]

    @classmethod
    def of(cls, pods: Iterable[Pod]) -> "Ownership":
        """Sort out whose each address is."""
        having: defaultdict[str, list[Pod]] = defaultdict(list)
        for pod in pods:
            for address in pod.addresses:
                having[address].append(pod)
        return cls(
            {address: found[0] for address, found in having.items() if len(found) == 1},
            frozenset(address for address, found in having.items() if len(found) > 1),
            frozenset(address for address, found in having.items() if any(map(meshed, found))),
        )


def protocol_of(port: ServicePort) -> str:
    """What a service's or slice's port says that is spoken; "auto" where it says nothing."""
    if port.application:
        return "http" if port.application in HTTP else "tcp"
    return protocol_of_name(port.name)


def endpoints_of(owned: Ownership, slices: Iterable[Slice], trust_domain: TrustDomain) -> dict[Place, Endpoint]:
    """Every place where a redirected pod can be called."""
    named = _named(owned, slices)
    found: dict[Place, Endpoint] = {}
    for address, pod in owned.pods.items():
        if (sidecar := meshed(pod)) is None or not sidecar.redirected:
            continue
        said = [each for own in pod.addresses for each in named.get(own, ())]
        for port, protocol in _ports(pod, sidecar, said).items():
            found[address, port] = Endpoint(
                workload=str(pod.workload),
                port=port,
                address=address,
                mesh_port=port,
                protocol=protocol,
                identity=str(pod.workload.in_domain(trust_domain)),
                confirmed=True,
            )
    return found


def meshed(pod: Pod) -> Sidecar | None:
    """The pod's sidecar; none on its node's network, where the address is everybody's."""
    return None if pod.host_network else pod.sidecar


def _named(owned: Ownership, slices: Iterable[Slice]) -> Mapping[str, set[_Said]]:
    """What slices say of the ports of each address that a pod has."""
    named: defaultdict[str, set[_Said]] = defaultdict(set)
    for each in slices:
        said = {(each.namespace, port) for port in each.ports}
        for address, _ in each.places:
            if address in owned.pods:
                named[address] |= said
    return named


def _ports(pod: Pod, sidecar: Sidecar, said: Iterable[_Said]) -> dict[int, str]:
    """The pod's ports and what is spoken there: as its sidecar was told, else as slices or containers say."""
    spoken, declared = _by_port(sidecar.speaks), _by_port(sidecar.declared)
    by_slices: defaultdict[int, list[ServicePort]] = defaultdict(list)
    for namespace, port in said:
        by_slices[port.port] += [port] if namespace == pod.workload.namespace else []
    own, named = {*spoken, *declared}, {port for port, neighbours in by_slices.items() if neighbours}
    ordered = (*sorted(own), *sorted(named - own), *sorted(set(by_slices) - named - own))
    ports = [port for port in ordered if not _is_past(port, sidecar)]
    return {
        port: next(
            (
                protocol
                for protocol in (
                    spoken.get(port, AUTO),
                    _agreed(protocol_of(each) for each in by_slices[port] if each.application),
                    declared.get(port, AUTO),
                    _agreed(protocol_of(each) for each in by_slices[port]),
                )
                if protocol != AUTO
            ),
            AUTO,
        )
        for port in ports[:MAX_PORTS]
    }


def _by_port(ports: Ports) -> dict[int, str]:
    """Each port once: where several containers declare it, what says something counts."""
    found: dict[int, str] = {}
    for port, protocol in ports:
        if found.get(port, AUTO) == AUTO:
            found[port] = protocol
    return found


def _agreed(protocols: Iterable[str]) -> str:
    found = set(protocols)
    return found.pop() if len(found) == 1 else AUTO


def _is_past(port: int, sidecar: Sidecar) -> bool:
    return any(first <= port <= last for first, last in sidecar.past)
