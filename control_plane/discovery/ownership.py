"""Which pod an address belongs to, and which of its ports can be called through its sidecar. PURE.

An address that two pods have at the same time belongs to neither. What EndpointSlices of the pod's own namespace say of
a port adds it to those of the pod at that address; what others write there changes nothing about a pod.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from attrs import frozen

from certs.spiffe import TrustDomain
from control_plane.discovery.objects import Pod, Ports, ServicePort, Sidecar, Slice
from control_plane.discovery.shares import MAX_ENDPOINTS, shares
from control_plane.kubernetes.port_names import protocol_of_name
from mesh.wire import Endpoint

MAX_PORTS: Final = 256  # of one pod, what it says itself first
MAX_SAID: Final = 4 * MAX_PORTS  # that slices say of one address
HTTP: Final = ("http", "kubernetes.io/ws")
"""Application protocols that are HTTP/1.1; others are bytes to the mesh."""

AUTO: Final = "auto"

Place = tuple[str, int]
"""Address and port."""


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


def endpoints_of(
    owned: Ownership, slices: Iterable[Slice], trust_domain: TrustDomain
) -> tuple[dict[Place, Endpoint], frozenset[str]]:
    """Every place where a redirected pod can be called, and the namespaces that have more than their share of them."""
    named = _named(owned, slices)
    ports: dict[str, dict[int, str]] = {}
    for address, pod in owned.pods.items():
        if (sidecar := meshed(pod)) is not None and sidecar.redirected:
            said = [each for own in pod.addresses for each in named.get(own, ())]
            ports[address] = _ports(sidecar, said)
    spaces = {address: owned.pods[address].workload.namespace for address in ports}
    most = shares(((spaces[address], len(each)) for address, each in ports.items()), MAX_ENDPOINTS)
    found: dict[Place, Endpoint] = {}
    for address, spoken in ports.items():
        pod = owned.pods[address]
        for port, protocol in islice(spoken.items(), most.get(spaces[address])):
            found[address, port] = Endpoint(
                workload=str(pod.workload),
                port=port,
                address=address,
                mesh_port=port,
                protocol=protocol,
                identity=str(pod.workload.in_domain(trust_domain)),
                confirmed=True,
            )
    return found, frozenset(most)


def meshed(pod: Pod) -> Sidecar | None:
    """The pod's sidecar; none on its node's network, where the address is everybody's."""
    return None if pod.host_network else pod.sidecar


def _named(owned: Ownership, slices: Iterable[Slice]) -> Mapping[str, set[ServicePort]]:
    """What slices say of the ports of each address that a pod of their own namespace has."""
    named: defaultdict[str, set[ServicePort]] = defaultdict(set)
    for each in sorted(slices, key=lambda one: (one.namespace, one.name)):
        for address, _ in each.places:
            pod = owned.pods.get(address)
            if pod is not None and pod.workload.namespace == each.namespace and len(named[address]) < MAX_SAID:
                named[address].update(each.ports)
    return named


def _ports(sidecar: Sidecar, said: Iterable[ServicePort]) -> dict[int, str]:
    """The pod's ports and what is spoken there: as its sidecar was told, else as slices or containers say."""
    spoken, declared = _by_port(sidecar.speaks), _by_port(sidecar.declared)
    by_slices: defaultdict[int, list[ServicePort]] = defaultdict(list)
    for port in said:
        by_slices[port.port].append(port)
    own = {*spoken, *declared}
    ordered = (*sorted(own), *sorted(by_slices.keys() - own))
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
    index = bisect_right(sidecar.past, port, key=lambda each: each[0]) - 1
    return index >= 0 and port <= sidecar.past[index][1]
