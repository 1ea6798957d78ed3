"""Waits double up to their bound, with jitter, and start again after a success."""

from hypothesis import given
from hypothesis import strategies as st

from transport.backoff import Backoff


@given(st.floats(0.01, 10), st.floats(10, 100), st.integers(1, 2000))
def test_waits_double_within_their_bounds(initial: float, most: float, failures: int) -> None:
    backoff = Backoff(initial, most)
    for number in range(failures):
        whole = min(most, initial * 2 ** min(number, 32))
        assert whole / 2 <= backoff.next() <= whole
    backoff.reset()
    assert backoff.next() <= initial


def test_no_two_sidecars_come_back_at_the_same_time() -> None:
    waits = {Backoff(1, 30).next() for _ in range(100)}
    assert len(waits) > 90
