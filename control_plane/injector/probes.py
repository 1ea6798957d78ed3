"""A container's probes: the kubelet asks the sidecar, and the sidecar asks the application.

The kubelet has no identity in the mesh, so its own connections to the application would be refused. Each HTTP or TCP
probe, and each HTTP hook, becomes a GET of `/probe/<container>/<kind>` at the sidecar's observe port, and what it was
goes to the sidecar as DOORWARD_PROBES. What does not meet the sidecar stays as it is: commands, other hosts, excluded
ports. gRPC probes need HTTP/2, which the sidecar does not speak yet: they are refused.
"""

import json
import string
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final
from urllib.parse import quote

import h11
from attrs import Factory, define, frozen

from control_plane.injector.faults import Fault, shown

PROBES: Final = {"livenessProbe": "liveness", "readinessProbe": "readiness", "startupProbe": "startup"}
HOOKS: Final = {"postStart": "post-start", "preStop": "pre-stop"}

_DEFAULT_TIMEOUT: Final = 1  # seconds: `timeoutSeconds` of Kubernetes
_LONGEST_TIMEOUT: Final = 3600  # the sidecar's
_HOOK_TIMEOUT: Final = 30  # seconds: the kubelet sets none; as long as a pod has by default to end


@frozen
class Route:
    """How probes reach the application."""

    observe: int
    host: str
    """Where the sidecar asks; "" for the address that the kubelet dialled."""
    passes_by: Callable[[int], bool]
    """Whether the kubelet's connection to that port does not meet the sidecar."""
    own: Collection[int]
    """Ports where the sidecar itself listens."""
    can_exclude: bool = True
    """Whether a port can be left out of the redirection."""


@define
class Rewriting:
    """Rewrites the probes of a pod's containers, one container after the other, and keeps what they were."""

    route: Route
    originals: list[dict[str, Any]] = Factory(list)
    faults: list[Fault] = Factory(list)

    def container(self, container: Mapping[str, Any], path: str) -> dict[str, Any]:
        """The container with its probes asking the sidecar; `path` is its place in the pod."""
        changed = dict(container)
        for key, kind in PROBES.items():
            if probe := container.get(key):
                timeout = probe.get("timeoutSeconds") or _DEFAULT_TIMEOUT
                changed[key] = self._action(probe, container, kind, timeout, f"{path}.{key}")
        if lifecycle := container.get("lifecycle"):
            changed["lifecycle"] = dict(lifecycle)
            for key, kind in HOOKS.items():
                # A hook's tcpSocket is kept by Kubernetes for old manifests only, and never works.
                if (lifecycle.get(key) or {}).get("httpGet"):
                    place = f"{path}.lifecycle.{key}"
                    changed["lifecycle"][key] = self._action(lifecycle[key], container, kind, _HOOK_TIMEOUT, place)
        return changed

    def _action(
        self, action: Mapping[str, Any], container: Mapping[str, Any], kind: str, timeout: int, path: str
    ) -> dict[str, Any]:
        """A probe or hook, asking the sidecar where the sidecar has to ask."""
        how = next((each for each in ("httpGet", "tcpSocket", "grpc") if action.get(each) is not None), None)
        if how is None:
            return dict(action)
        asked = action[how]
        port = self._port(asked.get("port"), container, f"{path}.{how}.port")
        if port is None or asked.get("host") or self.route.passes_by(port):
            return dict(action)
        if how == "grpc":
            self.faults.append(Fault(f"{path}.grpc", self._no_grpc()))
            return dict(action)
        name = f"{container['name']}/{kind}"
        question = self._http(asked, port, f"{path}.httpGet") if how == "httpGet" else {"tcp": {"port": port}}
        limited = float(min(timeout, _LONGEST_TIMEOUT))
        self.originals.append({"name": name, **question, "host": self.route.host, "timeout": limited})
        kept = {key: value for key, value in action.items() if key != how}
        return {"httpGet": {"path": f"/probe/{name}", "port": self.route.observe}, **kept}

    def _port(self, port: object, container: Mapping[str, Any], path: str) -> int | None:
        """The port's number; None, and a fault, where the container names no such port, or it is the sidecar's."""
        named = {each["name"]: each.get("containerPort") for each in container.get("ports") or () if each.get("name")}
        number = port if isinstance(port, int) else named.get(port)
        if not isinstance(number, int):
            ports = ", ".join(named) or "none"
            message = f"{shown(port)} names no port of this container: write a number, or a name of {ports}"
            self.faults.append(Fault(path, message))
            return None
        if number in self.route.own and not self.route.passes_by(number):
            message = f"{number} is a port of the sidecar itself: write one where the application listens"
            self.faults.append(Fault(path, message))
            return None
        return number

    def _http(self, get: Mapping[str, Any], port: int, path: str) -> dict[str, Any]:
        """The question as DOORWARD_PROBES has it; a fault where no HTTP request can ask it."""
        target = (get.get("path") or "/").partition("#")[0]
        target = quote(target if target.startswith("/") else f"/{target}", safe=string.punctuation)
        headers = [[each.get("name") or "", each.get("value") or ""] for each in get.get("httpHeaders") or ()]
        for index, (name, value) in enumerate(headers):
            if not _sendable(name, value):
                self.faults.append(Fault(f"{path}.httpHeaders[{index}]", "is no header field of HTTP"))
        return {"http": {"scheme": get.get("scheme") or "HTTP", "port": port, "path": target, "headers": headers}}

    def _no_grpc(self) -> str:
        choices = ["an exec probe with grpc_health_probe", "an httpGet probe", "a tcpSocket probe"]
        if self.route.can_exclude:
            choices.append("the annotation doorward.dev/exclude-inbound-ports with this port")
        return f"gRPC probes cannot pass the sidecar yet: write {', '.join(choices[:-1])}, or {choices[-1]}"


def encoded(originals: list[dict[str, Any]]) -> str:
    """DOORWARD_PROBES: JSON without a dollar sign, which Kubernetes would take for a variable's."""
    return json.dumps(originals, separators=(",", ":")).replace("$", "\\u0024")


def _sendable(name: str, value: str) -> bool:
    """Whether the sidecar's HTTP takes the header field. Its value may be a password, so nobody shows it."""
    host = [] if name.lower() == "host" else [("Host", "")]
    try:
        h11.Request(method="GET", target="/", headers=[*host, (name, value)])
    except (h11.LocalProtocolError, UnicodeError):
        return False
    return True
