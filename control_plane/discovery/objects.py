"""Pods, Services and EndpointSlices as small frozen values: only what discovery asks about, in one spelling.

`keep_...` are what `Watched` keeps of a kind: None for what does not concern discovery, and for what makes no sense.
Sources: the API reference of core/v1 Pod and Service, and of discovery.k8s.io/v1 EndpointSlice.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

from attrs import frozen

from certs.errors import SpiffeIdMalformed
from certs.spiffe import WorkloadName
from control_plane.discovery.reading import ObjectRefused, address, maps, port, text, texts, value
from control_plane.kubernetes.marks import INJECT, REDIRECT, SIDECAR
from control_plane.kubernetes.port_names import protocol_of_name
from mesh.wire import PROTOCOLS

SERVICE_NAME: Final = "kubernetes.io/service-name"
MAX_PORTS: Final = 1024
"""Of one service, slice, container or sidecar; further ones count as if they were not there."""
MAX_RANGES: Final = 4096
"""Of ports that one pod's rules leave out."""
VERSIONS: Final = 2  # of IP: a service has at most one address of each
FINISHED: Final = ("Succeeded", "Failed")
OWN_PORTS: Final = {"--inbound-port": "15006", "--outbound-port": "15001", "--exclude-inbound-ports": "15020"}
"""Flags of `doorward-sidecar redirect` whose ports are not the application's, and their defaults."""

T = TypeVar("T")
Ports = tuple[tuple[int, str], ...]
"""Ports and their protocols."""

log = logging.getLogger("doorward.discovery")


@frozen
class Sidecar:
    """A pod's sidecar. `redirected`: all of the pod's TCP goes through it, and so it may be found by address.

    `speaks` is what it was told of the application's ports, `declared` what the containers say by their ports' names;
    `past` are ranges, both ends included, in which connections do not reach the application through it; they are in
    order and do not overlap.
    """

    redirected: bool
    speaks: Ports = ()
    declared: Ports = ()
    past: tuple[tuple[int, int], ...] = ()


@frozen
class Pod:
    """One pod that has not finished, and its addresses: its own, unless they are its node's (`host_network`)."""

    name: str
    workload: WorkloadName
    """Its namespace and service account: whoever runs in it."""
    addresses: tuple[str, ...]
    terminating: bool = False
    host_network: bool = False
    sidecar: Sidecar | None = None


@frozen
class ServicePort:
    """One TCP port of a service; `application` is its appProtocol, "" without."""

    name: str
    port: int
    application: str = ""


@frozen
class Service:
    """One service. Without `addresses` it is headless."""

    namespace: str
    name: str
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()


@frozen
class Slice:
    """One EndpointSlice of the service `service` in its namespace. `ports` are TCP, the application's numbers."""

    namespace: str
    name: str
    service: str
    ports: tuple[ServicePort, ...] = ()
    places: tuple[tuple[str, bool], ...] = ()
    """Addresses, and whether each is ready. Not who is there."""


def keep_pod(raw: dict[str, Any]) -> Pod | None:
    """A pod, unless it has finished or has no address."""
    return _kept("Pod", raw, read_pod)


def keep_service(raw: dict[str, Any]) -> Service | None:
    """A service, unless it is only a name for another one."""
    return _kept("Service", raw, read_service)


def keep_slice(raw: dict[str, Any]) -> Slice | None:
    """A slice of IP addresses that belongs to a service."""
    return _kept("EndpointSlice", raw, read_slice)


def keep_namespace(raw: dict[str, Any]) -> bool | None:
    """True for a namespace that is in the mesh."""
    return _kept("Namespace", raw, _is_in_mesh)


def read_pod(raw: dict[str, Any]) -> Pod | None:
    """None for one that has finished, whose addresses may be another's now, or has none. Raises ObjectRefused."""
    found = [text(each, "ip") for each in maps(raw, "status.podIPs")] or [value(raw, "status.podIP", str, "")]
    if value(raw, "status.phase", str, "") in FINISHED or not any(found):
        return None
    account = value(raw, "spec.serviceAccountName", str, "") or "default"
    try:
        workload = WorkloadName(text(raw, "metadata.namespace"), account)
    except SpiffeIdMalformed as error:
        raise ObjectRefused(f"spec.serviceAccountName: {error}") from None
    return Pod(
        name=text(raw, "metadata.name"),
        workload=workload,
        addresses=tuple(dict.fromkeys(address(each, "status.podIPs") for each in found if each)),
        terminating=bool(value(raw, "metadata.deletionTimestamp", str, "")),
        host_network=value(raw, "spec.hostNetwork", bool, False),
        sidecar=_sidecar(raw),
    )


def read_service(raw: dict[str, Any]) -> Service | None:
    """None for a service of type ExternalName. Raises ObjectRefused."""
    if value(raw, "spec.type", str, "") == "ExternalName":
        return None
    found = texts(raw, "spec.clusterIPs") or [value(raw, "spec.clusterIP", str, "")]
    if len(found) > VERSIONS:
        raise ObjectRefused(f"spec.clusterIPs: there are {len(found)}")
    return Service(
        namespace=text(raw, "metadata.namespace"),
        name=text(raw, "metadata.name"),
        addresses=tuple(dict.fromkeys(address(each, "spec.clusterIPs") for each in found if each not in ("", "None"))),
        ports=tuple(islice(_ports(raw, "spec.ports"), MAX_PORTS)),
    )


def read_slice(raw: dict[str, Any]) -> Slice | None:
    """None for a slice of names, or without a service. Raises ObjectRefused."""
    labels: dict[str, Any] = value(raw, "metadata.labels", dict, {})
    service = labels.get(SERVICE_NAME)
    if not isinstance(service, str) or not service or value(raw, "addressType", str, "IPv4") not in ("IPv4", "IPv6"):
        return None
    return Slice(
        namespace=text(raw, "metadata.namespace"),
        name=text(raw, "metadata.name"),
        service=service,
        ports=tuple(islice(_ports(raw, "ports"), MAX_PORTS)),
        places=tuple(
            (address(spelled, "endpoints.addresses"), value(each, "conditions.ready", bool, True))
            for each in maps(raw, "endpoints")  # unknown counts as ready, says the API
            for spelled in texts(each, "addresses")
        ),
    )


def _is_in_mesh(raw: dict[str, Any]) -> bool | None:
    labels: dict[str, Any] = value(raw, "metadata.labels", dict, {})
    return labels.get(INJECT) == "enabled" or None


def _kept(kind: str, raw: dict[str, Any], read: Callable[[dict[str, Any]], T | None]) -> T | None:
    try:
        return read(raw)
    except ObjectRefused as refused:
        metadata = raw.get("metadata")
        name, namespace = (metadata.get(key) if isinstance(metadata, dict) else None for key in ("name", "namespace"))
        log.warning(
            "an object of the cluster makes no sense and is left out",
            extra={"fields": {"kind": kind, "object": f"{namespace}/{name}"[:300], "reason": str(refused)}},
        )
        return None


def _ports(raw: dict[str, Any], path: str) -> Iterator[ServicePort]:
    """The TCP ports of a service or slice that have a number."""
    for each in maps(raw, path):
        number = value(each, "port", int, 0)
        if number and value(each, "protocol", str, "TCP") == "TCP":
            yield ServicePort(value(each, "name", str, ""), port(number, path), value(each, "appProtocol", str, ""))


def _sidecar(raw: dict[str, Any]) -> Sidecar | None:
    """The sidecar among a pod's containers. Raises ObjectRefused."""
    first, rest = maps(raw, "spec.initContainers"), maps(raw, "spec.containers")
    named = {value(each, "name", str, ""): each for each in (*first, *rest)}
    if SIDECAR not in named:
        return None
    environment = {value(each, "name", str, ""): value(each, "value", str, "") for each in maps(named[SIDECAR], "env")}
    lasting = [each for each in first if value(each, "restartPolicy", str, "") == "Always"]
    containers = [each for each in (*lasting, *rest) if value(each, "name", str, "") not in (SIDECAR, REDIRECT)]
    redirect = named.get(REDIRECT)
    return Sidecar(
        redirected=redirect is not None,
        speaks=tuple(islice(_spoken(environment.get("DOORWARD_PORTS", "")), MAX_PORTS)),
        declared=tuple(islice(_declared(containers), MAX_PORTS)),
        past=_merged(_past(redirect)) if redirect is not None else (),
    )


def _spoken(setting: str) -> Iterator[tuple[int, str]]:
    """`--ports` as its variable has it: PORT/PROTOCOL, separated by commas or spaces. Raises ObjectRefused."""
    for each in setting.replace(",", " ").split():
        number, _, protocol = each.partition("/")
        if protocol not in PROTOCOLS:
            raise ObjectRefused(f"DOORWARD_PORTS: {each[:80]!r} is no port with a protocol")
        yield _number(number, "DOORWARD_PORTS"), protocol


def _declared(containers: Iterable[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    for container in containers:
        for each in maps(container, "ports"):
            number = value(each, "containerPort", int, 0)
            if number and value(each, "protocol", str, "TCP") == "TCP":
                yield port(number, "containerPort"), protocol_of_name(value(each, "name", str, ""))


def _past(redirect: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """The ranges of ports that the pod's rules do not send through the sidecar, or that are its own."""
    given: dict[str, list[str]] = {}
    words = [*texts(redirect, "command"), *texts(redirect, "args")]
    for index, word in enumerate(words):
        flag, equals, inline = word.partition("=")
        if flag in OWN_PORTS:
            given.setdefault(flag, []).append(inline if equals else "".join(words[index + 1 : index + 2]))
    for flag, default in OWN_PORTS.items():
        for each in ",".join(given.get(flag, [default])).split(","):
            if each.strip():
                first, _, last = each.strip().partition("-")
                yield _number(first, flag), _number(last or first, flag)


def _merged(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The same ports in ranges that are in order and do not overlap. Raises ObjectRefused."""
    given = sorted(islice(ranges, MAX_RANGES + 1))
    if len(given) > MAX_RANGES:
        raise ObjectRefused(f"{REDIRECT}: more than {MAX_RANGES} ranges of ports")
    found: list[tuple[int, int]] = []
    for first, last in given:
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return tuple(found)


def _number(spelled: str, path: str) -> int:
    if not (spelled.isascii() and spelled.isdigit() and len(spelled) <= 5):
        raise ObjectRefused(f"{path}: {spelled[:80]!r} is no port")
    return port(int(spelled), path)
