"""Who stands behind one port of a service, and whether sidecars call him. PURE.

A service is in the mesh where anybody behind it has a sidecar, ready or not; one that nobody stands behind is where
its namespace is. From then on nothing behind it is called in plaintext (law 5).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from attrs import evolve, frozen

from certs.spiffe import TrustDomain
from control_plane.discovery.objects import Pod, Service, ServicePort, Slice
from control_plane.discovery.ownership import AUTO, Ownership, Place, meshed, protocol_of
from control_plane.discovery.routes import Backend, Route, Standing
from mesh.wire import Endpoint

CALLED = (Standing.CALLED, Standing.IF_ANNOUNCED)


@frozen
class Behind:
    """What decides about backends. `endpoints` are the places of redirected pods, `labelled` the mesh's namespaces."""

    owned: Ownership
    endpoints: Mapping[Place, Endpoint]
    labelled: frozenset[str]
    trust_domain: TrustDomain

    def routes(self, service: Service, slices: Iterable[Slice], most: int | None = None) -> list[Route]:
        """One for each port of the service and IP version of its addresses.

        `slices` are the service's own; no more than `most` of their places count as backends, where that is given.
        """
        found = [*slices]
        addresses = {address for each in found for address, _ in each.places}
        guarded = not addresses.isdisjoint(self.owned.guarded)
        in_mesh = guarded or (not addresses and service.namespace in self.labelled)
        named: defaultdict[str, list[tuple[ServicePort, Slice]]] = defaultdict(list)
        for each in _first(found, most):
            for port in each.ports:
                named[port.name].append((port, each))
        return [
            self._route(service, port, own, named[port.name], in_mesh=in_mesh)
            for port in service.ports
            for own in _by_version(service.addresses)
        ]

    def _route(
        self,
        service: Service,
        port: ServicePort,
        own: tuple[str, ...],
        named: list[tuple[ServicePort, Slice]],
        *,
        in_mesh: bool,
    ) -> Route:
        """`named` are the ports of its slices that have this port's name."""
        ready: dict[Place, bool] = {}
        for same, each in named:
            for address, answers in each.places:
                if not own or _is_ipv6(address) == _is_ipv6(own[0]):
                    ready[address, same.port] = answers or ready.get((address, same.port), False)
        backends = [self._backend(place, ready=answers) for place, answers in sorted(ready.items())]
        return Route(
            service=f"{service.namespace}/{service.name}",
            port_name=port.name,
            addresses=own,
            port=port.port,
            protocol=self._protocol([port, *(same for same, _ in named)], backends),
            in_mesh=in_mesh,
            backends=tuple(backends),
        )

    def _backend(self, place: Place, *, ready: bool) -> Backend:
        address, port = place
        pod = self.owned.pods.get(address)
        identity = str(pod.workload.in_domain(self.trust_domain)) if pod and meshed(pod) else ""
        name = f"{pod.workload.namespace}/{pod.name}" if pod else ""
        return Backend(address, port, name, identity, self._standing(place, pod, ready=ready))

    def _standing(self, place: Place, pod: Pod | None, *, ready: bool) -> Standing:
        if pod is None:
            return Standing.CONTESTED if place[0] in self.owned.contested else Standing.NO_POD
        if (sidecar := meshed(pod)) is None:
            return Standing.NO_SIDECAR
        if sidecar.redirected and place not in self.endpoints:
            return Standing.EXCLUDED_PORT
        if pod.terminating:
            return Standing.TERMINATING
        if not ready:
            return Standing.NOT_READY
        return Standing.CALLED if sidecar.redirected else Standing.IF_ANNOUNCED

    def _protocol(self, named: list[ServicePort], backends: Iterable[Backend]) -> str:
        """What all endpoints speak; where they do not know or agree, what service and slices say."""
        places = [(each.address, each.port) for each in backends]
        spoken = {self.endpoints[place].protocol for place in places if place in self.endpoints}
        if len(spoken) == 1 and spoken != {AUTO}:
            return spoken.pop()
        said = {protocol_of(each) for each in named if each.application} or {protocol_of(each) for each in named}
        return said.pop() if len(said) == 1 else AUTO


def _first(slices: list[Slice], most: int | None) -> Iterator[Slice]:
    """The slices, with the first `most` of their places."""
    if most is None:
        yield from slices
        return
    for each in sorted(slices, key=lambda one: one.name):
        if most <= 0:
            return
        yield evolve(each, places=each.places[:most])
        most -= max(1, len(each.places))


def _by_version(addresses: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The addresses of each IP version, since slices have one each; one empty group for a headless service."""
    groups = [tuple(each for each in addresses if _is_ipv6(each) is ipv6) for ipv6 in (False, True)]
    return [group for group in groups if group] or [()]


def _is_ipv6(address: str) -> bool:
    return ":" in address
