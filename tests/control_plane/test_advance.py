"""Whoever watches learns of every move of the store, at once or when it looks next."""

import trio

from control_plane.advance import Advance, merged


async def test_every_watcher_is_woken(autojump_clock: trio.testing.MockClock) -> None:
    advance, woken = Advance(), []

    async def watch() -> None:
        woken.append(await advance.wait())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(watch)
        await trio.sleep(1)
        assert woken == []
        advance.announce()
    assert woken == [1, 1, 1]


async def test_what_was_announced_while_a_watcher_was_busy_is_not_lost() -> None:
    advance = Advance()
    seen = advance.count
    advance.announce()
    advance.announce()
    with trio.fail_after(1):
        assert await advance.wait(seen) == 2


async def test_a_wait_without_a_count_is_for_the_next_move(autojump_clock: trio.testing.MockClock) -> None:
    advance = Advance()
    advance.announce()
    with trio.move_on_after(1) as patience:
        await advance.wait()
    assert patience.cancelled_caught


async def test_one_merged_of_several_moves_with_each_from_then_on(autojump_clock: trio.testing.MockClock) -> None:
    one, other = Advance(), Advance()
    one.announce()
    async with trio.open_nursery() as nursery:
        both = merged(nursery, one, other)
        other.announce()  # before anything of it runs
        await trio.sleep(1)
        assert both.count == 1
        one.announce()
        await trio.sleep(1)
        assert both.count == 2
        nursery.cancel_scope.cancel()
