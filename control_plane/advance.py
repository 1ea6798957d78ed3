"""The word that the store moved, from whoever moved it to everyone who shows it.

Whoever changes policies, endpoints, bans or roots calls `announce()` after the change is stored; each watcher keeps
the count that it saw last and asks to be woken when there is a later one. Several announcements while a watcher is
busy become one for it: what it then reads is the newest state anyway.
"""

import trio
from attrs import Factory, define


@define(eq=False)
class Advance:
    """A broadcast counter. Belongs to one trio run; from a thread, call `announce` by `trio.from_thread.run_sync`."""

    count: int = 0
    _moved: trio.Event = Factory(trio.Event)

    def announce(self) -> None:
        """Wake every watcher. Never blocks."""
        self.count += 1
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    async def wait(self, seen: int | None = None) -> int:
        """Return the count once it is above `seen`; at once where it already is. None: wait for the next."""
        seen = self.count if seen is None else seen
        while self.count <= seen:
            await self._moved.wait()
        await trio.lowlevel.checkpoint_if_cancelled()
        return self.count


def merged(nursery: trio.Nursery, *sources: Advance) -> Advance:
    """One on which is announced whatever is announced on any of `sources` from now on, while `nursery` runs."""
    target = Advance()
    for source in sources:
        nursery.start_soon(_forward, source, source.count, target)
    return target


async def _forward(source: Advance, seen: int, target: Advance) -> None:
    while True:
        seen = await source.wait(seen)
        target.announce()
