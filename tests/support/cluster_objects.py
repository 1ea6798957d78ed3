"""Pods, Services and EndpointSlices as an API server has them, short to write: only what discovery asks about."""

from collections.abc import Iterable, Mapping
from typing import Any

from control_plane.discovery.objects import SERVICE_NAME

IMAGE = "registry.example/application:1"


def pod(
    name: str,
    *addresses: str,
    namespace: str = "shop",
    account: str = "payments",
    ports: str | None = "8080/http",
    redirected: bool = True,
    container_ports: Iterable[tuple[str, int]] = (),
    past: str = "15020",
    **spec: Any,
) -> dict[str, Any]:
    """A running, ready pod with these addresses. `ports` is what its sidecar was told; None: it has no sidecar."""
    declared = [{"containerPort": number, **({"name": name} if name else {})} for name, number in container_ports]
    first: list[dict[str, Any]] = []
    if ports is not None and redirected:
        command = [
            "doorward-sidecar",
            "redirect",
            "--install",
            "--inbound-port=15006",
            f"--exclude-inbound-ports={past}",
        ]
        first.append({"name": "doorward-redirect", "image": IMAGE, "command": command})
    if ports is not None:
        environment = [{"name": "DOORWARD_PORTS", "value": ports}, {"name": "DOORWARD_TRANSPARENT", "value": "true"}]
        sidecar = {"name": "doorward-sidecar", "image": IMAGE, "restartPolicy": "Always", "env": environment}
        first.append(sidecar)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "serviceAccountName": account,
            **({"initContainers": first} if first else {}),
            "containers": [{"name": "application", "image": IMAGE, **({"ports": declared} if declared else {})}],
            **spec,
        },
        "status": status(*addresses),
    }


def status(*addresses: str, phase: str = "Running") -> dict[str, Any]:
    """What a kubelet says of a pod that runs."""
    own = {"podIP": addresses[0], "podIPs": [{"ip": each} for each in addresses]} if addresses else {}
    return {"phase": phase, **own}


def service(
    name: str,
    *addresses: str,
    namespace: str = "shop",
    ports: Iterable[Mapping[str, Any]] = ({"port": 80, "targetPort": 8080},),
    **spec: Any,
) -> dict[str, Any]:
    """A service with these cluster IPs; "None" for a headless one."""
    own = {"clusterIP": addresses[0], "clusterIPs": list(addresses)} if addresses else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"protocol": "TCP", **each} for each in ports], **own, **spec},
    }


def endpoint_slice(
    name: str,
    *addresses: str,
    namespace: str = "shop",
    of: str = "payments",
    ports: Iterable[Mapping[str, Any]] = ({"port": 8080},),
    not_ready: Iterable[str] = (),
) -> dict[str, Any]:
    """A slice of the service `of`; addresses are ready unless they stand in `not_ready`."""
    unready = set(not_ready)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": {SERVICE_NAME: of}},
        "addressType": "IPv6" if any(":" in each for each in addresses) else "IPv4",
        "ports": [{"name": "", "protocol": "TCP", **each} for each in ports],
        "endpoints": [{"addresses": [each], "conditions": {"ready": each not in unready}} for each in addresses],
    }


def namespace(name: str, *, labelled: bool = True) -> dict[str, Any]:
    """A namespace, in the mesh or not."""
    labels = {"doorward.dev/inject": "enabled"} if labelled else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
