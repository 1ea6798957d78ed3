"""The cluster's objects in, what sidecars and operators are told of them out. PURE: the same however they are ordered.

pods -> whose each address is -> endpoints -> who stands behind each port of each service -> services
"""

from collections import defaultdict
from collections.abc import Collection
from typing import Final

from attrs import Factory, evolve, frozen

from certs.spiffe import TrustDomain
from control_plane.discovery.backends import CALLED, Behind
from control_plane.discovery.objects import Pod, Service, Slice
from control_plane.discovery.ownership import Ownership, endpoints_of
from control_plane.discovery.routes import Route
from control_plane.discovery.shares import MAX_BACKENDS as MAX_BACKENDS_OF_NAMESPACE
from control_plane.discovery.shares import MAX_SERVICE_PORTS, shares
from control_plane.push.platform import Platform
from mesh.wire import Service as VirtualService

MAX_BACKENDS: Final = 10_000  # of one service's port, in the order of their addresses: a snapshot has to hold them all


@frozen
class Objects:
    """Everything that discovery goes by. `namespaces` are those in the mesh."""

    pods: Collection[Pod] = ()
    services: Collection[Service] = ()
    slices: Collection[Slice] = ()
    namespaces: frozenset[str] = frozenset()


@frozen
class Resolved:
    """What sidecars are told, and every route behind it, by service, port and address.

    `over` are the namespaces that have more than there is room for: something of them is left out.
    """

    platform: Platform = Factory(Platform)
    routes: tuple[Route, ...] = ()
    over: frozenset[str] = frozenset()


def resolve(objects: Objects, trust_domain: TrustDomain) -> Resolved:
    """Who can be called where, and who has to answer."""
    owned = Ownership.of(objects.pods)
    endpoints, over = endpoints_of(owned, objects.slices, trust_domain)
    of_service: defaultdict[tuple[str, str], list[Slice]] = defaultdict(list)
    for each in objects.slices:
        of_service[each.namespace, each.service].append(each)
    behind = Behind(owned, endpoints, objects.namespaces, trust_domain)
    asked = [(each, of_service[each.namespace, each.name]) for each in objects.services]
    within, also_over = _within_shares(asked)
    routes = [route for each in within for route in behind.routes(*each)]
    routes.sort(key=lambda route: (route.service, route.port, route.port_name, route.addresses))
    services = tuple(_as_told(route) for route in routes if route.in_mesh and route.addresses)
    platform = Platform(tuple(endpoints[place] for place in sorted(endpoints)), services)
    return Resolved(platform, tuple(routes), over | also_over)


def _within_shares(
    asked: Collection[tuple[Service, list[Slice]]],
) -> tuple[list[tuple[Service, list[Slice], int | None]], frozenset[str]]:
    """Services and their slices, and how many places count: all, where their namespace keeps within its bounds. And the
    namespaces that do not."""
    sizes = ((service.namespace, len(service.ports) * _versions(service)) for service, _ in asked)
    ports = shares(sizes, MAX_SERVICE_PORTS)
    cut = [
        (evolve(each, ports=each.ports[: max(1, ports[each.namespace] // _versions(each))]), slices)
        if each.namespace in ports
        else (each, slices)
        for each, slices in asked
    ]
    sizes = ((each.namespace, len(each.ports) * sum(len(one.places) for one in slices)) for each, slices in cut)
    backends = shares(sizes, MAX_BACKENDS_OF_NAMESPACE)
    within: list[tuple[Service, list[Slice], int | None]] = []
    for each, slices in cut:
        share = backends.get(each.namespace)
        within.append((each, slices, None if share is None else max(1, share // max(1, len(each.ports)))))
    return within, frozenset((*ports, *backends))


def _versions(service: Service) -> int:
    return max(1, len(service.addresses))


def _as_told(route: Route) -> VirtualService:
    called = tuple((each.address, each.port) for each in route.backends if each.standing in CALLED)
    return VirtualService(route.service, route.addresses, route.port, route.protocol, called[:MAX_BACKENDS])
