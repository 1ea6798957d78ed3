"""`doorward injection`: what it says of a cluster, as an API server's answers describe it, and which exit codes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from control_plane.injector.injection import Injection
from tests.control_plane.injector.test_audit import pod
from tests.support.admin import AdminHouse, admin_house
from tests.support.api_server import Answer, ApiServer, Asked, api_server

DOCS = Path(__file__).parents[3] / "docs"
LABELS = {"doorward.dev/inject": "enabled"}
NO_NAMESPACE = {"kind": "Status", "code": 404, "reason": "NotFound", "message": 'namespaces "nowhere" not found'}


@define
class ClusterOfPods:
    """Answers as an API server that has these objects, a page of two at a time."""

    namespaces: list[dict[str, Any]] = field(factory=list)
    pods: list[dict[str, Any]] = field(factory=list)
    refusal: Answer | None = None

    def __call__(self, asked: Asked) -> Answer:
        path, _, query = asked.path.partition("?")
        parts = path.split("/")[3:]
        if self.refusal:
            return self.refusal
        if parts[0] == "pods":
            return self._page(self.pods, query)
        if parts[1:] == []:
            return self._page(self.namespaces, query)
        if parts[2:] == ["pods"]:
            return self._page([each for each in self.pods if each["metadata"]["namespace"] == parts[1]], query)
        found = [each for each in self.namespaces if each["metadata"]["name"] == parts[1]]
        return (200, found[0]) if found else (404, NO_NAMESPACE)

    def _page(self, objects: list[dict[str, Any]], query: str) -> Answer:
        begin = int(query.partition("continue=")[2].partition("&")[0] or 0)
        more = {"continue": str(begin + 2)} if begin + 2 < len(objects) else {}
        return 200, {"metadata": {"resourceVersion": "1", **more}, "items": objects[begin : begin + 2]}


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


def named(name: str, namespace: str = "shop", **more: Any) -> dict[str, Any]:
    found = pod(**more)
    found["metadata"] |= {"name": name, "namespace": namespace}
    return found


def bare(name: str, namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    return named(name, namespace, spec={"initContainers": [], **spec})


@pytest.fixture
def cluster() -> ClusterOfPods:
    return ClusterOfPods([namespace("shop", **LABELS), namespace("ops")])


@pytest.fixture
def server(tmp_path: Path, cluster: ClusterOfPods) -> Iterator[ApiServer]:
    with api_server(tmp_path, cluster) as server:
        yield server


@pytest.fixture
def house(short_directory: Path, server: ApiServer) -> Iterator[AdminHouse]:
    with admin_house(short_directory, Injection(server.api(), "doorward")) as house:
        yield house


def test_in_a_mesh_without_pods_there_is_nothing_to_complain_of(admin: Callable[..., Any]) -> None:
    answer = admin("injection", "audit")
    assert (answer.exit, answer.out) == (0, "there is no pod that should be in the mesh\n")


def test_pods_that_are_missing_are_listed_and_the_answer_is_no(
    admin: Callable[..., Any], cluster: ClusterOfPods
) -> None:
    cluster.pods = [bare("checkout-1"), bare("host-1", hostNetwork=True), bare("tool-1", "ops"), named("web-1")]
    answer = admin("injection", "audit")
    assert answer.exit == 1
    rows = [line.split()[:3] for line in answer.out.splitlines()[1:]]
    assert rows == [
        ["shop", "checkout-1", "not_injected"],
        ["shop", "host-1", "host_network"],
        ["shop", "web-1", "not_connected"],
    ]


def test_a_connected_sidecar_of_this_version_is_in_the_mesh(
    admin: Callable[..., Any], house: AdminHouse, cluster: ClusterOfPods
) -> None:
    """`house` connects sidecars from 127.0.0.1."""
    cluster.pods = [named("checkout-1", metadata={"annotations": {}}, status={"podIPs": [{"ip": "127.0.0.1"}]})]
    assert admin("injection", "audit").exit == 1
    house.connect("shop/checkout")
    answer = admin("injection", "audit")
    assert (answer.exit, answer.out) == (0, "every pod that should be in the mesh is in it: 1\n")
    every = admin("injection", "audit", "--all")
    assert every.exit == 0
    assert every.out.splitlines()[1].split() == ["shop", "checkout-1", "meshed"]


def test_one_namespace_is_asked_for_alone(admin: Callable[..., Any], cluster: ClusterOfPods, server: ApiServer) -> None:
    cluster.namespaces.append(namespace("bank", **LABELS))
    cluster.pods = [bare("checkout-1"), bare("ledger-1", "bank")]
    (found,) = admin("injection", "audit", "-n", "bank", "-o", "json").json["pods"]
    assert (found["namespace"], found["name"]) == ("bank", "ledger-1")
    assert all("/namespaces/bank" in asked.path for asked in server.asked)


def test_many_pods_are_read_page_by_page(admin: Callable[..., Any], cluster: ClusterOfPods) -> None:
    cluster.pods = [bare(f"checkout-{number}") for number in range(7)]
    answer = admin("injection", "audit", "-o", "json").json
    assert answer["looked_at"] == len(answer["pods"]) == 7


def test_every_key_and_reason_is_documented(admin: Callable[..., Any], cluster: ClusterOfPods) -> None:
    from control_plane.injector.audit import Reason

    cluster.pods = [bare("checkout-1")]
    answer = admin("injection", "audit", "-o", "json").json
    table = (DOCS / "configuration" / "control-plane.md").read_text()
    assert {key for key in [*answer, *answer["pods"][0]] if f"`{key}`" not in table} == set()
    page = (DOCS / "cli.md").read_text()
    assert [reason for reason in Reason if f"| `{reason}` |" not in page] == []


@pytest.mark.parametrize(
    ("name", "said"), [("nowhere", "there is no namespace nowhere"), ("../pods", "no name of a namespace")]
)
def test_a_namespace_that_is_none_is_an_error(admin: Callable[..., Any], name: str, said: str) -> None:
    answer = admin("injection", "audit", "-n", name)
    assert answer.exit == 2
    assert said in answer.err


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((403, {"kind": "Status", "reason": "Forbidden", "message": "pods is forbidden"}), "pods is forbidden"),
        (
            (200, {"metadata": {"resourceVersion": "1"}, "items": [{"metadata": {}}]}),
            "lacks what every object of its kind has",
        ),
        ((200, {"metadata": None, "items": []}), "answered with no list"),
        ((200, {"metadata": {"resourceVersion": "1"}, "items": 1}), "answered with no list"),
        ((200, b"no JSON"), "cannot be asked"),
    ],
)
def test_what_the_api_server_does_not_tell_is_an_error_that_says_so(
    admin: Callable[..., Any], cluster: ClusterOfPods, refusal: Answer, said: str
) -> None:
    cluster.refusal = refusal
    for command in (("injection", "audit"),):
        answer = admin(*command)
        assert answer.exit == 2
        assert said in answer.err


def test_outside_of_a_cluster_there_are_no_pods_to_ask_about(
    doorward: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, short_directory: Path
) -> None:
    with admin_house(short_directory) as house:
        answer = doorward("--admin", str(house.socket), "injection", "audit")
    assert answer.exit == 2
    assert "--kubernetes" in answer.err


# remaining


@pytest.fixture
def remaining(doorward: Callable[..., Any], server: ApiServer) -> Callable[..., Any]:
    """`doorward injection remaining` against `server`."""
    server.api()
    return lambda *more: doorward(
        "injection",
        "remaining",
        f"--kubernetes=https://127.0.0.1:{server.port}",
        f"--kubernetes-ca={server.directory / 'api-server.pem'}",
        f"--kubernetes-token-file={server.directory / 'own-token'}",
        *more,
    )


def test_pods_with_a_sidecar_are_warned_of_before_uninstalling(
    remaining: Callable[..., Any], cluster: ClusterOfPods
) -> None:
    cluster.pods = [named("web-1"), bare("bare-1"), named("web-2", "ops"), named("web-3", status={"phase": "Failed"})]
    answer = remaining()
    assert answer.exit == 1
    assert [line.split() for line in answer.out.splitlines()[1:]] == [["ops", "web-2"], ["shop", "web-1"]]
    assert "2 pods still have a sidecar" in answer.err
    assert "--no-hooks" in answer.err
    said = json.loads(remaining("-o", "json").out)
    assert said == {"pods": [{"namespace": "ops", "name": "web-2"}, {"namespace": "shop", "name": "web-1"}]}


def test_where_no_pod_has_a_sidecar_nothing_is_in_the_way(
    remaining: Callable[..., Any], cluster: ClusterOfPods
) -> None:
    cluster.pods = [bare("bare-1")]
    answer = remaining()
    assert (answer.exit, answer.out, answer.err) == (0, "no pod has a sidecar\n", "")


def test_where_it_cannot_be_asked_it_is_not_no(remaining: Callable[..., Any], cluster: ClusterOfPods) -> None:
    cluster.refusal = 403, {"kind": "Status", "reason": "Forbidden", "message": "pods is forbidden"}
    answer = remaining()
    assert answer.exit == 2
    assert "pods is forbidden" in answer.err


@pytest.mark.parametrize("server_given", ["off", "http://10.0.0.1", "in-cluster"])
def test_a_cluster_has_to_be_there(doorward: Callable[..., Any], server_given: str) -> None:
    answer = doorward("injection", "remaining", "--kubernetes", server_given)
    assert answer.exit == 2
    assert "kubernetes" in answer.err
