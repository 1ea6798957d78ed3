"""How many connections may be open at once, of whatever kind (law 21).

Where no place is left, nothing more is accepted, unless somebody holds one without using it: who has waited longest
for its peer to say something gives way to a newcomer. So a crowd that connects and says nothing keeps nobody out.
Whoever came, or finished, a moment ago is left in peace: its peer's next bytes are on their way, and a burst of callers
has to queue, not to throw each other out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

IN_PEACE_SECONDS: Final = 1.0  # of waiting for its peer before one may have to give way


class Places:
    """So many places. transport.serve takes one per connection and gives it back."""

    def __init__(self, total: int) -> None:
        self._free = trio.CapacityLimiter(total)
        self._leaving = 0  # holders that were told to give way and have not left yet
        self._idle: dict[trio.CancelScope, float] = {}  # since when; the one that has waited longest first

    @property
    def taken(self) -> int:
        """Places held now."""
        return self._free.borrowed_tokens

    async def take(self, holder: object) -> None:
        """Take a place for `holder`, waiting until there is one."""
        try:
            self._free.acquire_on_behalf_of_nowait(holder)
        except trio.WouldBlock:
            taken = False
            while not taken:
                self._make_room(coming=1)
                with trio.move_on_after(self._in_peace_for()):
                    await self._free.acquire_on_behalf_of(holder)
                    taken = True

    def give_back(self, holder: object) -> None:
        """`holder` has left."""
        self._free.release_on_behalf_of(holder)
        self._leaving = max(0, self._leaving - 1)

    @contextmanager
    def idle(self) -> Iterator[trio.CancelScope]:
        """Around waiting for the peer: the block is cancelled where the place is needed.

        Look at the scope's `cancelled_caught` behind the block, and leave at once where it is set.
        """
        scope = trio.CancelScope()
        self._idle[scope] = trio.current_time()
        try:
            with scope:
                self._make_room()
                yield scope
        finally:
            self._idle.pop(scope, None)
            if scope.cancel_called and not scope.cancelled_caught:  # the peer had said something after all
                self._leaving = max(0, self._leaving - 1)
                self._make_room()

    def work(self, scope: trio.CancelScope) -> None:
        """Within idle()'s block: what is done from now on is not to be broken off."""
        self._idle.pop(scope, None)

    def rest(self, scope: trio.CancelScope) -> None:
        """Within idle()'s block, after work(): the peer is waited for again, and this one is the youngest."""
        if not scope.cancel_called:
            self._idle.pop(scope, None)
            self._idle[scope] = trio.current_time()
            self._make_room()

    def _in_peace_for(self) -> float:
        """Seconds until it is worth looking again for somebody who may have to give way."""
        since = next(iter(self._idle.values()), trio.current_time())
        left = since + IN_PEACE_SECONDS - trio.current_time()
        return left if left > 0 else IN_PEACE_SECONDS

    def _make_room(self, coming: int = 0) -> None:
        if self._free.available_tokens:
            return
        wanted = self._free.statistics().tasks_waiting + coming
        while self._idle and self._leaving < wanted:
            scope, since = next(iter(self._idle.items()))
            if trio.current_time() < since + IN_PEACE_SECONDS:
                return
            del self._idle[scope]
            self._leaving += 1
            scope.cancel()
