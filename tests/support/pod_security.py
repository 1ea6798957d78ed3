"""The Pod Security Standard "restricted", as a pure function of a pod's spec.

https://kubernetes.io/docs/concepts/security/pod-security-standards/, restricted and, with it, baseline. Windows and the
exceptions for user namespaces are left out.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

VOLUMES: Final = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
}
SELINUX_TYPES: Final = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def violations(spec: Mapping[str, Any]) -> list[str]:
    """Everything in which the pod is laxer than "restricted", each with its place."""
    return [*_pod(spec), *(found for place, each in containers(spec) for found in _container(place, each, spec))]


def containers(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every container with its name, after what kind it is."""
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for each in spec.get(key) or ():
            yield f"{key}/{each['name']}", each


def _pod(spec: Mapping[str, Any]) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield key
    for volume in spec.get("volumes") or ():
        if unknown := volume.keys() - {"name"} - VOLUMES:
            yield f"volume {volume['name']}: {', '.join(sorted(unknown))}"
    context = spec.get("securityContext") or {}
    if context.get("sysctls"):
        yield "sysctls"
    yield from _context("pod", context)


def _context(place: str, context: Mapping[str, Any]) -> Iterator[str]:
    """What pods and containers have in common."""
    if context.get("runAsUser") == 0:
        yield f"{place}: runAsUser 0"
    if context.get("runAsNonRoot") is False:
        yield f"{place}: runAsNonRoot false"
    for key in ("seccompProfile", "appArmorProfile"):
        if context.get(key, {}).get("type") == "Unconfined":
            yield f"{place}: {key} Unconfined"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{place}: seLinuxOptions"


def _container(place: str, container: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    own, pod = container.get("securityContext") or {}, spec.get("securityContext") or {}
    yield from _context(place, own)
    if own.get("privileged"):
        yield f"{place}: privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{place}: allowPrivilegeEscalation"
    if own.get("procMount", "Default") != "Default":
        yield f"{place}: procMount"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield f"{place}: runAsNonRoot is not set"
    if (own.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type") not in (
        "RuntimeDefault",
        "Localhost",
    ):
        yield f"{place}: no seccompProfile"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()):
        yield f"{place}: capabilities are not dropped"
    if added := set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        yield f"{place}: adds {', '.join(sorted(added))}"
    if any(port.get("hostPort") for port in container.get("ports") or ()):
        yield f"{place}: hostPort"
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        for action in ("httpGet", "tcpSocket"):
            if ((container.get(probe) or {}).get(action) or {}).get("host"):
                yield f"{place}: {probe} asks another host"
