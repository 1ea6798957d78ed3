"""How many connections may be open that have not yet said who they are (law 21): in total, and from one address."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class OverBudget(Exception):
    """One connection too many. The message says which of the two bounds was met."""


class Budget:
    """Counts claims. `total` bounds all of them together, `per_address` those of one source address."""

    def __init__(self, total: int, per_address: int) -> None:
        self._total = total
        self._per_address = per_address
        self._by_address: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Claims held now."""
        return self._by_address.total()

    @contextmanager
    def claim(self, address: str) -> Iterator[None]:
        """Hold one place for as long as the `with` block lasts. Raises OverBudget."""
        if self.taken >= self._total:
            raise OverBudget(f"{self._total} connections are waiting to authenticate")
        if self._by_address[address] >= self._per_address:
            raise OverBudget(f"{self._per_address} connections from one address are waiting to authenticate")
        self._by_address[address] += 1
        try:
            yield
        finally:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
