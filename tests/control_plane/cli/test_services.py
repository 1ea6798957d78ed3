"""`doorward services`: where calls to the cluster's services lead, as discovery found it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.discovery.routes import Backend, Route, Standing
from control_plane.injector.injection import Injection
from tests.control_plane.cli.conftest import Doorward
from tests.support.admin import AdminHouse, admin_house
from tests.support.api_server import api_server

DOCS = Path(__file__).parents[3] / "docs"
PAYMENTS = "spiffe://cluster.local/ns/shop/sa/payments"
BACKENDS = (
    Backend("10.0.0.1", 8080, "shop/a", PAYMENTS, Standing.CALLED),
    Backend("10.9.9.9", 8080, "", "", Standing.NO_POD),
)
ROUTES = (
    Route("bank/ledger", "", ("10.96.0.2",), 80, "auto", in_mesh=True, backends=()),
    Route("shop/payments", "web", ("10.96.0.1",), 80, "http", in_mesh=True, backends=BACKENDS),
    Route("shop/payments", "web", ("fd00::1",), 80, "http", in_mesh=True, backends=()),
    Route("shop/pods", "", (), 5432, "tcp", in_mesh=True, backends=BACKENDS[:1]),
    Route("shop/plain", "", ("10.96.0.3",), 80, "auto", in_mesh=False, backends=BACKENDS[1:]),
)


@pytest.fixture
def house(short_directory: Path, tmp_path: Path) -> Iterator[AdminHouse]:
    with (
        api_server(tmp_path, lambda _: (404, {})) as server,
        admin_house(short_directory, Injection(server.api(), "doorward")) as house,
    ):
        house.backend.discovered.routes, house.backend.discovered.complete = ROUTES, True
        yield house


def test_each_place_behind_a_service_has_a_row_that_says_whether_it_is_called(admin: Doorward) -> None:
    header, *rows = admin("services", "list").out.splitlines()
    assert header.split() == ["SERVICE", "ADDRESS", "PROTOCOL", "BACKEND", "STANDING", "IDENTITY", "POD"]
    assert [row.split() for row in rows] == [
        ["bank/ledger", "10.96.0.2:80", "auto", "-", "no_backends", "-", "-"],
        ["shop/payments", "10.96.0.1:80", "http", "10.0.0.1:8080", "called", PAYMENTS, "shop/a"],
        ["shop/payments", "10.96.0.1:80", "http", "10.9.9.9:8080", "no_pod", "-", "-"],
        ["shop/payments", "[fd00::1]:80", "http", "-", "no_backends", "-", "-"],
        ["shop/pods", "headless,", "5432", "tcp", "10.0.0.1:8080", "called", PAYMENTS, "shop/a"],
    ]


def test_one_namespace_and_what_is_outside_are_shown_where_asked_for(admin: Doorward) -> None:
    listed = admin("services", "list", "-n", "shop", "--all", "-o", "json").json["services"]
    assert [each["service"] for each in listed] == ["shop/payments", "shop/payments", "shop/pods", "shop/plain"]
    assert admin("services", "list", "-n", "shop", "--all").out.splitlines()[-1].split()[2] == "outside"
    assert admin("services", "list", "-n", "nowhere").out == "no service is in the mesh\n"


def test_what_is_not_all_known_yet_is_said(admin: Doorward, house: AdminHouse) -> None:
    house.backend.discovered.complete = False
    answer = admin("services", "list")
    assert answer.exit == 0
    assert "not all known yet" in answer.err


def test_every_key_and_standing_is_documented(admin: Doorward) -> None:
    answer = admin("services", "list", "-o", "json").json
    table = (DOCS / "configuration" / "control-plane.md").read_text()
    service = answer["services"][1]
    assert {key for key in [*answer, *service, *service["backends"][0]] if f"`{key}`" not in table} == set()
    page = (DOCS / "cli.md").read_text()
    assert [each for each in Standing if f"| `{each}` |" not in page] == []


def test_outside_of_a_cluster_there_is_nothing_to_list(short_directory: Path, doorward: Doorward) -> None:
    (short_directory / "other").mkdir()
    with admin_house(short_directory / "other") as house:
        answer = doorward("--admin", str(house.socket), "services", "list")
    assert answer.exit == 2
    assert "start it with --kubernetes" in answer.err
