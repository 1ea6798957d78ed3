"""The cluster's objects in, what sidecars and operators are told of them out. PURE: the same however they are ordered.

pods -> whose each address is -> endpoints -> who stands behind each port of each service -> services
"""

from collections import defaultdict
from collections.abc import Collection
from typing import Final

from attrs import Factory, frozen

from certs.spiffe import TrustDomain
from control_plane.discovery.backends import CALLED, Behind
from control_plane.discovery.objects import Pod, Service, Slice
from control_plane.discovery.ownership import Ownership, endpoints_of
from control_plane.discovery.platform import Platform, Route
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
    """What sidecars are told, and every route behind it, by service, port and address."""

    platform: Platform = Factory(Platform)
    routes: tuple[Route, ...] = ()


def resolve(objects: Objects, trust_domain: TrustDomain) -> Resolved:
    """Who can be called where, and who has to answer."""
    owned = Ownership.of(objects.pods)
    endpoints = endpoints_of(owned, objects.slices, trust_domain)
    of_service: defaultdict[tuple[str, str], list[Slice]] = defaultdict(list)
    for each in objects.slices:
        of_service[each.namespace, each.service].append(each)
    behind = Behind(owned, endpoints, objects.namespaces, trust_domain)
    routes = [
        route
        for service in objects.services
        for route in behind.routes(service, of_service[service.namespace, service.name])
    ]
    routes.sort(key=lambda route: (route.service, route.port, route.port_name, route.addresses))
    services = tuple(_as_told(route) for route in routes if route.in_mesh and route.addresses)
    return Resolved(Platform(tuple(endpoints[place] for place in sorted(endpoints)), services), tuple(routes))


def _as_told(route: Route) -> VirtualService:
    called = tuple((each.address, each.port) for each in route.backends if each.standing in CALLED)
    return VirtualService(route.service, route.addresses, route.port, route.protocol, called[:MAX_BACKENDS])
