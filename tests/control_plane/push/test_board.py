"""What hangs on the board belongs to one number: the store's part, and what the cluster's objects say beside it."""

import random

import pytest
import trio
from attrs import evolve

from control_plane.push.office import in_thread
from control_plane.push.platform import Platform
from control_plane.store.errors import StoreError
from mesh.wire import EVERY_DESTINATION, Announce, Endpoint, Ping, Pong, Service
from tests.support.plane import DOMAIN, Plane, allow

EVERYTHING = Announce((), (EVERY_DESTINATION,))
POD = Endpoint(
    "shop/payments", 8080, "10.0.0.1", 8080, "http", str(DOMAIN.workload("shop", "payments")), confirmed=True
)
SERVICE = Service("shop/payments", ("10.96.0.1",), 80, "http", (("10.0.0.1", 8080),))
PLATFORM = Platform((POD,), (SERVICE,))


async def show(plane: Plane, platform: Platform) -> bool:
    """As discovery does."""
    new = await plane.office.board.show(platform)
    if new:
        plane.office.advance.announce()
    return new


async def test_what_the_cluster_says_is_pushed_under_a_new_number(plane: Plane) -> None:
    caller = await plane.sidecar("shop/checkout", EVERYTHING)
    before = await caller.enforce()
    assert await show(plane, PLATFORM)
    after = await caller.enforce()
    assert (after.endpoints, after.services) == ((POD,), (SERVICE,))
    assert after.epoch == before.epoch
    assert after.number > before.number
    assert not await show(plane, Platform((POD,), (SERVICE,))), "the same again is nothing new"
    assert await show(plane, Platform())
    last = await caller.enforce()
    assert (last.services, last.hash) == ((), before.hash)
    assert last.number > after.number


async def test_nothing_is_pushed_before_the_cluster_is_known(plane: Plane) -> None:
    board = plane.office.board
    board.platform = None
    await board.hang()
    caller = await plane.sidecar("shop/checkout", EVERYTHING)
    await plane.apply(allow())
    assert await caller.ask(Ping(1)) == Pong(1), "it keeps the snapshot that it has"
    assert not board.complete
    await show(plane, PLATFORM)
    snapshot = await caller.enforce()
    assert snapshot.services == (SERVICE,)
    assert snapshot.number == board.picture.number


async def test_an_empty_cluster_is_known_too(plane: Plane) -> None:
    plane.office.board.platform = None
    await plane.office.board.hang()
    caller = await plane.sidecar("shop/checkout", EVERYTHING)
    await show(plane, Platform())
    assert (await caller.enforce()).services == ()


async def test_a_store_that_fails_leaves_what_was_shown(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    await show(plane, PLATFORM)

    def fail() -> int:
        raise StoreError("the disk is full")

    monkeypatch.setattr(plane.office.store, "note_platform", fail)
    with pytest.raises(StoreError):
        await plane.office.board.show(Platform())
    assert plane.office.board.platform == PLATFORM


async def test_one_number_never_shows_two_things(plane: Plane) -> None:
    """However changes of the store, of the cluster and readings of both fall together."""
    board, draw, shown = plane.office.board, random.Random(7), dict[int, set[object]]()

    async def watch_cluster() -> None:
        for number in range(40):
            await show(plane, Platform((evolve(POD, address=f"10.0.0.{number}"),)))
            await trio.sleep(draw.random() / 500)

    async def change_store() -> None:
        for number in range(20):
            await in_thread(lambda number=number: plane.office.store.ban(f"serial:{number}", reason="", author="test"))
            plane.office.advance.announce()
            await trio.sleep(draw.random() / 300)

    async def read() -> None:
        while True:
            await board.hang()
            picture = board.picture
            shown.setdefault(picture.number, set()).add((tuple(picture.endpoints.items()), picture.bans))

    async with trio.open_nursery() as reading:
        reading.start_soon(read)
        reading.start_soon(read)
        async with trio.open_nursery() as changing:
            changing.start_soon(watch_cluster)
            changing.start_soon(change_store)
        reading.cancel_scope.cancel()
    assert len(shown) > 10
    assert all(len(contents) == 1 for contents in shown.values())
