"""Who can be called where, and who must answer: an identity is that of the pod which owns the address, by every law."""

import random
import time
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.spiffe import TrustDomain, WorkloadName
from control_plane.discovery.objects import (
    Pod,
    Service,
    ServicePort,
    Sidecar,
    Slice,
    keep_pod,
    keep_service,
    keep_slice,
)
from control_plane.discovery.ownership import MAX_PORTS
from control_plane.discovery.resolve import Objects, Resolved, resolve
from control_plane.discovery.routes import Backend, Standing
from control_plane.discovery.shares import MAX_ENDPOINTS, MAX_SERVICE_PORTS
from mesh.wire import Endpoint, Snapshot
from mesh.wire import Service as VirtualService
from tests.support.cluster_objects import endpoint_slice, pod, service
from tests.support.examples import examples

DOMAIN = TrustDomain("cluster.local")
PAYMENTS = "spiffe://cluster.local/ns/shop/sa/payments"


def resolved(*raw: dict[str, Any], labelled: tuple[str, ...] = ()) -> Resolved:
    """What comes of these objects, as an API server has them."""
    keep = {"Pod": keep_pod, "Service": keep_service, "EndpointSlice": keep_slice}
    found: dict[str, list[Any]] = {kind: [] for kind in keep}
    for each in raw:
        found[each["kind"]].append(keep[each["kind"]](each))
    kept = [[each for each in found[kind] if each is not None] for kind in keep]
    return resolve(Objects(*kept, namespaces=frozenset(labelled)), DOMAIN)


def endpoint(address: str, port: int, protocol: str = "auto", account: str = "payments") -> Endpoint:
    identity = f"spiffe://cluster.local/ns/shop/sa/{account}"
    return Endpoint(f"shop/{account}", port, address, port, protocol, identity, confirmed=True)


def standings(found: Resolved) -> dict[tuple[str, int], Standing]:
    return {(each.address, each.port): each.standing for route in found.routes for each in route.backends}


# Endpoints


def test_a_redirected_pod_is_an_endpoint_at_each_address_and_port_that_anything_says_of_it() -> None:
    found = resolved(
        pod("a", "10.0.0.1", "fd00::1", ports="8080/http", container_ports=[("postgres", 5432), ("", 9090)]),
        endpoint_slice("one", "10.0.0.1", ports=[{"name": "web", "port": 7000, "appProtocol": "http"}]),
    )
    ports = {5432: "tcp", 7000: "http", 8080: "http", 9090: "auto"}
    wanted = [endpoint(address, port, ports[port]) for address in ("10.0.0.1", "fd00::1") for port in sorted(ports)]
    assert sorted(map(repr, found.platform.endpoints)) == sorted(map(repr, wanted))


@pytest.mark.parametrize(
    "stranger",
    [
        pod("a", "10.0.0.1", ports=None),
        pod("a", "10.0.0.1", redirected=False),
        pod("a", "10.0.0.1", hostNetwork=True),
        {**pod("a", "10.0.0.1"), "status": {"phase": "Succeeded", "podIP": "10.0.0.1"}},
        pod("a"),
    ],
)
def test_no_other_pod_is_an_endpoint(stranger: dict[str, Any]) -> None:
    assert resolved(stranger, endpoint_slice("one", "10.0.0.1")).platform.endpoints == ()


def test_an_address_is_its_running_pods_and_nobodys_where_two_run() -> None:
    finished = {**pod("job", "10.0.0.1", account="job"), "status": {"phase": "Failed", "podIP": "10.0.0.1"}}
    one, other = pod("a", "10.0.0.1"), pod("b", "10.0.0.1", "10.0.0.2", account="stock")
    assert resolved(finished, one).platform.endpoints == (endpoint("10.0.0.1", 8080, "http"),)
    contested = resolved(one, other, service("s", "10.96.0.1"), endpoint_slice("one", "10.0.0.1", of="s"))
    assert contested.platform.endpoints == (endpoint("10.0.0.2", 8080, "http", "stock"),)
    assert standings(contested) == {("10.0.0.1", 8080): Standing.CONTESTED}
    assert [each.backends for each in contested.platform.services] == [()], "in the mesh, and nobody to be called"


@pytest.mark.parametrize(
    ("told", "declared", "named", "spoken"),
    [
        ("8080/tcp", [("http", 8080)], {"appProtocol": "http"}, "tcp"),
        ("8080/auto", [], {"appProtocol": "http"}, "http"),
        ("", [], {"appProtocol": "kubernetes.io/ws"}, "http"),
        ("", [], {"appProtocol": "kubernetes.io/h2c"}, "tcp"),
        ("", [], {"appProtocol": "grpc"}, "tcp"),
        ("", [], {"appProtocol": "https", "name": "http"}, "tcp"),
        ("", [("http-web", 8080)], {"name": "redis"}, "http"),
        ("", [], {"name": "redis-main"}, "tcp"),
        ("", [], {"name": "web"}, "auto"),
    ],
)
def test_what_the_sidecar_really_speaks_wins_and_then_what_says_most(
    told: str, declared: list[tuple[str, int]], named: dict[str, Any], spoken: str
) -> None:
    found = resolved(
        pod("a", "10.0.0.1", ports=told, container_ports=declared),
        service("s", "10.96.0.1", ports=[{"port": 80, **named}]),
        endpoint_slice("one", "10.0.0.1", of="s", ports=[{"port": 8080, **named}]),
    )
    assert found.platform.endpoints == (endpoint("10.0.0.1", 8080, spoken),)
    assert found.platform.services[0].protocol == spoken


def test_slices_of_other_namespaces_change_nothing_about_a_pod() -> None:
    own = endpoint_slice("one", "10.0.0.1", ports=[{"port": 8080, "appProtocol": "http"}])
    foreign = endpoint_slice(
        "x", "10.0.0.1", namespace="x", ports=[{"port": each, "appProtocol": "tcp"} for each in (8080, 1)]
    )
    found = resolved(pod("a", "10.0.0.1", ports=""), own, foreign)
    assert found.platform.endpoints == (endpoint("10.0.0.1", 8080, "http"),)


def test_ports_that_do_not_go_through_the_sidecar_are_no_endpoints() -> None:
    slices = [endpoint_slice("one", "10.0.0.1", of="s", ports=[{"port": each} for each in (9005, 15006, 15020)])]
    found = resolved(pod("a", "10.0.0.1", past="15020,9000-9010"), service("s", "10.96.0.1"), *slices)
    assert found.platform.endpoints == (endpoint("10.0.0.1", 8080, "http"),)
    assert set(standings(found).values()) == {Standing.EXCLUDED_PORT}
    assert found.platform.services[0].backends == ()


def test_whoever_writes_slices_cannot_grow_a_pod_without_end() -> None:
    many = [
        endpoint_slice(f"x{n}", "10.0.0.1", ports=[{"port": n * 100 + each} for each in range(1, 101)])
        for n in range(6)
    ]
    found = {each.port for each in resolved(pod("a", "10.0.0.1"), *many).platform.endpoints}
    assert len(found) == MAX_PORTS
    assert 8080 in found


# Services


def test_a_service_leads_to_its_ready_backends_by_ip_version() -> None:
    found = resolved(
        pod("a", "10.0.0.1", "fd00::1"),
        pod("b", "10.0.0.2", account="stock"),
        service("payments", "10.96.0.1", "fd00:96::1", ports=[{"name": "web", "port": 80, "targetPort": "named"}]),
        endpoint_slice("one", "10.0.0.1", ports=[{"name": "web", "port": 8080}]),
        endpoint_slice("two", "10.0.0.2", "10.0.0.3", ports=[{"name": "web", "port": 9090}], not_ready=["10.0.0.3"]),
        endpoint_slice("three", "fd00::1", ports=[{"name": "web", "port": 8080}, {"name": "other", "port": 1}]),
        endpoint_slice("four", "10.0.0.9", of="another"),
    )
    assert found.platform.services == (
        VirtualService("shop/payments", ("10.96.0.1",), 80, "auto", (("10.0.0.1", 8080), ("10.0.0.2", 9090))),
        VirtualService("shop/payments", ("fd00:96::1",), 80, "http", (("fd00::1", 8080),)),
    )
    assert found.routes[0].backends[1] == Backend(
        "10.0.0.2", 9090, "shop/b", "spiffe://cluster.local/ns/shop/sa/stock", Standing.CALLED
    ), "identity is that of who is there"


def test_a_headless_service_has_no_address_and_its_ports_are_announced_all_the_same() -> None:
    found = resolved(
        pod("a", "10.0.0.1"), service("payments", "None"), endpoint_slice("one", "10.0.0.1", ports=[{"port": 9}])
    )
    assert found.platform.services == ()
    assert endpoint("10.0.0.1", 9) in found.platform.endpoints
    assert [route.addresses for route in found.routes] == [()]


@pytest.mark.parametrize(
    ("backend", "standing"),
    [
        (pod("a", "10.0.0.1", ports=None), Standing.NO_SIDECAR),
        (pod("a", "10.0.0.1", hostNetwork=True), Standing.NO_SIDECAR),
        (pod("a", "10.0.0.1", redirected=False), Standing.IF_ANNOUNCED),
        (pod("a", "10.0.0.2"), Standing.NO_POD),
        (pod("a", "10.0.0.1"), Standing.CALLED),
    ],
)
def test_a_service_is_in_the_mesh_where_anybody_behind_it_has_a_sidecar(
    backend: dict[str, Any], standing: Standing
) -> None:
    found = resolved(backend, service("payments", "10.96.0.1"), endpoint_slice("one", "10.0.0.1"), labelled=("shop",))
    assert standings(found) == {("10.0.0.1", 8080): standing}
    called = standing in (Standing.CALLED, Standing.IF_ANNOUNCED)
    assert [each.backends for each in found.platform.services] == ([(("10.0.0.1", 8080),)] if called else [])


@pytest.mark.parametrize("gone", ["not ready", "terminating", "mixed"])
def test_who_cannot_be_called_now_keeps_its_service_in_the_mesh(gone: str) -> None:
    one = pod("a", "10.0.0.1")
    if gone == "terminating":
        one["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z"
    slices = endpoint_slice("one", "10.0.0.1", not_ready=["10.0.0.1"] if gone != "terminating" else [])
    plain = [pod("b", "10.0.0.2", ports=None), endpoint_slice("two", "10.0.0.2")] if gone == "mixed" else []
    found = resolved(one, service("payments", "10.96.0.1"), slices, *plain)
    assert found.platform.services == (VirtualService("shop/payments", ("10.96.0.1",), 80, "http", ()),)
    assert endpoint("10.0.0.1", 8080, "http") in found.platform.endpoints, "its address is its own"


def test_a_service_without_anybody_is_where_its_namespace_is() -> None:
    alone = service("payments", "10.96.0.1")
    assert resolved(alone).platform.services == ()
    (found,) = resolved(alone, labelled=("shop",)).platform.services
    assert found.backends == ()


def test_a_slice_that_points_at_other_peoples_pods_gets_their_identity() -> None:
    victim = pod("a", "10.0.0.1", namespace="bank", account="vault")
    bait = service("payments", "10.96.0.1"), endpoint_slice("by-hand", "10.0.0.1", "10.96.0.7", "10.9.9.9")
    found = resolved(victim, *bait)
    (route,) = found.routes
    assert [(each.identity, each.standing) for each in route.backends] == [
        ("spiffe://cluster.local/ns/bank/sa/vault", Standing.CALLED),
        ("", Standing.NO_POD),
        ("", Standing.NO_POD),
    ]


def test_whoever_has_many_pods_cannot_make_a_service_that_no_snapshot_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.discovery.resolve.MAX_BACKENDS", 3)
    addresses_ = [f"10.0.0.{number}" for number in range(1, 6)]
    many = [pod(address, address) for address in addresses_]
    found = resolved(*many, service("payments", "10.96.0.1"), endpoint_slice("one", *addresses_))
    assert [len(each.backends) for each in found.platform.services] == [3]
    assert len(found.routes[0].backends) == 5


# What one namespace's users can make grow

EVIL = "evil"


def victim(found: Resolved) -> tuple[list[Endpoint], list[VirtualService]]:
    """What is told of the namespace `shop`."""
    endpoints = [each for each in found.platform.endpoints if each.workload.startswith("shop/")]
    return endpoints, [each for each in found.platform.services if each.name.startswith("shop/")]


def test_very_many_objects_of_one_namespace_leave_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods of many ports, services of many ports, and slices that put every pod behind each of them."""
    monkeypatch.setattr("control_plane.discovery.ownership.MAX_ENDPOINTS", 100)
    monkeypatch.setattr("control_plane.discovery.resolve.MAX_SERVICE_PORTS", 100)
    monkeypatch.setattr("control_plane.discovery.resolve.MAX_BACKENDS_OF_NAMESPACE", 500)
    shop = pod("a", "10.0.0.1"), service("payments", "10.96.0.1"), endpoint_slice("one", "10.0.0.1")
    addresses_ = [f"10.1.0.{number}" for number in range(1, 31)]
    own = [(f"p{number}", number) for number in range(1, 21)]
    pods_ = [pod(each, each, namespace=EVIL, container_ports=own) for each in addresses_]
    spelled = [{"name": f"p{number}", "port": number} for number in range(1, 51)]
    virtual = [f"10.97.0.{number}" for number in range(1, 11)]
    services = [service(each, each, namespace=EVIL, ports=spelled) for each in virtual]
    slices = [endpoint_slice(each, "10.0.0.1", *addresses_, of=each, namespace=EVIL, ports=spelled) for each in virtual]
    found = resolved(*shop, *pods_, *services, *slices, labelled=("shop", EVIL))
    assert victim(found) == victim(resolved(*shop))
    assert (found.over, resolved(*shop).over) == ({EVIL}, set())
    assert len(found.platform.endpoints) <= 100 + 1
    assert len(found.platform.services) <= 100 + 1
    assert sum(len(route.backends) for route in found.routes) <= 500 + 1
    assert {each.address for each in found.platform.endpoints} == {"10.0.0.1", *addresses_}, "all stay in the mesh"
    assert {each.addresses[0] for each in found.platform.services} == {"10.96.0.1", *virtual}


def test_what_may_be_told_of_four_namespaces_fits_into_a_snapshot() -> None:
    limits = {each.name: each.validator for each in attrs.fields(Snapshot)}
    assert limits["endpoints"].max_length > 4 * MAX_ENDPOINTS
    assert limits["services"].max_length > 4 * MAX_SERVICE_PORTS


def test_a_pod_of_very_many_ports_and_exceptions_costs_a_moment() -> None:
    ports_ = ",".join(f"{number}/tcp" for number in range(1, 20_001))
    past = ",".join(f"{number}-{number + 30_000}" for number in range(1, 4000))
    began = time.process_time()
    found = resolved(pod("a", "10.0.0.1", ports=ports_, past=past))
    assert time.process_time() - began < 2
    assert found.platform.endpoints == ()


# Laws

ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2", "10.96.0.1", "10.96.0.2", "fd00:96::1")
addresses = st.sampled_from(ADDRESSES)
some = st.lists(addresses, max_size=3, unique=True).map(tuple)
numbers = st.sampled_from([80, 8080, 9090, 15006])
protocols = st.sampled_from(["http", "tcp", "auto"])
namespaces = st.sampled_from(["shop", "bank"])
names = st.sampled_from(["a", "b", "c", "d"])
ports = st.lists(st.tuples(numbers, protocols), max_size=2).map(tuple)
sidecars = st.builds(Sidecar, st.booleans(), ports, ports, st.sampled_from([(), ((9000, 9999),)]))
pods = st.builds(
    Pod,
    names,
    st.builds(WorkloadName, namespaces, names),
    st.lists(addresses, min_size=1, max_size=2, unique=True).map(tuple),
    st.booleans(),
    st.sampled_from([False, False, False, True]),
    st.none() | sidecars,
)
service_ports = st.builds(
    ServicePort, st.sampled_from(["", "http", "db"]), numbers, st.sampled_from(["", "http", "grpc"])
)
several_ports = st.lists(service_ports, max_size=2, unique_by=lambda port: port.name).map(tuple)
services = st.builds(Service, namespaces, names, some, several_ports)
slices = st.builds(
    Slice, namespaces, names, names, several_ports, st.lists(st.tuples(addresses, st.booleans()), max_size=4).map(tuple)
)
objects = st.builds(
    Objects,
    st.lists(pods, max_size=4),
    st.lists(services, max_size=3, unique_by=lambda each: (each.namespace, each.name)),
    st.lists(slices, max_size=4),
    st.frozensets(namespaces),
)


@given(objects, st.randoms(use_true_random=False))
@examples(150)
def test_neither_the_order_of_objects_nor_a_second_look_changes_anything(given_: Objects, order: random.Random) -> None:
    def shuffled(values: Any) -> list[Any]:
        return order.sample(list(values), len(values))

    other = Objects(shuffled(given_.pods), shuffled(given_.services), shuffled(given_.slices), given_.namespaces)
    once = resolve(given_, DOMAIN)
    assert once == resolve(given_, DOMAIN) == resolve(other, DOMAIN)


@given(objects)
@examples(150)
def test_no_endpoint_is_without_the_one_pod_that_owns_its_address_and_each_has_that_pods_identity(
    given_: Objects,
) -> None:
    found = resolve(given_, DOMAIN)
    for each in found.platform.endpoints:
        (owner,) = [one for one in given_.pods if each.address in one.addresses]
        assert (each.identity, each.workload) == (str(owner.workload.in_domain(DOMAIN)), str(owner.workload))
        assert owner.sidecar is not None
        assert owner.sidecar.redirected
        assert not owner.host_network
        assert each.confirmed
        assert each.mesh_port == each.port
    for backend in (backend for route in found.routes for backend in route.backends):
        owners = [one for one in given_.pods if backend.address in one.addresses]
        assert bool(backend.identity) == (
            len(owners) == 1 and owners[0].sidecar is not None and not owners[0].host_network
        )
        assert not backend.identity or backend.identity == str(owners[0].workload.in_domain(DOMAIN))


@given(objects)
@examples(150)
def test_every_backend_that_is_sent_is_ready_and_either_an_endpoint_or_another_sidecars(given_: Objects) -> None:
    found = resolve(given_, DOMAIN)
    places = {(each.address, each.port): each for each in found.platform.endpoints}
    for each in found.platform.services:
        (own,) = [one for one in given_.services if f"{one.namespace}/{one.name}" == each.name]
        assert set(each.addresses) <= set(own.addresses)
        for place in each.backends:
            (owner,) = [one for one in given_.pods if place[0] in one.addresses]
            assert not owner.terminating
            assert owner.sidecar is not None
            assert place in places or not owner.sidecar.redirected
            assert any(
                (place[0], True) in one.places
                for one in given_.slices
                if (one.namespace, one.service) == (own.namespace, own.name)
            )
