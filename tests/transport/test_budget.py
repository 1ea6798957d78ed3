"""The budget never goes over either bound, lets nobody sit in everybody's way, and forgets who holds nothing."""

from contextlib import ExitStack, suppress

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from transport import Budget, BudgetClosed, OverBudget
from transport.budget import ENOUGH_SECONDS


async def test_one_address_cannot_take_the_place_of_all_others() -> None:
    budget = Budget(total=10, per_address=2)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(budget.claim("192.0.2.1"))
        with pytest.raises(OverBudget, match="one address"):
            held.enter_context(budget.claim("192.0.2.1"))
        held.enter_context(budget.claim("192.0.2.2"))
    assert budget.taken == 0


@given(st.lists(st.integers(0, 4), max_size=40))
async def test_neither_bound_is_ever_passed(addresses: list[int]) -> None:
    budget = Budget(total=6, per_address=3)
    held: dict[int, int] = {}
    with ExitStack() as stack:
        for address in addresses:
            mine, all_of_them = held.get(address, 0), sum(held.values())
            greediest = max(held, key=held.__getitem__, default=None)
            with suppress(OverBudget):
                stack.enter_context(budget.claim(str(address)))
                assert mine < 3
                if all_of_them == 6:
                    assert greediest is not None
                    assert held[greediest] > mine + 1
                    held[greediest] -= 1
                held[address] = mine + 1
            assert budget.taken == sum(held.values()) <= 6
    assert budget.taken == 0
    assert not budget._by_address, "what holds nothing takes no memory"


class Sitters:
    """Connections that claim a place and then say nothing."""

    def __init__(self, budget: Budget, nursery: trio.Nursery) -> None:
        self.budget = budget
        self.ousted: list[str] = []
        self._nursery = nursery

    async def sit(self, *addresses: str) -> None:
        for address in addresses:
            self._nursery.start_soon(self._sit, address)
            await trio.testing.wait_all_tasks_blocked()

    async def _sit(self, address: str) -> None:
        with suppress(OverBudget):
            try:
                with self.budget.claim(address):
                    await trio.sleep_forever()
            except OverBudget:
                self.ousted.append(address)
                raise


async def test_the_oldest_of_the_greediest_address_makes_room_once_it_had_time(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        sitters = Sitters(Budget(total=4, per_address=3), nursery)
        await sitters.sit("patient", "greedy", "greedy", "sharing")
        with pytest.raises(OverBudget, match="4 connections"), sitters.budget.claim("sharing"):
            pass
        await trio.sleep(ENOUGH_SECONDS)
        with sitters.budget.claim("sharing"):
            assert sitters.budget.taken == 4
            await trio.testing.wait_all_tasks_blocked()
        assert sitters.ousted == ["greedy"]
        nursery.cancel_scope.cancel()


async def test_a_crowd_makes_room_at_once_for_an_address_that_holds_less() -> None:
    """However fast a few hosts come again, they do not keep others out."""
    async with trio.open_nursery() as nursery:
        sitters = Sitters(Budget(total=4, per_address=4), nursery)
        await sitters.sit("crowd", "crowd", "crowd", "crowd", "honest", "another")
        assert sitters.ousted == ["crowd", "crowd"]
        with pytest.raises(OverBudget, match="4 connections"), sitters.budget.claim("honest"):
            pass
        nursery.cancel_scope.cancel()


async def test_an_address_that_is_full_makes_room_for_itself(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        sitters = Sitters(Budget(total=10, per_address=2), nursery)
        await sitters.sit("other", "shared", "shared")
        await trio.sleep(ENOUGH_SECONDS)
        with sitters.budget.claim("shared"):
            await trio.testing.wait_all_tasks_blocked()
        assert sitters.ousted == ["shared"]
        nursery.cancel_scope.cancel()


async def test_who_got_through_in_the_same_moment_is_not_ended(autojump_clock: MockClock) -> None:
    budget = Budget(total=1, per_address=1)
    with budget.claim("slow"):
        await trio.sleep(ENOUGH_SECONDS)
        with budget.claim("newcomer"):
            pass
    await trio.lowlevel.checkpoint()
    assert budget.taken == 0


async def test_a_closed_budget_lets_go_of_everybody_and_takes_nobody_in() -> None:
    budget, let_go = Budget(total=10, per_address=10), 0

    async def sit() -> None:
        nonlocal let_go
        with pytest.raises(BudgetClosed), budget.claim("stranger"):
            await trio.sleep_forever()
        let_go += 1

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(sit)
        await trio.testing.wait_all_tasks_blocked()
        budget.close()
    assert (let_go, budget.taken) == (3, 0)
    with pytest.raises(BudgetClosed), budget.claim("late"):
        pass
