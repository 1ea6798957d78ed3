"""Where a redirected application meant to go: a workload of the mesh, or something outside it, and never in between."""

from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest
from attrs import evolve

from certs.spiffe import WorkloadName
from mesh.policy import Reason
from mesh.wire import Endpoint, Service
from sidecar.destination import Destination, VirtualDestination, find_destination
from sidecar.parsing import outbound
from sidecar.refused import Refused
from sidecar.settings import Address, Settings
from sidecar.view import View
from tests.support.doors import snapshot
from tests.support.pki import Pki

PAYMENTS = WorkloadName("shop", "payments")
SETTINGS = Settings(WorkloadName("shop", "checkout"), Address("127.0.0.1", 7443), Path("bundle"), transparent=True)


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


def endpoint(pki: Pki, address: str, *, workload: str = "shop/payments", mesh_port: int = 8080) -> Endpoint:
    return Endpoint(workload, 8080, address, mesh_port, "http", str(pki.id(workload)), confirmed=True)


def view_of(pki: Pki, *endpoints: Endpoint, services: Sequence[Service] = ()) -> View:
    return View.build(snapshot(pki.bundle, endpoints=endpoints, services=services), pki.domain)


def service(*addresses: str, name: str = "shop/payments", port: int = 80, protocol: str = "auto") -> Service:
    """A service of two addresses, with port 8080 of these as its backends."""
    places = tuple((address, 8080) for address in addresses)
    return Service(name, ("10.96.0.1", "fd00:96::1"), port, protocol, places)


def refusal(address: str, port: int, view: View, settings: Settings = SETTINGS) -> Refused:
    with pytest.raises(Refused) as caught:
        find_destination(Address(address, port), view, settings)
    return caught.value


@pytest.mark.parametrize("address", ["10.0.0.7", "fd00::7"])
def test_a_known_place_is_a_workload_and_only_its_endpoints_there_are_called(pki: Pki, address: str) -> None:
    here, there = endpoint(pki, address), endpoint(pki, "10.0.0.8")
    view = view_of(pki, here, there)
    found = find_destination(Address(address, 8080), view, SETTINGS)
    assert found == Destination(PAYMENTS, 8080, address)
    assert found.endpoints(view) == (here,)
    assert found.endpoints(view_of(pki, there)) == (), "it is looked up anew by the snapshot of that moment"


def test_the_application_dials_its_peers_port_wherever_the_sidecar_there_listens(pki: Pki) -> None:
    explicit = endpoint(pki, "10.0.0.7", mesh_port=8443)
    view = view_of(pki, explicit)
    assert find_destination(Address("10.0.0.7", 8080), view, SETTINGS) == Destination(PAYMENTS, 8080, "10.0.0.7")
    assert refusal("10.0.0.7", 8443, view).reason is Reason.NO_ENDPOINT


def test_a_place_that_two_workloads_announce_is_neither(pki: Pki) -> None:
    two = [endpoint(pki, "10.0.0.7", mesh_port=1), endpoint(pki, "10.0.0.7", mesh_port=2, workload="shop/stock")]
    refused = refusal("10.0.0.7", 8080, view_of(pki, *two))
    assert refused.reason is Reason.NO_ENDPOINT
    assert "shop/payments, shop/stock" in refused.detail


def test_what_is_outside_passes_by_egress(pki: Pki) -> None:
    view = view_of(pki, endpoint(pki, "10.0.0.7"))
    assert find_destination(Address("192.0.2.1", 443), view, SETTINGS) is None
    shut = evolve(SETTINGS, egress="registry-only")
    assert refusal("192.0.2.1", 443, view, shut).reason is Reason.EGRESS_REFUSED
    assert find_destination(Address("10.0.0.7", 8080), view, shut) is not None


@pytest.mark.parametrize(("address", "inside"), [("10.9.9.9", True), ("11.0.0.1", False), ("fd00::1", True)])
def test_nothing_in_mesh_cidrs_is_called_in_plaintext(pki: Pki, address: str, inside: bool) -> None:
    fenced = evolve(SETTINGS, mesh_cidrs=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
    view = view_of(pki)
    if inside:
        assert refusal(address, 8080, view, fenced).reason is Reason.NO_ENDPOINT
    else:
        assert find_destination(Address(address, 8080), view, fenced) is None


def test_an_explicit_door_leads_to_every_endpoint_and_on_loopback_wants_its_name(pki: Pki) -> None:
    view = view_of(pki, endpoint(pki, "10.0.0.7"), endpoint(pki, "10.0.0.8"))
    port = Destination.of(outbound("127.0.0.1:9001=shop/payments:8080"))
    assert len(port.endpoints(view)) == 2
    assert port.named_by_host
    assert not Destination.of(outbound("unix:/run/p.sock=shop/payments:8080")).named_by_host


@pytest.mark.parametrize("address", ["10.96.0.1", "fd00:96::1"])
def test_a_virtual_address_leads_to_the_endpoints_at_its_backends_of_whatever_workload(pki: Pki, address: str) -> None:
    first, second = endpoint(pki, "10.0.0.7"), endpoint(pki, "10.0.0.8", workload="shop/stock")
    view = view_of(pki, first, second, endpoint(pki, "10.0.0.9"), services=[service("10.0.0.7", "10.0.0.8")])
    found = find_destination(Address(address, 80), view, SETTINGS)
    assert found == VirtualDestination("shop/payments", 80, address)
    assert found.endpoints(view) == (first, second)
    assert [each.identity for each in found.endpoints(view)] == [
        str(pki.id("shop/payments")),
        str(pki.id("shop/stock")),
    ]
    assert found.name(pki.domain) == "shop/payments"
    assert found.host == "payments.shop:80"
    assert found.original == str(Address(address, 80))


def test_a_backend_that_nobody_or_more_than_one_has_announced_is_not_called(pki: Pki) -> None:
    two = [endpoint(pki, "10.0.0.7", mesh_port=1), endpoint(pki, "10.0.0.7", mesh_port=2, workload="shop/stock")]
    unsure = evolve(endpoint(pki, "10.0.0.9"), confirmed=False)
    view = view_of(pki, *two, unsure, services=[service("10.0.0.7", "10.0.0.8", "10.0.0.9")])
    found = find_destination(Address("10.96.0.1", 80), view, SETTINGS)
    assert found is not None
    assert found.endpoints(view) == ()


def test_a_virtual_address_is_never_outside_whether_anybody_is_ready_or_the_port_is_known(pki: Pki) -> None:
    view = view_of(pki, services=[service()])
    found = find_destination(Address("10.96.0.1", 80), view, SETTINGS)
    assert isinstance(found, VirtualDestination)
    assert found.endpoints(view) == ()
    assert refusal("10.96.0.1", 443, view).reason is Reason.NO_ENDPOINT
    assert view.is_in_mesh("10.96.0.1"), "a connection to it in plaintext ends"
    assert find_destination(Address("10.96.0.2", 80), view, SETTINGS) is None


def test_where_an_address_has_become_another_services_nothing_is_left_of_the_first(pki: Pki) -> None:
    here, there = endpoint(pki, "10.0.0.7"), endpoint(pki, "10.0.0.8")
    found = find_destination(Address("10.96.0.1", 80), view_of(pki, here, services=[service("10.0.0.7")]), SETTINGS)
    assert found is not None
    assert found.endpoints(view_of(pki, here, there, services=[service("10.0.0.8")])) == (there,), "looked up anew"
    other = view_of(pki, here, services=[service("10.0.0.7", name="shop/stock")])
    assert found.endpoints(other) == ()
    assert found.protocol(other) is None


@pytest.mark.parametrize(
    ("declared", "of_the_service", "spoken"),
    [
        (["http", "http"], "tcp", "http"),
        (["auto", "auto"], "tcp", "tcp"),
        (["http", "tcp"], "http", "http"),
        (["http", "tcp"], "auto", "auto"),
        ([], "http", "http"),
        ([], "auto", None),
    ],
)
def test_the_endpoints_say_what_is_spoken_and_the_service_where_they_do_not(
    pki: Pki, declared: list[str], of_the_service: str, spoken: str | None
) -> None:
    places = [f"10.0.0.{number}" for number, _ in enumerate(declared)]
    endpoints = [evolve(endpoint(pki, place), protocol=each) for place, each in zip(places, declared, strict=True)]
    view = view_of(pki, *endpoints, services=[service(*places, protocol=of_the_service)])
    found = find_destination(Address("10.96.0.1", 80), view, SETTINGS)
    assert found is not None
    assert found.protocol(view) == spoken
