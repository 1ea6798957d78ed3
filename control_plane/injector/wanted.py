"""What one pod gets: the settings, and its own wishes laid over them."""

from typing import Self

from attrs import frozen

from control_plane.injector.settings import InjectorSettings, Resources
from control_plane.injector.values import bind_of


@frozen
class Wanted:
    """Everything in which pods may differ. Texts are as the sidecar and its redirection take them."""

    exclude_inbound_ports: tuple[str, ...]
    exclude_outbound_ports: tuple[str, ...]
    exclude_outbound_addresses: tuple[str, ...]
    egress: str
    resources: Resources
    log_level: str
    request_log: str
    drain_seconds: int
    redirect: bool = True
    """Whether all of the pod's TCP goes through the sidecar; else only what calls its explicit listeners."""
    ports: tuple[str, ...] | None = None
    """PORT/PROTOCOL of the application; None where they are taken from the containers' ports."""
    inbound: tuple[str, ...] = ()
    outbound: tuple[str, ...] = ()

    @classmethod
    def by(cls, settings: InjectorSettings) -> Self:
        """What a pod gets that asks for nothing."""
        return cls(
            settings.exclude_inbound_ports,
            settings.exclude_outbound_ports,
            settings.exclude_outbound_addresses,
            settings.egress,
            settings.resources.sidecar,
            settings.log_level,
            settings.request_log,
            settings.drain_seconds,
        )

    def own_ports(self, settings: InjectorSettings) -> set[int]:
        """Every TCP port where the sidecar itself listens."""
        ports = settings.ports
        binds = filter(None, map(bind_of, (*self.inbound, *self.outbound)))
        return {ports.inbound, ports.outbound, ports.observe, *(each.port for each in binds)}
