"""Pods for the injector's tests: one by hand, and many by Hypothesis."""

import json
from typing import Any

from hypothesis import strategies as st


def pod(*containers: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod of these containers, or of one named `web`."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", **({"annotations": annotations} if annotations is not None else {})},
        "spec": {"containers": list(containers) or [container()], **spec},
    }


def container(name: str = "web", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "example/web:1", **fields}


_PORTS: list[list[dict[str, Any]]] = [
    [],
    [{"containerPort": 8080, "name": "http"}],
    [{"containerPort": 80, "name": "http"}, {"containerPort": 5432, "name": "postgres"}, {"containerPort": 9090}],
    [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 8443, "name": "http"}],
]
_PROBES: list[dict[str, Any]] = [
    {},
    {"livenessProbe": {"httpGet": {"port": 8080, "path": "a b$(C)"}, "timeoutSeconds": 9}},
    {"readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 3}, "startupProbe": {"httpGet": {"port": 9090}}},
    {"livenessProbe": {"exec": {"command": ["true"]}}, "lifecycle": {"preStop": {"httpGet": {"port": 8080}}}},
    {"startupProbe": {"httpGet": {"port": 443, "scheme": "HTTPS", "host": "10.0.0.1"}}},
]
_MORE: list[dict[str, Any]] = [
    {},
    {"env": [{"name": "A", "value": "$(B)\n"}], "args": ["~/", "\u00e9"]},
    {"securityContext": {"privileged": True, "runAsUser": 0}, "resources": {"limits": {"cpu": 1}}},
]
_ANNOTATIONS: list[dict[str, str]] = [
    {},
    {"example.com/a_b": "~1"},
    {"doorward.dev/ports": "8080/http, 9092/auto", "doorward.dev/egress": "registry-only"},
    {"doorward.dev/exclude-inbound-ports": "9090", "doorward.dev/cpu-limit": "20m"},
    {"doorward.dev/inbound": "0.0.0.0:8444=127.0.0.1:8081/http", "doorward.dev/ports": ""},
]
_SPECS: list[dict[str, Any]] = [
    {},
    {"volumes": [{"name": "data", "emptyDir": {}}], "restartPolicy": "Never"},
    {"securityContext": {"runAsUser": 5, "fsGroup": 2000}, "schedulerName": "a", "volumes": []},
    {"terminationGracePeriodSeconds": 5},
]


def _merged(name: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "image": "example/web:1", **{key: value for part in parts for key, value in part.items()}}


def _of_its_own(value: Any) -> Any:
    """A copy that shares nothing, as from the API server; copy.deepcopy keeps what is shared within."""
    return json.loads(json.dumps(value))


def _containers(
    name: str, more: list[dict[str, Any]], probes: list[dict[str, Any]] = _PROBES
) -> st.SearchStrategy[dict[str, Any]]:
    ports = st.sampled_from(_PORTS).map(lambda each: {"ports": each} if each else {})
    return st.builds(_merged, st.just(name), ports, st.sampled_from(probes), st.sampled_from(more))


def pods() -> st.SearchStrategy[dict[str, Any]]:
    """Pods that can be in the mesh, with much of what pods have."""
    beside = st.lists(_containers("c1", _MORE), max_size=1)
    not_waiting = [each for each in _PROBES if "startupProbe" not in each]  # for a classic sidecar, for ever
    before = st.lists(_containers("i0", [{}, {"restartPolicy": "Always"}], not_waiting), max_size=1)
    return st.builds(
        lambda first, others, inits, metadata, annotations, spec: _of_its_own(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {**metadata, **({"annotations": annotations} if annotations else {})},
                "spec": {"containers": [first, *others], **({"initContainers": inits} if inits else {}), **spec},
            }
        ),
        _containers("c0", _MORE),
        beside,
        before,
        st.sampled_from([{}, {"name": "web", "labels": {"app": "web"}}]),
        st.sampled_from(_ANNOTATIONS),
        st.sampled_from(_SPECS),
    )
