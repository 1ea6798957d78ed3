"""The real API server and kubectl on the definitions: what is refused, what reaches Doorward's reader (law 11)."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from control_plane.kubernetes.errors import ApiRefused
from control_plane.resources.objects import kept
from control_plane.resources.reading import read
from tests.support.cluster import Cluster
from tests.support.definitions import define_policies, undefine_policies
from tests.support.kube import Kube
from tests.support.policy_objects import allow

HOW = (
    ("create",),
    ("create", "--validate=false"),
    ("apply",),
    ("apply", "--validate=false"),
    ("apply", "--server-side"),
    ("apply", "--server-side", "--validate=false"),
)


@pytest.fixture(scope="module", autouse=True)
def _definitions(cluster: Cluster) -> Iterator[None]:
    trio.run(define_policies, cluster)
    yield
    trio.run(undefine_policies, cluster)


def faulty(namespace: str) -> dict[str, Any]:
    """What pruning would make a policy that allows checkout any traffic, on any port."""
    document = allow(namespace, htttp=[{"paths": ["/a"]}], http=None)
    document["spec"]["to"] = {"workload": "payments", "prts": [8080], "ports": None}
    document["spec"]["from"] = [{"workload": "checkout", "namespce": "ops", "namespace": None, "nothing": None}]
    return {**document, "htttp": [1], "http": None}


PATHS = {
    "htttp",
    "http",
    "spec.htttp",
    "spec.http",
    "spec.to.prts",
    "spec.to.ports",
    "spec.from[0].namespce",
    "spec.from[0].namespace",
    "spec.from[0].nothing",
}


@pytest.mark.parametrize("how", HOW, ids=" ".join)
async def test_unknown_keys_and_empty_values_reach_the_reader(
    cluster: Cluster, kube: Kube, how: tuple[str, ...]
) -> None:
    shop = await kube.namespace("shop")
    made = await cluster.kubectl(*how, "-f", "-", stdin=json.dumps(faulty(shop)))
    assert made.exit == 0, made.err
    (found,) = (await kube.api.get(f"/apis/doorward.dev/v1/namespaces/{shop}/allowpolicies"))["items"]
    reading = read(kept("AllowPolicy", found))
    assert {each.path for each in reading.faults} == PATHS


async def test_an_update_that_empties_a_key_reaches_the_reader_too(cluster: Cluster, kube: Kube) -> None:
    """A merge patch takes null for "remove this", and a narrow policy would become a wide one."""
    shop = await kube.namespace("shop")
    for http in ([{"methods": ["GET"]}], None):
        done = await cluster.kubectl("apply", "-f", "-", stdin=json.dumps(allow(shop, http=http)))
        assert done.exit == 0, done.err
    (found,) = (await kube.api.get(f"/apis/doorward.dev/v1/namespaces/{shop}/allowpolicies"))["items"]
    assert "http" not in found["spec"]
    assert [each.path for each in read(kept("AllowPolicy", found)).faults] == ["spec.http"]


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"to": {"workload": "payments", "ports": ["8080"]}}, "spec.to.ports[0]"),
        ({"to": {"workload": "payments", "ports": [80.5]}}, "spec.to.ports[0]"),
        ({"to": {"workload": "payments", "ports": [None]}}, "spec.to.ports[0]"),
        ({"to": {"workload": "payments", "ports": [70000]}}, "spec.to.ports[0]"),
        ({"to": {"workload": "payments", "ports": []}}, "spec.to.ports"),
        ({"to": {"workload": 12}}, "spec.to.workload"),
        ({"to": "payments"}, "spec.to"),
        ({"from": {"workload": "checkout"}}, "spec.from"),
        ({"from": []}, "spec.from"),
        ({"from": None}, "spec.from"),
        ({"from": ["checkout"]}, "spec.from[0]"),
        ({"from": [{"unauthenticated": "yes"}]}, "spec.from[0].unauthenticated"),
        ({"http": []}, "spec.http"),
        ({"http": "GET"}, "spec.http"),
        ({"http": [{"methods": "GET"}]}, "spec.http[0].methods"),
        ({"http": [{"paths": [None]}]}, "spec.http[0].paths[0]"),
        ({"mode": False}, "spec.mode"),
        ({"mode": "enfoce"}, "spec.mode"),
    ],
)
@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_wrong_type_or_word_is_refused_at_once(
    cluster: Cluster, kube: Kube, spec: dict[str, Any], place: str, side: str
) -> None:
    document = json.dumps(allow("default", **spec))
    refused = await cluster.kubectl(
        "apply",
        f"--server-side={'true' if side == 'server' else 'false'}",
        "--validate=false",
        "-f",
        "-",
        stdin=document,
    )
    assert refused.exit == 1
    assert f"{place}:" in refused.err


async def test_a_status_meant_for_another_object_of_that_name_is_refused(kube: Kube) -> None:
    """On which the writer of statuses relies."""
    shop = await kube.namespace("shop")
    path = f"/apis/doorward.dev/v1/namespaces/{shop}/allowpolicies"
    former = kept("AllowPolicy", await kube.api.create(path, allow(shop)))
    await kube.api.delete(f"{path}/{former.name}")
    made = kept("AllowPolicy", await kube.api.create(path, allow(shop)))
    status = {"number": 7}
    with pytest.raises(ApiRefused) as refused:
        await kube.api.patch(made.status_path, {"metadata": {"resourceVersion": former.version}, "status": status})
    assert refused.value.status == 409
    await kube.api.patch(made.status_path, {"metadata": {"resourceVersion": made.version}, "status": status})
    now = kept("AllowPolicy", await kube.api.get(f"{path}/{made.name}"))
    assert (now.status, now.generation, now.content) == (status, made.generation, made.content)


async def test_explain_knows_every_key(cluster: Cluster) -> None:
    shown = await cluster.kubectl("explain", "allowpolicy.spec", "--recursive")
    words = {line.split()[0] for line in shown.out.partition("FIELDS:")[2].splitlines() if line.strip()}
    assert {
        "to",
        "workload",
        "ports",
        "from",
        "namespace",
        "identity",
        "addresses",
        "http",
        "methods",
        "paths",
    } <= words
    http = await cluster.kubectl("explain", "allow.spec.http")
    assert "any traffic on these ports matches, raw TCP included" in " ".join(http.out.split())
    assert "deny (the default)" in (await cluster.kubectl("explain", "nsdefaults.spec.default")).out
