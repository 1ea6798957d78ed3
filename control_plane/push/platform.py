"""What the platform beneath the sidecars, a cluster, says of who is where: it comes on top of what they register."""

from attrs import frozen

from mesh.wire import Endpoint, Service


@frozen
class Platform:
    """What discovery finds out and sidecars are told."""

    endpoints: tuple[Endpoint, ...] = ()
    """Confirmed, since pods' addresses come from their kubelets."""
    services: tuple[Service, ...] = ()
