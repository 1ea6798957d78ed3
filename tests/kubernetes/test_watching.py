"""The cluster's objects are kept current by list and watch against the real API server, whatever happens to it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from control_plane.kubernetes import pages, watching
from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.errors import ApiRefused
from control_plane.kubernetes.watching import Watched
from tests.support.cluster import Cluster
from tests.support.kube import Kube, client

SECONDS = 60.0
READ_CONFIGMAPS = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}


def value(item: dict[str, Any]) -> str | None:
    """A ConfigMap's datum `v`; those without one are not kept."""
    return (item.get("data") or {}).get("v")


def path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


async def put(kube: Kube, namespace: str, name: str, text: str) -> None:
    """Create or change a ConfigMap."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"v": text}}
    await kube.api.patch(f"{path(namespace)}/{name}", body, kind="apply", fieldManager="test", force="true")


@asynccontextmanager
async def running(watched: Watched[str]) -> AsyncIterator[Watched[str]]:
    """It runs and has seen one list."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.run)
        await until(watched, lambda: watched.synced)
        yield watched
        nursery.cancel_scope.cancel()


async def until(watched: Watched[str], condition: Callable[[], object]) -> None:
    """Wait for announcements until the condition holds."""
    with trio.fail_after(SECONDS):
        while not condition():
            await watched.changed.wait()


def lists(watched: Watched[str]) -> float:
    """How often everything was read."""
    found = watched.api.contact.metrics.registry.get_sample_value(
        "doorward_control_plane_kubernetes_lists_total", {"kind": "configmaps"}
    )
    return found or 0.0


async def test_what_is_created_changed_and_deleted_arrives_by_event(kube: Kube) -> None:
    shop = await kube.namespace("shop")
    await put(kube, shop, "a", "1")
    async with running(Watched(kube.api, path(shop), value)) as watched:
        assert watched.objects == {(shop, "a"): "1"}
        held = watched.objects
        await put(kube, shop, "b", "1")
        await put(kube, shop, "a", "2")
        await until(watched, lambda: watched.objects == {(shop, "a"): "2", (shop, "b"): "1"})
        await kube.api.delete(f"{path(shop)}/a")
        await until(watched, lambda: watched.objects == {(shop, "b"): "1"})
        assert held == {(shop, "a"): "1"}  # who took it has it as it was
        assert lists(watched) == 1


async def test_only_a_difference_in_what_is_kept_is_announced(kube: Kube) -> None:
    shop = await kube.namespace("shop")
    await put(kube, shop, "a", "1")
    async with running(Watched(kube.api, path(shop), value)) as watched:
        count = watched.changed.count
        await kube.api.patch(f"{path(shop)}/a", {"metadata": {"labels": {"x": "y"}}})
        await kube.api.create(path(shop), {"metadata": {"name": "b"}, "data": {"other": "1"}})
        await put(kube, shop, "a", "2")
        await until(watched, lambda: watched.objects[shop, "a"] == "2")
        assert watched.changed.count == count + 1
        await kube.api.patch(f"{path(shop)}/a", {"data": {"v": None}})  # no longer kept
        await until(watched, lambda: not watched.objects)


async def test_selectors_are_the_api_server_s(kube: Kube) -> None:
    shop = await kube.namespace("shop")
    for name in ("a", "b"):
        await put(kube, shop, name, name)
    await kube.api.patch(f"{path(shop)}/a", {"metadata": {"labels": {"in": "yes"}}})
    async with running(Watched(kube.api, path(shop), value, label_selector="in=yes")) as watched:
        assert watched.objects == {(shop, "a"): "a"}
        await kube.api.patch(f"{path(shop)}/b", {"metadata": {"labels": {"in": "yes"}}})
        await until(watched, lambda: (shop, "b") in watched.objects)
        await kube.api.patch(f"{path(shop)}/a", {"metadata": {"labels": {"in": None}}})
        await until(watched, lambda: (shop, "a") not in watched.objects)
    async with running(Watched(kube.api, path(shop), value, field_selector="metadata.name=b")) as watched:
        assert watched.objects == {(shop, "b"): "b"}


async def test_a_long_list_comes_in_pages(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE", 2)
    shop = await kube.namespace("shop")
    for name in "abcde":
        await put(kube, shop, name, name)
    async with running(Watched(kube.api, path(shop), value)) as watched:
        assert watched.objects == {(shop, name): name for name in "abcde"}


async def test_a_watch_that_ends_is_resumed_where_it_was(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WATCH_SECONDS", (1, 1))
    shop = await kube.namespace("shop")
    watches = 0

    class Counting(KubernetesApi):
        def watch(self, *arguments: Any, **named: Any) -> Any:
            nonlocal watches
            watches += 1
            return super().watch(*arguments, **named)

    api = Counting(kube.api.contact, kube.api._transmission, kube.api._token_file)
    async with running(Watched(api, path(shop), value)) as watched:
        with trio.fail_after(SECONDS):
            for number in range(100):
                await put(kube, shop, "a", str(number))
                await until(watched, lambda number=number: watched.objects.get((shop, "a")) == str(number))
                if watches > 3:
                    break
                await trio.sleep(0.1)
        assert watches > 3
        assert lists(watched) == 1


async def test_a_bookmark_moves_on_what_a_quiet_watch_resumes_from(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WATCH_SECONDS", (4, 4))  # the API server sends one two seconds before the end
    quiet, busy = await kube.namespace("quiet"), await kube.namespace("busy")
    async with running(Watched(kube.api, path(quiet), value)) as watched:
        await put(kube, busy, "a", "1")
        made = await kube.api.get(f"{path(busy)}/a")
        with trio.fail_after(SECONDS):
            while int(watched._version) < int(made["metadata"]["resourceVersion"]):
                await trio.sleep(0.1)
        assert (watched.changed.count, lists(watched)) == (1, 1)


async def test_what_is_too_old_to_resume_from_is_listed_anew(kube: Kube, cluster: Cluster) -> None:
    shop = await kube.namespace("shop")
    await put(kube, shop, "a", "1")
    old = (await kube.api.get(path(shop)))["metadata"]["resourceVersion"]
    await put(kube, shop, "a", "2")
    async with cluster.api_server_away():
        pass  # it begins to remember events anew
    async with kube.api.watch(path(shop), resourceVersion=old) as events:
        assert (await anext(events))["object"]["code"] == 410
    watched = Watched(kube.api, path(shop), value)
    watched._version = old
    async with running(watched):
        assert watched.objects == {(shop, "a"): "2"}


async def test_while_the_api_server_is_away_everything_stays_and_then_it_catches_up(
    kube: Kube, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    shop = await kube.namespace("shop")
    await put(kube, shop, "a", "1")
    await put(kube, shop, "b", "1")
    async with running(Watched(kube.api, path(shop), value)) as watched:
        async with cluster.api_server_away():
            with trio.fail_after(SECONDS):
                while not kube.api.contact.away:
                    await trio.sleep(0.01)
            assert (len(watched.objects), watched.synced) == (2, True)
        await cluster.kubectl("-n", shop, "delete", "configmap", "a")
        await cluster.kubectl("-n", shop, "create", "configmap", "c", "--from-literal=v=3")
        await until(watched, lambda: watched.objects == {(shop, "b"): "1", (shop, "c"): "3"})
        assert kube.api.contact.away == ""
    said = [record.getMessage() for record in caplog.records if record.name == "doorward.kubernetes"]
    assert [text.split(";")[0] for text in said if "API server is" in text] == [
        "the API server is away",
        "the API server is back",
    ]


async def test_rights_that_come_later_are_used(kube: Kube, cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    shop = await kube.namespace("shop")
    await put(kube, shop, "a", "1")
    token = await kube.account(shop, "reader")
    async with client(cluster, token) as api:
        watched = Watched(api, path(shop), value)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watched.run)
            with trio.fail_after(SECONDS):
                while not caplog.records:
                    await trio.sleep(0.01)
            assert "forbidden" in caplog.records[0].fields["reason"]
            assert (watched.synced, api.contact.away) == (False, "")
            await kube.grant(shop, "reader", rules=[READ_CONFIGMAPS])
            await until(watched, lambda: watched.objects == {(shop, "a"): "1"})
            nursery.cancel_scope.cancel()


async def test_the_token_is_read_anew_for_each_request(kube: Kube, cluster: Cluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("not-a-token")
    async with client(cluster, token) as api:
        with pytest.raises(ApiRefused) as refused:
            await api.get("/api/v1/namespaces")
        assert refused.value.status == 401
        token.write_bytes(cluster.admin_token_file.read_bytes() + b"\n")
        assert (await api.get("/api/v1/namespaces"))["kind"] == "NamespaceList"
