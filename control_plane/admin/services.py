"""What sidecars are told of the cluster's services, and why of each place behind them."""

from typing import Any

from starlette.requests import Request

from control_plane.admin.backend import Backend
from control_plane.admin.problems import Problem
from control_plane.discovery.routes import Backend as Place
from control_plane.discovery.routes import Route


async def listed(backend: Backend, _: Request) -> object:
    """Every port of every service, by name; those outside the mesh too."""
    if backend.injection is None:
        raise Problem(409, "no_cluster", "this control plane runs outside of a cluster: start it with --kubernetes")
    found = backend.discovered
    return {"complete": found.complete, "services": [_route(route) for route in found.routes]}


def _route(route: Route) -> dict[str, Any]:
    return {
        "service": route.service,
        "port_name": route.port_name,
        "addresses": list(route.addresses),
        "port": route.port,
        "protocol": route.protocol,
        "in_mesh": route.in_mesh,
        "backends": [_place(each) for each in route.backends],
    }


def _place(place: Place) -> dict[str, Any]:
    return {
        "address": place.address,
        "port": place.port,
        "pod": place.pod or None,
        "identity": place.identity or None,
        "standing": place.standing.value,
    }
