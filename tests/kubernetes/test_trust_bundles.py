"""The trust bundle is kept in the real API server with just the rights that the chart gives."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from control_plane.advance import Advance
from control_plane.kubernetes.errors import ApiRefused
from control_plane.kubernetes.trust_bundles import TrustBundles
from tests.support.cluster import Cluster
from tests.support.kube import Kube, chart_rights, client

SECONDS = 60.0
GOOD = {"bundle.pem": "roots\n"}


def path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps/doorward-trust-bundle"


async def found(kube: Kube, namespace: str) -> dict[str, Any] | None:
    """The ConfigMap."""
    try:
        return await kube.api.get(path(namespace))
    except ApiRefused as error:
        if error.status != 404:
            raise
        return None


async def until(kube: Kube, namespace: str, condition: Callable[[dict[str, Any] | None], object]) -> None:
    """Wait for the ConfigMap to be as wanted."""
    with trio.fail_after(SECONDS):
        while not condition(await found(kube, namespace)):
            await trio.sleep(0.02)


def good(config_map: dict[str, Any] | None) -> bool:
    return (
        config_map is not None
        and config_map.get("data") == GOOD
        and config_map["metadata"].get("labels") == {"app.kubernetes.io/managed-by": "doorward"}
        and not config_map.get("immutable")
    )


@asynccontextmanager
async def keeping(cluster: Cluster, kube: Kube, pem: Callable[[], str] = lambda: "roots\n") -> AsyncIterator[Advance]:
    """It runs, as a service account with those rights."""
    home, moved = await kube.namespace("home"), Advance()
    token = await kube.account(home, "doorward", cluster_rules=chart_rights()[0])
    async with client(cluster, token) as api, trio.open_nursery() as nursery:
        nursery.start_soon(TrustBundles(api, pem, moved).run)
        yield moved
        nursery.cancel_scope.cancel()


async def label(kube: Kube, namespace: str, value: str | None) -> None:
    await kube.api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": {"doorward.dev/inject": value}}})


async def test_it_comes_and_goes_with_the_namespace_s_label(cluster: Cluster, kube: Kube) -> None:
    before, other = await kube.namespace("before", inject=True), await kube.namespace("other")
    async with keeping(cluster, kube):
        await until(kube, before, good)
        assert await found(kube, other) is None
        await label(kube, other, "enabled")
        await until(kube, other, good)
        await label(kube, other, None)
        await until(kube, other, lambda config_map: config_map is None)
        await label(kube, before, "disabled")
        await until(kube, before, lambda config_map: config_map is None)


async def test_what_somebody_does_to_it_is_undone(cluster: Cluster, kube: Kube) -> None:
    shop = await kube.namespace("shop", inject=True)
    async with keeping(cluster, kube):
        await until(kube, shop, good)
        for change in (
            {"data": {"bundle.pem": "forged"}},
            {"data": {"more": "x"}},
            {"metadata": {"labels": None}},
            {"data": {"bundle.pem": "forged"}, "immutable": True},
        ):
            await kube.api.patch(path(shop), change)
            await until(kube, shop, good)
        await kube.api.delete(path(shop))
        await until(kube, shop, good)


async def test_new_roots_are_written_without_a_restart(cluster: Cluster, kube: Kube) -> None:
    shop = await kube.namespace("shop", inject=True)
    pem = "old\n"
    async with keeping(cluster, kube, lambda: pem) as moved:
        await until(kube, shop, lambda config_map: config_map and config_map["data"] == {"bundle.pem": "old\n"})
        pem = "roots\n"
        moved.announce()
        await until(kube, shop, good)


async def test_one_of_that_name_is_taken_over_in_the_mesh_and_left_alone_elsewhere(
    cluster: Cluster, kube: Kube
) -> None:
    shop, other = await kube.namespace("shop", inject=True), await kube.namespace("other")
    foreign = {"metadata": {"name": "doorward-trust-bundle"}, "data": {"x": "y"}}
    for namespace in (shop, other):
        await kube.api.create(f"/api/v1/namespaces/{namespace}/configmaps", foreign)
    async with keeping(cluster, kube):
        await until(kube, shop, good)
        left = await found(kube, other)
        assert left is not None
        assert left["data"] == {"x": "y"}


async def test_a_namespace_that_is_ending_gets_none_and_holds_up_nothing(
    cluster: Cluster, kube: Kube, caplog: Any
) -> None:
    ending = await kube.namespace("ending", inject=True)
    await kube.api.delete(f"/api/v1/namespaces/{ending}")
    shop = await kube.namespace("shop", inject=True)
    async with keeping(cluster, kube):
        await until(kube, shop, good)
        assert await found(kube, ending) is None
    assert "cannot be kept" not in caplog.text


async def test_what_changed_while_the_api_server_was_away_is_put_right_after_it(cluster: Cluster, kube: Kube) -> None:
    shop = await kube.namespace("shop", inject=True)
    async with keeping(cluster, kube):
        await until(kube, shop, good)
        async with cluster.api_server_away():
            await trio.sleep(0.5)
        await kube.api.delete(path(shop))
        await until(kube, shop, good)
