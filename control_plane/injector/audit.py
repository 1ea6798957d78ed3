"""Which pods should be in the mesh and are not, and why. Pure: from pods, namespaces and links to a list.

A pod should be in the mesh where its namespace is labelled, also with a value that means nothing, or where it has a
sidecar. What is over, or is being deleted, is left out.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from attrs import frozen

from certs.errors import SpiffeIdMalformed
from certs.spiffe import TrustDomain
from control_plane.injector.standing import SYSTEM_NAMESPACES, Skip, around, containers_of, skipped
from control_plane.kubernetes.marks import INJECT, INJECTED, SIDECAR

OVER = frozenset({"Succeeded", "Failed"})
CONTAINERS_NAMED = 5


class Reason(StrEnum):
    """Why a pod is not in the mesh as it should be."""

    OPTED_OUT = "opted_out"
    NAMESPACE_EXCLUDED = "namespace_excluded"
    UNKNOWN_LABEL = "unknown_label"
    STATIC_POD = "static_pod"
    WINDOWS = "windows"
    HOST_NETWORK = "host_network"
    BEFORE_LABEL = "before_label"
    NOT_INJECTED = "not_injected"
    RUNS_AS_SIDECAR = "runs_as_sidecar"
    NOT_READY = "not_ready"
    NOT_CONNECTED = "not_connected"
    OTHER_VERSION = "other_version"


_ADVICE = {
    Reason.OPTED_OUT: "take the label out of its template and restart it, if it is to be in the mesh",
    Reason.NAMESPACE_EXCLUDED: f"take the label {INJECT} from its namespace, or its namespace out of the exclusions",
    Reason.UNKNOWN_LABEL: f"kubectl label namespace {{namespace}} {INJECT}=enabled --overwrite, then restart it",
    Reason.STATIC_POD: "run it as a Deployment or DaemonSet, or in another namespace",
    Reason.WINDOWS: "run it in another namespace",
    Reason.HOST_NETWORK: f"run it without hostNetwork, or keep it out by the label {INJECT}=disabled",
    Reason.BEFORE_LABEL: "restart it: a sidecar comes with a new pod only",
    Reason.NOT_INJECTED: "see `doorward check` for the webhook, then restart the pod",
    Reason.RUNS_AS_SIDECAR: "end them, or restart the pod; let them run as another user",
    Reason.NOT_READY: f"see why: kubectl -n {{namespace}} logs {{name}} -c {SIDECAR}",
    Reason.NOT_CONNECTED: f"see why: kubectl -n {{namespace}} logs {{name}} -c {SIDECAR}",
    Reason.OTHER_VERSION: "restart it: a sidecar comes with a new pod only",
}


@frozen
class Namespace:
    """What is looked at of a namespace. `labelled_since` is the latest that its label can have come; None: unknown."""

    name: str
    labelled: bool
    labelled_since: datetime | None = None
    unknown_label: str | None = None
    """The label's value where that is neither enabled nor disabled: whoever set it meant something."""


@frozen
class Pod:
    """What is looked at of a pod."""

    namespace: str
    name: str
    service_account: str
    addresses: tuple[str, ...]
    left_out: Skip | None
    """Why the injector would leave it as it is."""
    created: datetime
    sidecar: bool
    sidecar_ready: bool
    version: str
    """The version that injected it, "" where nothing did."""
    over: bool
    around: tuple[str, ...] = ()
    """Its containers that run as the sidecar's user, and so past it."""


@frozen
class Audited:
    """One pod that is, or should be, in the mesh. `reason` is None where everything is as it should be."""

    namespace: str
    name: str
    identity: str
    reason: Reason | None = None
    detail: str = ""
    advice: str = ""


@frozen
class Mesh:
    """What pods are compared with. `connected` are identities with the addresses that they connect from."""

    trust_domain: TrustDomain
    version: str
    connected: Collection[tuple[str, str]]
    excluded: Collection[str] = SYSTEM_NAMESPACES
    """Namespaces in which the webhook is not called."""


def audit(namespaces: Iterable[Namespace], pods: Iterable[Pod], mesh: Mesh) -> list[Audited]:
    """Every pod that is or should be in the mesh, by namespace and name."""
    known = {each.name: each for each in namespaces}
    wanted = [pod for pod in pods if not pod.over and (pod.sidecar or _is_meant(pod, known))]
    return [_audited(pod, known, mesh) for pod in sorted(wanted, key=lambda each: (each.namespace, each.name))]


def _is_meant(pod: Pod, namespaces: Mapping[str, Namespace]) -> bool:
    found = namespaces.get(pod.namespace)
    return found is not None and (found.labelled or found.unknown_label is not None)


def _audited(pod: Pod, namespaces: Mapping[str, Namespace], mesh: Mesh) -> Audited:
    identity = _identity(pod, mesh.trust_domain)
    found = _within(pod, identity, mesh) if pod.sidecar else _outside(pod, namespaces[pod.namespace], mesh)
    if found is None:
        return Audited(pod.namespace, pod.name, identity)
    reason, detail = found
    advice = _ADVICE[reason].format(namespace=pod.namespace, name=pod.name)
    return Audited(pod.namespace, pod.name, identity, reason, detail, advice)


def _outside(pod: Pod, namespace: Namespace, mesh: Mesh) -> tuple[Reason, str]:
    """Why a pod of a labelled namespace has no sidecar."""
    if pod.left_out is Skip.OPTED_OUT:
        return Reason.OPTED_OUT, f"it {pod.left_out.message}"
    if pod.namespace in mesh.excluded or pod.left_out is Skip.SYSTEM_NAMESPACE:
        return Reason.NAMESPACE_EXCLUDED, "the injector leaves its namespace out, although that has the label"
    if namespace.unknown_label is not None:
        label = f"{INJECT}={namespace.unknown_label}"
        return Reason.UNKNOWN_LABEL, f"its namespace has the label {label}, neither enabled nor disabled"
    if pod.left_out is not None:
        return Reason(pod.left_out), f"it {pod.left_out.message}"
    since = namespace.labelled_since
    if since is not None and pod.created <= since:
        return Reason.BEFORE_LABEL, f"it was created at {_moment(pod.created)}, its namespace labelled later"
    return Reason.NOT_INJECTED, f"it was created at {_moment(pod.created)}, while the webhook did not act"


def _within(pod: Pod, identity: str, mesh: Mesh) -> tuple[Reason, str] | None:
    """What is wrong with a pod that has a sidecar; None for nothing."""
    if pod.around:
        names = ", ".join(pod.around[:CONTAINERS_NAMED])
        more = f" and {len(pod.around) - CONTAINERS_NAMED} more" if len(pod.around) > CONTAINERS_NAMED else ""
        return Reason.RUNS_AS_SIDECAR, f"{names}{more}: run as the sidecar's user, whose calls are not redirected"
    if not pod.sidecar_ready:
        return Reason.NOT_READY, "its sidecar is not ready"
    if not any((identity, address) in mesh.connected for address in pod.addresses):
        return Reason.NOT_CONNECTED, "its sidecar is not connected to this control plane"
    if pod.version and pod.version != mesh.version:
        return Reason.OTHER_VERSION, f"its sidecar is of version {pod.version[:40]}, this is {mesh.version}"
    return None


def _identity(pod: Pod, trust_domain: TrustDomain) -> str:
    """Its SPIFFE ID; "" where its names make none."""
    try:
        return str(trust_domain.workload(pod.namespace, pod.service_account))
    except SpiffeIdMalformed:
        return ""


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def read_namespace(found: dict[str, Any]) -> Namespace:
    """From a Namespace of the API server (v1)."""
    metadata = found["metadata"]
    label = metadata.get("labels", {}).get(INJECT)
    if label == "enabled":
        return Namespace(metadata["name"], labelled=True, labelled_since=_labelled_since(metadata))
    return Namespace(metadata["name"], labelled=False, unknown_label=None if label == "disabled" else label)


def _labelled_since(metadata: dict[str, Any]) -> datetime | None:
    """When whoever set the label last changed something of the namespace, as its managedFields say."""
    times = [
        each["time"]
        for each in metadata.get("managedFields", ())
        if "time" in each and f"f:{INJECT}" in each.get("fieldsV1", {}).get("f:metadata", {}).get("f:labels", {})
    ]
    return max(map(datetime.fromisoformat, times), default=None)


def read_pod(found: dict[str, Any]) -> Pod:
    """From a Pod of the API server (v1)."""
    metadata, spec, status = found["metadata"], found["spec"], found.get("status", {})
    sidecar = any(container["name"] == SIDECAR for _, container in containers_of(spec))
    left_out = skipped(found, metadata["namespace"])
    statuses = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        service_account=spec.get("serviceAccountName", "default"),
        addresses=tuple(each["ip"] for each in status.get("podIPs", ())),
        left_out=None if sidecar else left_out,
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        sidecar=sidecar,
        sidecar_ready=any(each["name"] == SIDECAR and each.get("ready") is True for each in statuses),
        version=metadata.get("annotations", {}).get(INJECTED, ""),
        over=status.get("phase") in OVER or "deletionTimestamp" in metadata,
        around=around(found),
    )
