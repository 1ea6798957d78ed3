"""How many connections may be open that have not yet said who they are (law 21): in total, and from one address.

Where there is no room, who has had time enough makes it; and at once the address that holds most, for one that holds
less. Otherwise a few hosts that connect and say nothing would keep everybody out, for as long as they go on. A program
that ends closes its budget: it waits for nobody here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio
from attrs import define, field

ENOUGH_SECONDS: Final = 2.0  # for a handshake, while others wait for its place

_GAVE_WAY = "its place was given to a newcomer: it had not said who it is, or others from its address had not"


class OverBudget(Exception):
    """One connection too many. The message says which of the bounds was met."""


class BudgetClosed(Exception):
    """The program ends, and waits for nobody who has not said who it is."""


@define(eq=False)
class _Claim:
    since: float  # trio's time
    scope: trio.CancelScope = field(factory=trio.CancelScope)


class Budget:
    """Counts claims. `total` bounds all of them together, `per_address` those of one source address."""

    def __init__(self, total: int, per_address: int) -> None:
        self._total = total
        self._per_address = per_address
        self._by_address: dict[str, list[_Claim]] = {}  # the oldest first; no empty lists
        self._closed = False

    @property
    def taken(self) -> int:
        """Claims held now."""
        return sum(map(len, self._by_address.values()))

    @contextmanager
    def claim(self, address: str) -> Iterator[None]:
        """Hold one place for as long as the `with` block lasts.

        Raises OverBudget: at once where there is no room, or out of the block, which is cancelled then, where somebody
        else needs the place: after ENOUGH_SECONDS, or where its address holds more than its share. Raises
        BudgetClosed in the same two ways once close() was called.
        """
        if self._closed:
            raise BudgetClosed
        self._make_room(address)
        claim = _Claim(trio.current_time())
        self._by_address.setdefault(address, []).append(claim)
        try:
            with claim.scope:
                yield
        finally:
            self._forget(address, claim)
        if claim.scope.cancelled_caught:
            raise BudgetClosed if self._closed else OverBudget(_GAVE_WAY)

    def close(self) -> None:
        """End every claim that is held, and give no more."""
        self._closed = True
        for claim in [each for claims in self._by_address.values() for each in claims]:
            claim.scope.cancel()

    def _make_room(self, address: str) -> None:
        if self._held(address) >= self._per_address and not self._oust(address):
            raise OverBudget(f"{self._per_address} connections from one address are waiting to authenticate")
        if self.taken >= self._total:
            greediest = max(self._by_address, key=self._held)
            unfair = self._held(greediest) > self._held(address) + 1
            if not self._oust(greediest, at_once=unfair):
                raise OverBudget(f"{self._total} connections are waiting to authenticate")

    def _held(self, address: str) -> int:
        return len(self._by_address.get(address, ()))

    def _oust(self, address: str, *, at_once: bool = False) -> bool:
        """End the oldest claim of an address, where it has had time enough or `at_once`. Returns whether it did."""
        oldest = self._by_address[address][0]
        if not at_once and trio.current_time() - oldest.since < ENOUGH_SECONDS:
            return False
        self._forget(address, oldest)
        oldest.scope.cancel()
        return True

    def _forget(self, address: str, claim: _Claim) -> None:
        claims = self._by_address.get(address, [])
        if claim in claims:
            claims.remove(claim)
            if not claims:
                del self._by_address[address]
