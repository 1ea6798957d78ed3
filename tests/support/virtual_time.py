"""Virtual time for code that also uses threads: trio's autojump would jump while a thread is still at work."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing


@asynccontextmanager
async def jumping(clock: trio.testing.MockClock) -> AsyncIterator[None]:
    """Within the block time stands still while anything can run, and else jumps to the next deadline."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_jump, clock)
        yield
        nursery.cancel_scope.cancel()


async def _jump(clock: trio.testing.MockClock) -> None:
    threads = trio.to_thread.current_default_thread_limiter()
    while True:
        await trio.testing.wait_all_tasks_blocked()
        ahead = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if threads.borrowed_tokens or ahead == float("inf"):
            time.sleep(0.0005)  # noqa: ASYNC251  # real time, for the thread
            await trio.lowlevel.checkpoint()
        else:
            clock.jump(max(ahead, 1e-6))  # at least a little: a sum of floats may fall short of the deadline
