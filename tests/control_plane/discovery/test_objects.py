"""Objects of the cluster are read where something is missing, and left out with a word where it is wrong."""

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.spiffe import WorkloadName
from control_plane.discovery.objects import (
    Pod,
    Service,
    ServicePort,
    Sidecar,
    Slice,
    keep_namespace,
    keep_pod,
    keep_service,
    keep_slice,
)
from control_plane.injector.patch import Injected, inject
from control_plane.injector.settings import InjectorSettings
from tests.support.cluster_objects import endpoint_slice, namespace, pod, service
from tests.support.examples import examples

PAYMENTS = WorkloadName("shop", "payments")
OWN = ((15001, 15001), (15006, 15006), (15020, 15020))
SAMPLES: dict[str, tuple[Callable[[dict[str, Any]], object], dict[str, Any]]] = {
    "Pod": (keep_pod, pod("a", "10.0.0.1", "fd00::1", container_ports=[("metrics", 9090)])),
    "Service": (keep_service, service("payments", "10.96.0.1", "fd00:96::1")),
    "EndpointSlice": (keep_slice, endpoint_slice("payments-1", "10.0.0.1", ports=[{"port": 8080, "appProtocol": "x"}])),
    "Namespace": (keep_namespace, namespace("shop")),
}


def test_a_pod_is_who_runs_in_it_where_it_is_and_what_its_sidecar_was_told() -> None:
    raw = pod("a", "10.0.0.1", "fd00:0::1", ports="8080/http,5432/tcp", container_ports=[("", 9090), ("redis", 6379)])
    sidecar = Sidecar(True, ((8080, "http"), (5432, "tcp")), ((9090, "auto"), (6379, "tcp")), OWN)
    assert keep_pod(raw) == Pod("a", PAYMENTS, ("10.0.0.1", "fd00::1"), sidecar=sidecar)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"status": {"phase": "Running"}}, None),
        ({"status": {"phase": "Succeeded", "podIP": "10.0.0.1"}}, None),
        ({"status": {"phase": "Failed", "podIP": "10.0.0.1"}}, None),
        ({"status": {"podIP": "10.0.0.1"}}, Pod("a", PAYMENTS, ("10.0.0.1",))),
        ({"spec": {}}, Pod("a", WorkloadName("shop", "default"), ("10.0.0.1",))),
        ({"spec": {"hostNetwork": True}}, Pod("a", WorkloadName("shop", "default"), ("10.0.0.1",), host_network=True)),
        (
            {"metadata": {"name": "a", "namespace": "shop", "deletionTimestamp": "2026-11-22T12:00:00Z"}},
            Pod("a", PAYMENTS, ("10.0.0.1",), terminating=True),
        ),
    ],
)
def test_a_pod_without_what_is_optional(change: dict[str, Any], kept: Pod | None) -> None:
    assert keep_pod({**pod("a", "10.0.0.1", ports=None), **change}) == kept


def test_a_finished_init_container_declares_no_ports_and_a_lasting_one_does() -> None:
    raw = pod("a", "10.0.0.1")
    once = {"name": "once", "ports": [{"containerPort": 1}]}
    lasting = {"name": "lasting", "restartPolicy": "Always", "ports": [{"containerPort": 2}, {"containerPort": 3}]}
    lasting["ports"][1]["protocol"] = "UDP"
    raw["spec"]["initContainers"] += [once, lasting]
    kept = keep_pod(raw)
    assert kept is not None
    assert kept.sidecar is not None
    assert kept.sidecar.declared == ((2, "auto"),)


def test_ports_that_the_rules_leave_out_are_read_from_the_rules() -> None:
    raw = pod("a", "10.0.0.1")
    command = ["doorward-sidecar", "redirect", "--inbound-port", "16006", "--exclude-inbound-ports=15020,9000-9010"]
    raw["spec"]["initContainers"][0] |= {"command": command[:2], "args": command[2:]}
    kept = keep_pod(raw)
    assert kept is not None
    assert kept.sidecar is not None
    assert set(kept.sidecar.past) == {(16006, 16006), (15001, 15001), (15020, 15020), (9000, 9010)}


def test_what_the_injector_makes_of_a_pod_is_understood() -> None:
    raw = pod("a", "10.0.0.1", ports=None, container_ports=[("http", 8080), ("mysql", 3306)])
    raw["metadata"]["annotations"] = {"doorward.dev/exclude-inbound-ports": "9000"}
    raw |= {"spec": injected(raw)["spec"]}
    kept = keep_pod(raw)
    assert kept is not None
    assert kept.sidecar == Sidecar(
        True, ((8080, "http"), (3306, "tcp")), ((8080, "http"), (3306, "tcp")), ((9000, 9000), *OWN)
    )
    raw = pod("a", "10.0.0.1", ports=None)
    raw["metadata"]["annotations"] = {"doorward.dev/redirect": "disabled"}
    kept = keep_pod({**raw, "spec": injected(raw)["spec"]})
    assert kept is not None
    assert kept.sidecar == Sidecar(redirected=False)


def injected(raw: dict[str, Any]) -> dict[str, Any]:
    """That pod with what the injector puts into it."""
    made = inject(raw, "shop", InjectorSettings())
    assert isinstance(made, Injected), made
    return made.pod


def test_a_service_is_its_addresses_and_tcp_ports() -> None:
    ports = [
        {"name": "web", "port": 80, "appProtocol": "http"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "db", "port": 5432, "targetPort": "named"},
    ]
    wanted = Service(
        "shop", "payments", ("10.96.0.1", "fd00::1"), (ServicePort("web", 80, "http"), ServicePort("db", 5432))
    )
    assert keep_service(service("payments", "10.96.0.1", "fd00:0::1", ports=ports)) == wanted
    assert keep_service(service("payments", "None", ports=[])) == Service("shop", "payments")
    assert keep_service(service("payments", type="ExternalName", externalName="example.com")) is None


def test_a_slice_is_its_services_ports_and_addresses_whoever_is_there() -> None:
    raw = endpoint_slice("one", "10.0.0.1", "10.0.0.2", not_ready=["10.0.0.2"])
    raw["endpoints"].append({"addresses": ["10.0.0.3"], "targetRef": {"kind": "Pod", "name": "somebody"}})
    raw["ports"].append({"name": "any", "port": None})
    places = (("10.0.0.1", True), ("10.0.0.2", False), ("10.0.0.3", True))
    assert keep_slice(raw) == Slice("shop", "one", "payments", (ServicePort("", 8080),), places)
    assert keep_slice({**raw, "addressType": "FQDN"}) is None
    assert keep_slice({**raw, "metadata": {"name": "one", "namespace": "shop"}}) is None


def test_only_namespaces_that_are_labelled_are_kept() -> None:
    assert keep_namespace(namespace("shop")) is True
    assert keep_namespace(namespace("shop", labelled=False)) is None
    assert keep_namespace({"metadata": {"name": "shop"}}) is None


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("Pod", {"spec": []}, "spec.serviceAccountName: there is something else on the way to it"),
        ("Pod", {"status": {"podIPs": [{"ip": "everywhere"}]}}, "status.podIPs: 'everywhere' is no IP address"),
        ("Pod", {"status": {"podIPs": [{"ip": "fe80::1%eth0"}]}}, "status.podIPs: 'fe80::1%eth0' has a zone"),
        ("Pod", {"status": {"podIPs": ["10.0.0.1"]}}, "status.podIPs: expected a list of objects"),
        ("Pod", {"spec": {"hostNetwork": "yes"}}, "spec.hostNetwork: expected bool, got str"),
        ("Pod", {"spec": {"serviceAccountName": "a/b"}}, "spec.serviceAccountName: SPIFFE ID: the path segment 'a/b'"),
        ("Service", {"spec": {"clusterIPs": ["10.0.0.1", "10.0.0.2", "10.0.0.3"]}}, "spec.clusterIPs: there are 3"),
        ("Service", {"spec": {"ports": [{"port": 70000}]}}, "spec.ports: 70000 is no port"),
        ("Service", {"metadata": {"name": "x" * 254, "namespace": "shop"}}, "metadata.name is longer than 253"),
        ("Service", {"metadata": {"name": "x"}}, "metadata.namespace is missing"),
        ("EndpointSlice", {"endpoints": [{"addresses": "10.0.0.1"}]}, "addresses: expected list, got str"),
        ("EndpointSlice", {"endpoints": [{"addresses": [5]}]}, "addresses: expected a list of texts"),
        ("Namespace", {"metadata": {"labels": "all"}}, "metadata.labels: expected dict, got str"),
    ],
)
def test_nonsense_is_left_out_and_said(
    kind: str, change: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    keep, sample = SAMPLES[kind]
    with caplog.at_level(logging.WARNING, "doorward.discovery"):
        assert keep({**sample, **change}) is None
    (line,) = caplog.records
    assert line.fields["kind"] == kind
    assert reason in line.fields["reason"]


@pytest.mark.parametrize("ports", ["8080", "8080/udp", "0/http", "99999/tcp", "x/tcp"])
def test_a_sidecar_that_was_told_nonsense_makes_its_pod_nonsense(ports: str) -> None:
    assert keep_pod(pod("a", "10.0.0.1", ports=ports)) is None


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places_in(plain: object) -> list[tuple[Any, Any]]:
    """Every container in a plain value with each of its keys."""
    if isinstance(plain, (dict, list)):
        keys = list(plain) if isinstance(plain, dict) else list(range(len(plain)))
        return [(plain, key) for key in keys] + [found for key in keys for found in places_in(plain[key])]
    return []


@given(st.sampled_from(sorted(SAMPLES)), plain, st.data())
@examples(200)
def test_no_object_however_strange_raises(kind: str, value: object, data: st.DataObject) -> None:
    keep, sample = SAMPLES[kind]
    raw = copy.deepcopy(sample)
    inside, key = data.draw(st.sampled_from(places_in(raw)))
    if data.draw(st.booleans()) and isinstance(inside, dict):
        del inside[key]
    else:
        inside[key] = value
    keep(raw)
