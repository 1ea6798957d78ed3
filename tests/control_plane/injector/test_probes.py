"""Probes: the kubelet asks the sidecar, which asks what the kubelet would have asked."""

import json
from typing import Any

import pytest

from control_plane.injector.patch import Injected, Refused, inject
from control_plane.injector.settings import InjectorSettings
from sidecar.probe_list import probes as sidecars
from tests.support.pods import container, pod

PORTS = [{"containerPort": 8080, "name": "http"}, {"containerPort": 9090, "name": "metrics"}]
EXCLUDED = {"doorward.dev/exclude-inbound-ports": "9090"}


def rewritten(*containers: dict[str, Any], **more: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The pod's spec, and DOORWARD_PROBES, which the sidecar takes."""
    outcome = inject(pod(*containers, **more), "shop", InjectorSettings())
    assert isinstance(outcome, Injected), outcome
    spec = outcome.pod["spec"]
    sidecar = next(each for each in spec["initContainers"] if each["name"] == "doorward-sidecar")
    text = next((each["value"] for each in sidecar["env"] if each["name"] == "DOORWARD_PROBES"), "[]")
    assert len(sidecars(text)) == len(json.loads(text))
    assert "$" not in text
    return spec, json.loads(text)


def refused(probe: dict[str, Any], **more: Any) -> str:
    outcome = inject(pod(container(livenessProbe=probe, ports=PORTS), **more), "shop", InjectorSettings())
    assert isinstance(outcome, Refused)
    (fault,) = outcome.faults
    return str(fault)


@pytest.mark.parametrize(
    ("key", "kind"), [("livenessProbe", "liveness"), ("readinessProbe", "readiness"), ("startupProbe", "startup")]
)
def test_an_http_probe_asks_the_sidecar_and_keeps_its_timing(key: str, kind: str) -> None:
    timing = {"initialDelaySeconds": 3, "periodSeconds": 7, "timeoutSeconds": 2, "failureThreshold": 9}
    headers = [{"name": "Host", "value": "web.example"}, {"name": "X-A", "value": "$(B)"}]
    get = {"path": "/healthz?a=b", "port": "http", "scheme": "HTTPS", "httpHeaders": headers}
    spec, originals = rewritten(container(ports=PORTS, **{key: {"httpGet": get, **timing}}))
    assert spec["containers"][0][key] == {"httpGet": {"path": f"/probe/web/{kind}", "port": 15020}, **timing}
    fields = {"port": 8080, "path": "/healthz?a=b", "headers": [["Host", "web.example"], ["X-A", "$(B)"]]}
    assert originals == [{"name": f"web/{kind}", "http": {"scheme": "HTTPS", **fields}, "host": "", "timeout": 2.0}]


def test_a_tcp_probe_becomes_a_get_too() -> None:
    spec, originals = rewritten(container(readinessProbe={"tcpSocket": {"port": 5432}, "periodSeconds": 5}))
    get = {"path": "/probe/web/readiness", "port": 15020}
    assert spec["containers"][0]["readinessProbe"] == {"httpGet": get, "periodSeconds": 5}
    assert originals == [{"name": "web/readiness", "tcp": {"port": 5432}, "host": "", "timeout": 1.0}]


def test_hooks_ask_the_sidecar_too() -> None:
    lifecycle = {
        "postStart": {"httpGet": {"port": 80, "path": "warm"}},
        "preStop": {"httpGet": {"port": 80}},
        "stopSignal": "SIGUSR1",
    }
    spec, originals = rewritten(container(lifecycle=lifecycle))
    assert spec["containers"][0]["lifecycle"] == {
        "postStart": {"httpGet": {"path": "/probe/web/post-start", "port": 15020}},
        "preStop": {"httpGet": {"path": "/probe/web/pre-stop", "port": 15020}},
        "stopSignal": "SIGUSR1",
    }
    assert [(each["name"], each["http"]["path"], each["timeout"]) for each in originals] == [
        ("web/post-start", "/warm", 30.0),
        ("web/pre-stop", "/", 30.0),
    ]


def test_every_container_that_runs_on_is_probed_through_the_sidecar() -> None:
    probe = {"tcpSocket": {"port": 80}}
    logs = container("logs", restartPolicy="Always", startupProbe=probe)
    _, originals = rewritten(container(livenessProbe=probe), container("b", livenessProbe=probe), initContainers=[logs])
    assert [each["name"] for each in originals] == ["logs/startup", "web/liveness", "b/liveness"]


@pytest.mark.parametrize(
    "probe",
    [
        {"exec": {"command": ["true"]}},
        {"httpGet": {"port": "metrics"}},
        {"httpGet": {"port": 9090, "path": "/metrics"}},
        {"tcpSocket": {"port": 15020}},
        {"httpGet": {"port": 8080, "host": "10.0.0.1"}},
        {"tcpSocket": {"port": 8080, "host": "10.0.0.1"}},
        {"grpc": {"port": 9090}},
    ],
)
def test_what_does_not_meet_the_sidecar_stays_as_it_is(probe: dict[str, Any]) -> None:
    lifecycle = {"preStop": {"exec": {"command": ["sleep", "5"]}}, "postStart": {"sleep": {"seconds": 1}}}
    web = container(livenessProbe=probe, ports=PORTS, lifecycle=lifecycle)
    spec, originals = rewritten(web, annotations=EXCLUDED)
    assert (spec["containers"][0], originals) == (web, [])


def test_without_redirection_the_sidecar_asks_on_loopback() -> None:
    annotations = {"doorward.dev/redirect": "disabled"}
    _, originals = rewritten(container(livenessProbe={"httpGet": {"port": 80}}), annotations=annotations)
    assert originals[0]["host"] == "127.0.0.1"


def test_a_timeout_is_at_most_what_the_sidecar_takes() -> None:
    _, originals = rewritten(container(livenessProbe={"httpGet": {"port": 80}, "timeoutSeconds": 86400}))
    assert originals[0]["timeout"] == 3600.0


@pytest.mark.parametrize(
    ("path", "asked"),
    [(None, "/"), ("", "/"), ("a", "/a"), ("/a b", "/a%20b"), ("/é", "/%C3%A9"), ("/a%2Fb", "/a%2Fb"), ("/a#b", "/a")],
)
def test_a_path_is_asked_as_the_kubelet_would(path: str | None, asked: str) -> None:
    _, originals = rewritten(container(livenessProbe={"httpGet": {"port": 80, "path": path}}))
    assert originals[0]["http"]["path"] == asked


def test_a_grpc_probe_is_refused_with_the_choices() -> None:
    message = refused({"grpc": {"port": 8080}})
    assert message.startswith("spec.containers[0].livenessProbe.grpc: ")
    for choice in ("grpc_health_probe", "httpGet", "tcpSocket", "doorward.dev/exclude-inbound-ports"):
        assert choice in message
    assert "exclude" not in refused({"grpc": {"port": 8080}}, annotations={"doorward.dev/redirect": "disabled"})


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (
            {"httpGet": {"port": "web"}},
            "httpGet.port: 'web' names no port of this container: write a number, or a name of http",
        ),
        ({"tcpSocket": {"port": "web"}}, "tcpSocket.port: 'web' names no port"),
        ({"httpGet": {"path": "/"}}, "httpGet.port: None names no port"),
        ({"httpGet": {"port": 15006}}, "15006 is a port of the sidecar itself"),
    ],
)
def test_a_port_that_cannot_be_asked_is_a_fault(probe: dict[str, Any], message: str) -> None:
    assert message in refused(probe)


def test_a_header_that_http_cannot_carry_is_a_fault_that_does_not_show_its_value() -> None:
    headers = [{"name": "X", "value": "fine"}, {"name": "X", "value": "secret\nX: y"}]
    message = refused({"httpGet": {"port": 80, "httpHeaders": headers}})
    assert message.startswith("spec.containers[0].livenessProbe.httpGet.httpHeaders[1]: ")
    assert "secret" not in message
