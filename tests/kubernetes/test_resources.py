"""Policies as cluster objects, from kubectl to the sidecar that enforces them and back into their status."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from tests.support.assets import ROOT
from tests.support.cluster import Cluster
from tests.support.definitions import define_policies, undefine_policies
from tests.support.kube import Kube
from tests.support.namespaces import Pod
from tests.support.patience import PATIENCE
from tests.support.policy_objects import (
    Shop,
    allow,
    condition,
    open_shop,
)

NAME = "checkout-calls-payments"


@pytest.fixture(scope="module", autouse=True)
def _definitions(cluster: Cluster) -> Iterator[None]:
    trio.run(define_policies, cluster)
    yield
    trio.run(undefine_policies, cluster)


@pytest.fixture
async def shop(cluster: Cluster, kube: Kube, place: Pod, short_directory: Path) -> AsyncIterator[Shop]:
    async with open_shop(cluster, kube, place, short_directory) as shop:
        yield shop


def examples(namespace: str) -> list[dict[str, Any]]:
    """The policy set examples/shop, in another namespace."""
    documents = [each for file in (ROOT / "examples/shop").iterdir() for each in yaml.safe_load_all(file.read_text())]
    return [{**each, "metadata": {**each["metadata"], "namespace": namespace}} for each in documents if each]


async def test_what_kubectl_applies_is_enforced_by_a_running_sidecar_and_what_it_deletes_is_not(shop: Shop) -> None:
    assert await shop.call("POST", "/charges") == 403
    await shop.apply(*examples(shop.namespace))
    found = await shop.until_enforced()
    assert (await shop.call("POST", "/charges"), await shop.call("PUT", "/charges")) == (200, 403)
    assert found["status"]["sidecars"] == {"enforced": 1, "concerned": 1}
    assert condition(found["status"], "Accepted") == "True Accepted"

    stored = await shop.until_stored(lambda stored: len(stored) == 3)
    assert {each["owner"] for each in stored.values()} == {"cluster"}
    assert stored[NAME]["number"] == found["status"]["number"]
    revisions = await shop.revisions()
    assert ({each["author"] for each in revisions}, sum(len(each["changes"]) for each in revisions)) == (
        {"kubernetes"},
        3,
    )
    assert any(f"AllowPolicy {shop.namespace}/{NAME} generation 1" in each["message"] for each in revisions)
    header, *rows = (await shop.kubectl("get", "doorward")).splitlines()
    assert header.split() == ["NAME", "ACCEPTED", "ENFORCED", "AGE"]
    assert [row.split()[:3] for row in rows if NAME in row] == [[f"allowpolicy.doorward.dev/{NAME}", "True", "1/1"]]

    await shop.kubectl("delete", "allowpolicy", NAME)
    await shop.until_stored(lambda stored: NAME not in stored)
    with trio.fail_after(PATIENCE):
        while await shop.call("POST", "/charges") != 403:
            await trio.sleep(0.05)


async def test_faults_are_in_the_status_and_the_last_good_version_stays_enforced(shop: Shop) -> None:
    await shop.apply(allow(shop.namespace, http=[{"methods": ["GET"]}]))
    number = (await shop.until_enforced())["status"]["number"]
    wrong = allow(shop.namespace, htttp=[{"methods": ["POST"]}], http=[{"methods": ["post"]}])
    never = allow(shop.namespace, "never-good", http=None)
    await shop.apply(wrong, never, allow(shop.namespace, "another", http=[{"methods": ["PUT"]}]))

    found = await shop.until(lambda status: condition(status, "Accepted") == "False Faults", NAME)
    assert [each["path"] for each in found["status"]["faults"]] == ["spec.htttp", "spec.http[0].methods[0]"]
    assert found["status"]["number"] == number
    enforced = next(each for each in found["status"]["conditions"] if each["type"] == "Enforced")
    assert (
        enforced["status"],
        f"the version of revision {number}, not what stands here now" in enforced["message"],
    ) == (
        "True",
        True,
    )
    await shop.until_enforced("another")
    statuses = [await shop.call(method) for method in ("GET", "PUT", "POST")]
    assert statuses == [200, 200, 403]

    nothing = await shop.until(lambda status: condition(status, "Enforced") == "False NothingInForce", "never-good")
    assert [each["path"] for each in nothing["status"]["faults"]] == ["spec.http"]
    assert "never-good" not in await shop.stored()
    health = await shop.mesh.admin(lambda client: client.get("/v1/health"))
    (line,) = (each for each in health["checks"] if each["name"] == "policy objects")
    assert line["status"] == "warn"
    for said in (f"{shop.namespace}/{NAME}: 2 faults", f"{shop.namespace}/never-good: 1 fault"):
        assert said in line["detail"]

    await shop.apply(allow(shop.namespace, http=[{"methods": ["POST"]}]))
    corrected = await shop.until_enforced()
    assert "faults" not in corrected["status"]
    assert [await shop.call(method) for method in ("GET", "POST")] == [403, 200]


async def test_an_object_nested_deeper_than_anybody_reads_costs_only_itself(shop: Shop) -> None:
    deep = json.dumps(allow(shop.namespace, "deep", htttp=None)).replace("null", "[" * 5000 + "]" * 5000)
    await shop.kubectl("create", "-f", "-", stdin=deep)
    await shop.apply(allow(shop.namespace))
    await shop.until_enforced()
    path = f"/apis/doorward.dev/v1/namespaces/{shop.namespace}/allowpolicies/deep"
    with trio.fail_after(PATIENCE):
        while '"path":"spec.htttp"' not in (found := await shop.kubectl("get", "--raw", path)):
            await trio.sleep(0.1)
    assert '"reason":"Faults"' in found


async def test_a_policy_of_the_command_is_handed_over_without_a_gap(shop: Shop) -> None:
    applied = await shop.mesh.doorward(
        "policy", "apply", "-f", "-", "--wait", "30s", stdin=yaml.safe_dump(allow(shop.namespace)).encode()
    )
    assert applied.exit == 0, applied.err
    release = ("policy", "release", "AllowPolicy", f"{shop.namespace}/{NAME}")
    assert "waits" in (await shop.mesh.doorward(*release)).err
    documents = (await shop.mesh.doorward("policy", "get", "--documents")).out
    await shop.kubectl("apply", "-f", "-", stdin=documents)

    found = await shop.until(lambda status: condition(status, "Accepted") == "False OwnedByCLI", NAME)
    assert f"doorward policy release AllowPolicy {shop.namespace}/{NAME}" in str(found["status"])
    assert (await shop.stored())[NAME]["owner"] == "cli"

    statuses: set[int] = set()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def keep_calling() -> None:
            while True:
                statuses.add(await shop.call())

        released = await shop.mesh.doorward(*release, "--wait", "30")
        await shop.until_enforced()
        nursery.cancel_scope.cancel()
    assert (released.exit, statuses) == (0, {200}), released
    assert (await shop.stored())[NAME]["owner"] == "cluster"
    for command in (("delete", NAME), ("apply", "-f", "-")):
        refused = await shop.mesh.doorward("policy", *command, stdin=documents.encode())
        assert (refused.exit, f"kubectl edit allowpolicy -n {shop.namespace} {NAME}" in refused.err) == (2, True)


async def test_a_restarted_control_plane_neither_loses_nor_repeats_and_catches_up(shop: Shop) -> None:
    await shop.apply(allow(shop.namespace), allow(shop.namespace, "second"))
    await shop.until_enforced()
    await shop.until_enforced("second")
    before = await shop.stored()
    assert shop.mesh.control_plane is not None
    await shop.mesh.control_plane.stop()
    await shop.kubectl("delete", "allowpolicy", "second")
    process = shop.mesh.control_plane
    options = process.popen.args
    assert isinstance(options, list)
    await shop.mesh.start_control_plane(*_cluster_options(options), place=shop.place)
    after = await shop.until_stored(lambda stored: "second" not in stored)
    assert after[NAME]["number"] == before[NAME]["number"]
    changes = [step["action"] for each in await shop.revisions() for step in each["changes"]]
    assert changes == ["removed", "added", "added"]
    await shop.until_enforced()
    assert await shop.call() == 200


async def test_without_an_api_server_everything_stays_and_with_it_catches_up(shop: Shop, cluster: Cluster) -> None:
    await shop.apply(allow(shop.namespace, http=[{"methods": ["GET"]}]))
    await shop.until_enforced()
    async with cluster.api_server_away():
        assert [await shop.call(method) for method in ("GET", "POST")] == [200, 403]
        assert len(await shop.stored()) == 1
    await shop.apply(allow(shop.namespace, http=[{"methods": ["POST"]}]))
    await shop.until_enforced()
    assert [await shop.call(method) for method in ("GET", "POST")] == [403, 200]


def _cluster_options(command: list[str]) -> list[str]:
    """The options by which a control plane found the cluster."""
    at = [index for index, each in enumerate(command) if each.startswith("--kubernetes")]
    return [word for index in at for word in command[index : index + 2]]
