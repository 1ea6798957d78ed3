"""What the injector puts into pods, as one frozen value; every default stands here.

`control_plane.injector.settings_file` reads it from the file of `--injector-config`, whose keys are these names in
camelCase. The chart writes that file from its values `injector`.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from attrs import Factory, frozen


def _image() -> str:
    return f"doorward-sidecar:{version('doorward')}"


@frozen
class Ports:
    """Where the injected sidecar listens; no container of the pod may use these."""

    inbound: int = 15006
    outbound: int = 15001
    observe: int = 15020


@frozen
class Resources:
    """One container's `resources`: what it asks for and what it may take at most, as quantities of Kubernetes."""

    requests: Mapping[str, str] = Factory(dict)
    limits: Mapping[str, str] = Factory(dict)

    def as_field(self) -> dict[str, Any]:
        """The container's field; what is empty is left out."""
        parts = {"requests": dict(self.requests), "limits": dict(self.limits)}
        return {name: quantities for name, quantities in parts.items() if quantities}


@frozen
class BothResources:
    """The resources of the two containers that are injected."""

    sidecar: Resources = Resources({"cpu": "50m", "memory": "96Mi"}, {"memory": "512Mi"})
    redirect: Resources = Resources({"cpu": "10m", "memory": "48Mi"}, {"memory": "128Mi"})


@frozen
class InjectorSettings:
    """One installation's injection, checked. A pod's annotations may ask for something else in some of it."""

    image: str = Factory(_image)
    """The sidecar's image; the init container that redirects runs from it too."""
    image_pull_policy: str = "IfNotPresent"
    control_plane: str = "doorward.doorward.svc:7443"
    """HOST:PORT where sidecars find the control plane."""
    trust_domain: str = "cluster.local"
    native_sidecar: bool = True
    """Whether the sidecar is an init container that runs on (Kubernetes 1.29 and later), or one container of many."""
    sidecar_uid: int = 1337
    """User and group of the sidecar, and of nothing else in the pod: the redirection lets this user past."""
    ports: Ports = Factory(Ports)
    token_audience: str = "doorward"  # noqa: S105  # a name, no secret
    token_expiration_seconds: int = 3600
    trust_bundle: str = "doorward-trust-bundle"
    """Name of the ConfigMap with the trust bundle, in each namespace."""
    mesh_cidrs: tuple[str, ...] = ()
    egress: str = "allow"
    exclude_inbound_ports: tuple[str, ...] = ()
    """Ports such as 9090, or ranges such as 9000-9010, that every pod leaves out; a pod's annotation adds to them."""
    exclude_outbound_ports: tuple[str, ...] = ()
    exclude_outbound_addresses: tuple[str, ...] = ()
    resources: BothResources = Factory(BothResources)
    log_level: str = "info"
    request_log: str = "all"
    drain_seconds: int = 20
    """From SIGTERM until the sidecar cuts off what is still in flight."""
