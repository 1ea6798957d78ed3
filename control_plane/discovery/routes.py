"""Where calls to the cluster's services lead, and why: what operators are told of what discovery finds out."""

from enum import StrEnum

from attrs import define, frozen


class Standing(StrEnum):
    """Whether sidecars call one place behind a service, and if not why."""

    CALLED = "called"
    IF_ANNOUNCED = "if_announced"
    """Its pod is not redirected: it is called where its sidecar has announced that port."""
    NOT_READY = "not_ready"
    TERMINATING = "terminating"
    EXCLUDED_PORT = "excluded_port"
    """The pod's rules send connections to this port past its sidecar."""
    NO_SIDECAR = "no_sidecar"
    NO_POD = "no_pod"
    """No pod has this address: somebody wrote it there."""
    CONTESTED = "contested"
    """More than one pod has this address."""


@frozen(order=True)
class Backend:
    """One place behind a service's port. `pod` is `<namespace>/<name>`, `identity` the SPIFFE ID that must answer
    there; each is "" where there is none."""

    address: str
    port: int
    pod: str
    identity: str
    standing: Standing


@frozen
class Route:
    """One port of a service at its addresses of one IP version; without addresses the service is headless.

    `in_mesh` False: it is outside, since nobody behind it has a sidecar, and egress says what becomes of calls.
    """

    service: str
    port_name: str
    addresses: tuple[str, ...]
    port: int
    protocol: str
    in_mesh: bool
    backends: tuple[Backend, ...]


@define(eq=False)
class Discovered:
    """Every route of the moment, once the cluster's objects are known (`complete`)."""

    complete: bool = False
    routes: tuple[Route, ...] = ()
