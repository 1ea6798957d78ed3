"""Places are bounded; who waits for its peer gives way to a newcomer, the longest first, and nobody else does."""

import trio
import trio.testing

from transport import Places
from transport.places import IN_PEACE_SECONDS


async def hold(places: Places, gone: list[str], name: str) -> None:
    """A connection whose peer says nothing."""
    await places.take(name)
    with places.idle() as place:
        await trio.sleep_forever()
    assert place.cancelled_caught
    places.give_back(name)
    gone.append(name)


async def test_who_has_waited_longest_gives_way(autojump_clock: trio.testing.MockClock) -> None:
    places, gone = Places(2), list[str]()
    async with trio.open_nursery() as nursery:
        for name in ("first", "second"):
            nursery.start_soon(hold, places, gone, name)
            await trio.testing.wait_all_tasks_blocked()
        assert gone == []
        await places.take("newcomer")
        assert (gone, places.taken) == (["first"], 2)
        await places.take("another")
        assert (gone, places.taken) == (["first", "second"], 2)


async def test_who_came_a_moment_ago_is_left_in_peace(autojump_clock: trio.testing.MockClock) -> None:
    places, gone = Places(1), list[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, places, gone, "first")
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(IN_PEACE_SECONDS * 0.9) as too_soon:
            await places.take("newcomer")
        assert too_soon.cancelled_caught
        assert gone == []
        await places.take("newcomer")
        assert gone == ["first"]


async def test_who_is_at_work_does_not_give_way(autojump_clock: trio.testing.MockClock) -> None:
    places, taken = Places(1), trio.Event()

    async def come() -> None:
        await places.take("newcomer")
        taken.set()

    await places.take("worker")
    async with trio.open_nursery() as nursery:
        with places.idle() as place:
            places.work(place)
            nursery.start_soon(come)
            await trio.testing.wait_all_tasks_blocked()
            assert not place.cancel_called
            places.rest(place)
            await trio.sleep_forever()
        assert place.cancelled_caught
        places.give_back("worker")
        await taken.wait()


async def test_where_the_peer_speaks_in_the_last_moment_another_one_gives_way() -> None:
    places, gone = Places(2), list[str]()
    async with trio.open_nursery() as nursery:
        await places.take("lucky")
        with places.idle() as place:
            nursery.start_soon(hold, places, gone, "other")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(places.take, "newcomer")
            while not place.cancel_called:
                with trio.CancelScope(shield=True):
                    await trio.lowlevel.checkpoint()
        assert not place.cancelled_caught, "it had something to say"
        await trio.testing.wait_all_tasks_blocked()
        assert (gone, places.taken) == (["other"], 2)


async def test_nobody_gives_way_while_there_is_room() -> None:
    places, gone = Places(3), list[str]()
    async with trio.open_nursery() as nursery:
        for name in ("first", "second", "third"):
            nursery.start_soon(hold, places, gone, name)
        await trio.testing.wait_all_tasks_blocked()
        assert gone == []
        nursery.cancel_scope.cancel()
