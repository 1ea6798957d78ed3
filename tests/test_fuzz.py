"""`make fuzz` leaves no test out for good, however short its time is."""

from tests.fuzz import _arguments


def test_each_round_has_every_file_in_an_order_of_its_own() -> None:
    one, other = ([word for word in _arguments(seed) if word.endswith(".py")] for seed in (1, 2))
    assert one != other
    assert sorted(one) == sorted(other)
    assert _arguments(1)[: len(one)] == one, "and the same seed makes it again"
    assert any(path.endswith("tests/mesh/policy/test_decide_laws.py") for path in one)
