"""The cluster's objects become what the board shows a moment after they change, and never before all are known."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, field

from certs.spiffe import TrustDomain
from control_plane.advance import Advance
from control_plane.discovery.routes import Discovered, Standing
from control_plane.discovery.watch import QUIET_SECONDS, Discovery
from control_plane.push.office import Office
from control_plane.push.platform import Platform
from control_plane.state import State
from control_plane.store.errors import StoreError
from tests.support.cluster_objects import endpoint_slice, namespace, pod, service
from tests.support.offices import open_office
from tests.support.patience import PATIENCE

DOMAIN = TrustDomain("cluster.local")
PATHS = {
    "Pod": "/api/v1/pods",
    "Service": "/api/v1/services",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/endpointslices",
    "Namespace": "/api/v1/namespaces",
}


@define(eq=False)
class Kind:
    """One kind of object, as `Watched` keeps it; the test is the API server."""

    keep: Callable[[dict[str, Any]], Any]
    objects: dict[tuple[str, str], Any] = field(factory=dict)
    synced: bool = False
    changed: Advance = field(factory=Advance)

    async def run(self) -> None:
        await trio.sleep_forever()

    def list(self, *raw: dict[str, Any]) -> None:
        """What is there now, and all of it."""
        kept = {(each["metadata"].get("namespace", ""), each["metadata"]["name"]): self.keep(each) for each in raw}
        self.objects = {key: each for key, each in kept.items() if each is not None}
        self.synced = True
        self.changed.announce()


@define(eq=False)
class World:
    """A control plane's store and board, and discovery that runs on them."""

    office: Office
    discovered: Discovered = field(factory=Discovered)
    kinds: dict[str, Kind] = field(factory=dict)

    def watch(self, path: str, keep: Callable[[dict[str, Any]], Any]) -> Any:
        self.kinds[path] = Kind(keep)
        return self.kinds[path]

    def list(self, kind: str, *raw: dict[str, Any]) -> None:
        self.kinds[PATHS[kind]].list(*raw)

    @property
    def shown(self) -> Platform | None:
        return self.office.board.platform

    async def until(self, true: Callable[[], object]) -> None:
        with trio.fail_after(PATIENCE):
            while not true():
                await trio.sleep(0.005)


@pytest.fixture
def clock() -> trio.testing.MockClock:
    """Goes as everywhere, until the test lets it stand."""
    return trio.testing.MockClock(rate=1)


@pytest.fixture
async def world(tmp_path: Path, clock: trio.testing.MockClock) -> AsyncIterator[World]:
    with State.open(tmp_path / "state", trust_domain=DOMAIN.name) as state:
        async with open_office(state, None) as office, trio.open_nursery() as nursery:
            world = World(office)
            nursery.start_soon(Discovery.open(world.watch, office, world.discovered).run)
            await trio.testing.wait_all_tasks_blocked()
            yield world
            nursery.cancel_scope.cancel()


def everything(world: World) -> None:
    """One pod behind one service."""
    world.list("Pod", pod("a", "10.0.0.1"))
    world.list("Service", service("payments", "10.96.0.1"))
    world.list("EndpointSlice", endpoint_slice("one", "10.0.0.1"))
    world.list("Namespace", namespace("shop"))


async def test_nothing_is_shown_before_all_kinds_are_known(world: World) -> None:
    world.list("Pod", pod("a", "10.0.0.1"))
    world.list("Service", service("payments", "10.96.0.1"))
    world.list("Namespace", namespace("shop"))
    await trio.sleep(2 * QUIET_SECONDS)
    assert (world.shown, world.office.board.complete, world.discovered.complete) == (None, False, False)
    world.list("EndpointSlice", endpoint_slice("one", "10.0.0.1"))
    await world.until(lambda: world.office.board.complete)
    assert world.shown is not None
    assert [each.backends for each in world.shown.services] == [(("10.0.0.1", 8080),)]
    assert world.office.board.picture.services == world.shown.services
    assert [each.standing for route in world.discovered.routes for each in route.backends] == [Standing.CALLED]


async def test_each_change_is_shown_under_a_number_of_its_own(world: World) -> None:
    everything(world)
    await world.until(lambda: world.office.board.complete)
    first = world.office.board.picture
    world.list("EndpointSlice", endpoint_slice("one", "10.0.0.1", not_ready=["10.0.0.1"]))
    await world.until(lambda: world.office.board.picture.services != first.services)
    assert world.office.board.picture.number > first.number
    world.list("Namespace")
    await trio.sleep(3 * QUIET_SECONDS)
    assert world.office.store.number() == world.office.board.picture.number, (
        "what sidecars are not told takes no number"
    )


async def test_changes_that_come_together_are_one(world: World, clock: trio.testing.MockClock) -> None:
    everything(world)
    await world.until(lambda: world.office.board.complete)
    number = world.office.store.number()
    clock.rate = 0  # together, however long that takes here
    for last in range(1, 30):
        world.list("Pod", pod("a", "10.0.0.1"), pod("b", f"10.0.1.{last}"))
        await trio.lowlevel.checkpoint()
    clock.rate = 1
    await world.until(lambda: world.shown and len(world.shown.endpoints) == 2)
    assert world.shown is not None
    assert world.shown.endpoints[1].address == "10.0.1.29"
    assert world.office.store.number() == number + 1


async def test_a_store_that_fails_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [StoreError("the disk is full")]
    note = world.office.store.note_platform

    def sometimes() -> int:
        if failures:
            raise failures.pop()
        return note()

    monkeypatch.setattr(world.office.store, "note_platform", sometimes)
    monkeypatch.setattr("control_plane.discovery.watch.RETRY_SECONDS", 0.01)
    everything(world)
    await world.until(lambda: world.office.board.complete)
    assert not failures


async def test_a_fault_of_our_own_costs_neither_the_program_nor_what_is_shown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything(world)
    await world.until(lambda: world.office.board.complete)
    shown = world.shown

    def fail(*_: object) -> None:
        raise KeyError("nobody foresaw this")

    with monkeypatch.context() as broken:
        broken.setattr("control_plane.discovery.watch.resolve", fail)
        world.list("Pod")
        await world.until(lambda: _failures(world))
    assert world.shown is shown
    world.list("Pod", pod("b", "10.0.0.2"))
    await world.until(lambda: world.shown is not shown)


def _failures(world: World) -> float:
    value = world.office.metrics.registry.get_sample_value
    return value("doorward_control_plane_failures_total", {"place": "discovery"}) or 0.0
