"""Whether what the injector reads of a pod has the types that it must have; the API server judges the rest.

Everything else in this package may then take them for granted. Null stands for absence, as in Kubernetes.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from control_plane.injector.faults import Fault, shown

MAX_ITEMS: Final = 1000
"""Of one list, such as a pod's containers: each costs time, and who asks may be anybody."""

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)  # a DNS label, RFC 1123
_TEXTS: Final = {int: "a whole number", str: "text", bool: "true or false", (int, str): "a number or a name"}

_HTTP: Final = {
    "port": (int, str),
    "path": str,
    "host": str,
    "scheme": str,
    "httpHeaders": [{"name": str, "value": str}],
}
_PROBE: Final = {"httpGet": _HTTP, "tcpSocket": {"port": (int, str), "host": str}, "grpc": {"port": int}}
_CONTAINER: Final = {
    "name": str,
    "restartPolicy": str,
    "ports": [{"containerPort": int, "hostPort": int, "name": str, "protocol": str}],
    "livenessProbe": {**_PROBE, "timeoutSeconds": int},
    "readinessProbe": {**_PROBE, "timeoutSeconds": int},
    "startupProbe": {**_PROBE, "timeoutSeconds": int},
    "lifecycle": {"postStart": {"httpGet": _HTTP}, "preStop": {"httpGet": _HTTP}},
    "securityContext": {"runAsUser": int, "privileged": bool, "capabilities": {"add": [str]}},
}
_POD: Final = {
    "metadata": {"annotations": {}, "labels": {}},
    "spec": {
        "containers": [_CONTAINER],
        "initContainers": [_CONTAINER],
        "volumes": [{"name": str}],
        "hostNetwork": bool,
        "nodeSelector": {},
        "os": {"name": str},
        "restartPolicy": str,
        "securityContext": {"runAsUser": int},
        "terminationGracePeriodSeconds": int,
    },
}


def malformed(pod: object) -> list[Fault]:
    """What cannot be a pod's, with its place."""
    faults = list(_wrong(pod, _POD, ""))
    if not faults:
        assert isinstance(pod, dict)
        spec = pod.get("spec") or {}
        if not spec.get("containers"):
            faults.append(Fault("spec.containers", "is empty: a pod has at least one container"))
        for key in ("containers", "initContainers"):
            faults += [
                Fault(f"spec.{key}[{index}].name", f"{shown(each.get('name'))} is no container's name")
                for index, each in enumerate(spec.get(key) or ())
                if not _NAME.fullmatch(each.get("name") or "")
            ]
    return faults


def _wrong(value: object, wanted: Any, path: str) -> Iterator[Fault]:
    """A map's fields and a list's items in turn; else the value itself."""
    if isinstance(wanted, dict):
        if not isinstance(value, dict):
            yield Fault(path, f"{shown(value)} is no map")
            return
        for key, below in wanted.items():
            if value.get(key) is not None:
                yield from _wrong(value[key], below, f"{path}.{key}" if path else key)
    elif isinstance(wanted, list):
        if not isinstance(value, list):
            yield Fault(path, f"{shown(value)} is no list")
            return
        if len(value) > MAX_ITEMS:
            yield Fault(path, f"has {len(value)} items: write at most {MAX_ITEMS}")
            return
        for index, each in enumerate(value):
            yield from _wrong(each, wanted[0], f"{path}[{index}]")
    elif not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        yield Fault(path, f"{shown(value)} is not {_TEXTS[wanted]}")
