"""Whether a pod can be in the mesh: what is left out and why, what is refused, and who goes around the sidecar."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

from control_plane.injector.containers import CONTAINERS, VOLUMES
from control_plane.injector.faults import Fault, shown
from control_plane.injector.settings import InjectorSettings
from control_plane.kubernetes.marks import INJECT, INJECTED, SIDECAR

MIRROR: Final = "kubernetes.io/config.mirror"
"""The kubelet's annotation on what the API server shows of a static pod."""
SYSTEM_NAMESPACES: Final = ("kube-system", "kube-public", "kube-node-lease")

_PAST_THE_SIDECAR: Final = {"NET_ADMIN", "CAP_NET_ADMIN", "ALL"}


class Skip(StrEnum):
    """Why a pod stays as it is."""

    INJECTED = "injected"
    OPTED_OUT = "opted_out"
    SYSTEM_NAMESPACE = "system_namespace"
    STATIC_POD = "static_pod"
    WINDOWS = "windows"
    HOST_NETWORK = "host_network"

    @property
    def message(self) -> str:
        """The same as a sentence's end: "this pod …"."""
        return _MESSAGES[self]


_MESSAGES: Final = {
    Skip.INJECTED: "has its sidecar already",
    Skip.OPTED_OUT: f"has the label {INJECT}: disabled",
    Skip.SYSTEM_NAMESPACE: "is in a namespace of the system",
    Skip.STATIC_POD: "shows a static pod of a node, which the API server cannot change",
    Skip.WINDOWS: "runs on Windows, where there is no sidecar",
    Skip.HOST_NETWORK: "uses its node's network (hostNetwork), which cannot be redirected: it is not in the mesh, and "
    "others cannot call it through the mesh",
}


def skipped(pod: Mapping[str, Any], namespace: str) -> Skip | None:
    """Why this pod stays as it is, or None where it has to be injected."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    system = (spec.get("os") or {}).get("name") or (spec.get("nodeSelector") or {}).get("kubernetes.io/os")
    reasons = {
        Skip.INJECTED: INJECTED in annotations and any(name == SIDECAR for _, name in _names(spec)),
        Skip.OPTED_OUT: labels.get(INJECT) == "disabled",
        Skip.SYSTEM_NAMESPACE: namespace in SYSTEM_NAMESPACES,
        Skip.STATIC_POD: MIRROR in annotations,
        Skip.WINDOWS: system == "windows",
        Skip.HOST_NETWORK: bool(spec.get("hostNetwork")),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def refused(pod: Mapping[str, Any], settings: InjectorSettings) -> Iterator[Fault]:
    """What this pod does that cannot be together with a sidecar."""
    label = ((pod.get("metadata") or {}).get("labels") or {}).get(INJECT)
    if label not in (None, "enabled", "disabled"):
        yield Fault(
            f"metadata.labels[{INJECT}]", f"{shown(label)}: write disabled to keep the pod out, or leave it out"
        )
    spec = pod["spec"]
    for place, name in _names(spec):
        if name in CONTAINERS:
            yield Fault(place, f"{name} is the name of a container that is injected: choose another one")
    for index, volume in enumerate(spec.get("volumes") or ()):
        if volume.get("name") in VOLUMES:
            message = f"{volume['name']} is the name of a volume that is injected: choose another one"
            yield Fault(f"spec.volumes[{index}].name", message)
    yield from _users(spec, settings.sidecar_uid)
    yield from _ports(spec, settings)


def warnings(pod: Mapping[str, Any]) -> Iterator[str]:
    """Who in this pod can go past the sidecar on the way out."""
    for _, container in containers_of(pod["spec"]):
        context = container.get("securityContext") or {}
        added = {each.upper() for each in (context.get("capabilities") or {}).get("add") or ()}
        if context.get("privileged") or added & _PAST_THE_SIDECAR:
            what = "is privileged" if context.get("privileged") else "has NET_ADMIN"
            yield f"container {container['name']} {what}: it can go past the sidecar"


def around(pod: Mapping[str, Any]) -> tuple[str, ...]:
    """Which containers of a redirected pod of the API server run as its sidecar's user, whom the redirection lets past.

    Nobody asks the injector about an ephemeral one (kubectl debug). An image's user is known where the kubelet tells it
    (ContainerStatus.user, Kubernetes 1.33).
    """
    spec, status = pod["spec"], pod.get("status") or {}
    of_pod = (spec.get("securityContext") or {}).get("runAsUser")
    ephemeral = spec.get("ephemeralContainers") or ()
    found = {each["name"]: each for each in (*(each for _, each in containers_of(spec)), *ephemeral)}
    if not found.keys() >= set(CONTAINERS):
        return ()
    lists = (status.get(f"{kind}Statuses") or () for kind in ("initContainer", "container", "ephemeralContainer"))
    statuses = {each["name"]: each for listed in lists for each in listed}

    def user(name: str) -> Any:
        told = ((statuses.get(name, {}).get("user") or {}).get("linux") or {}).get("uid")
        wanted = (found[name].get("securityContext") or {}).get("runAsUser", of_pod)
        return wanted if told is None else told

    def ended(name: str) -> bool:
        return "terminated" in (statuses.get(name, {}).get("state") or {})

    own = user(SIDECAR)
    others = [name for name in found if name not in CONTAINERS and not ended(name)]
    return () if own is None else tuple(name for name in others if user(name) == own)


def containers_of(spec: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every container of the pod with its place."""
    for key in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(key) or ()):
            yield f"spec.{key}[{index}]", container


def _names(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for place, container in containers_of(spec):
        yield f"{place}.name", container["name"]


def _users(spec: Mapping[str, Any], uid: int) -> Iterator[Fault]:
    message = f"{uid} is the sidecar's user, whose connections are not redirected: choose another one"
    if (spec.get("securityContext") or {}).get("runAsUser") == uid:
        yield Fault("spec.securityContext.runAsUser", message)
    for place, container in containers_of(spec):
        if (container.get("securityContext") or {}).get("runAsUser") == uid:
            yield Fault(f"{place}.securityContext.runAsUser", message)


def _ports(spec: Mapping[str, Any], settings: InjectorSettings) -> Iterator[Fault]:
    ports = settings.ports
    for place, container in containers_of(spec):
        for index, port in enumerate(container.get("ports") or ()):
            for key in ("containerPort", "hostPort"):
                if port.get(key) in (ports.inbound, ports.outbound, ports.observe):
                    yield Fault(
                        f"{place}.ports[{index}].{key}", f"{port[key]} is a port of the sidecar: choose another"
                    )
