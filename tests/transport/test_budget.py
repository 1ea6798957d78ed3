"""The budget never goes over either bound, and forgets addresses that hold nothing."""

from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport import Budget, OverBudget


def test_one_address_cannot_take_the_place_of_all_others() -> None:
    budget = Budget(total=10, per_address=2)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(budget.claim("192.0.2.1"))
        with pytest.raises(OverBudget, match="one address"):
            held.enter_context(budget.claim("192.0.2.1"))
        held.enter_context(budget.claim("192.0.2.2"))
    assert budget.taken == 0


@given(st.lists(st.integers(0, 4), max_size=40))
def test_neither_bound_is_ever_passed(addresses: list[int]) -> None:
    budget = Budget(total=6, per_address=3)
    held: dict[int, int] = {}
    with ExitStack() as stack:
        for address in addresses:
            free = sum(held.values()) < 6 and held.get(address, 0) < 3
            with suppress(OverBudget):
                stack.enter_context(budget.claim(str(address)))
                assert free
                held[address] = held.get(address, 0) + 1
            assert budget.taken == sum(held.values())
    assert budget.taken == 0
    assert not budget._by_address, "what holds nothing takes no memory"
