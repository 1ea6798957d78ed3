"""The less loaded of two random endpoints, never one that was tried, and last who could not be reached."""

import random
from collections import Counter

import pytest
import trio.testing

from mesh.wire import Endpoint
from sidecar.balance import AVOID_SECONDS, FORGET_SECONDS, Loads, choose


def endpoints(count: int) -> list[Endpoint]:
    return [
        Endpoint("shop/payments", 8080, f"10.0.0.{number}", 8443, "tcp", "spiffe://cluster.local/ns/shop/sa/payments")
        for number in range(1, count + 1)
    ]


def test_nothing_to_choose_from() -> None:
    assert choose([], Loads()) is None


def test_every_endpoint_is_tried_once_and_then_none_is_left() -> None:
    tried: list[Endpoint] = []
    while chosen := choose(endpoints(5), Loads(), tried=tried):
        tried.append(chosen)
    assert sorted(tried, key=str) == sorted(endpoints(5), key=str)


def test_the_less_loaded_of_two_wins() -> None:
    busy, idle = endpoints(2)
    loads = Loads()
    with loads.calling(busy):
        assert {choose([busy, idle], loads) for _ in range(20)} == {idle}
    assert loads.of(busy) == 0


def test_equal_loads_are_shared_out() -> None:
    draw = random.Random(7)
    drawn = Counter(choose(endpoints(4), Loads(), draw=draw) for _ in range(4000))
    assert all(800 < count < 1200 for count in drawn.values())


def test_the_most_loaded_of_many_is_never_chosen() -> None:
    overloaded, *others = endpoints(4)
    loads, draw = Loads(), random.Random(7)
    with loads.calling(overloaded):
        assert overloaded not in {choose([overloaded, *others], loads, draw=draw) for _ in range(500)}


async def test_a_choice_looks_at_few_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request makes one, and to hash an endpoint takes as long as to draw one."""
    many, loads, hashed = endpoints(200), Loads(), []
    loads.failed(many[0])
    loads.reached(many[0])
    hash_of = Endpoint.__hash__

    def counted(endpoint: Endpoint) -> int:
        hashed.append(endpoint)
        return hash_of(endpoint)

    monkeypatch.setattr(Endpoint, "__hash__", counted)
    assert choose(many, loads) in many
    assert len(hashed) < 10


async def test_who_could_not_be_reached_comes_last_until_one_call_finds_it_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    dead, alive = endpoints(2)
    loads = Loads()
    loads.failed(dead)
    with loads.calling(alive):  # the dead one looks idle
        assert {choose([dead, alive], loads) for _ in range(20)} == {alive}
        assert choose([dead, alive], loads, tried=[alive]) == dead
        assert choose([dead], loads) == dead
        await trio.sleep(AVOID_SECONDS)
        assert [choose([dead, alive], loads) for _ in range(20)] == [dead] + [alive] * 19
        loads.reached(dead)
        assert choose([dead, alive], loads) == dead


async def test_who_is_never_chosen_again_is_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    gone, other = endpoints(2)
    loads = Loads()
    loads.failed(gone)
    await trio.sleep(AVOID_SECONDS + FORGET_SECONDS)
    loads.failed(other)
    assert gone not in loads.avoided()
    assert list(loads._avoided) == [other]
