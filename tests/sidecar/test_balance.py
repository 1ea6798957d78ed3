"""The less loaded of two random endpoints, and never one that was tried."""

import random
from collections import Counter

from mesh.wire import Endpoint
from sidecar.balance import Loads, choose


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
