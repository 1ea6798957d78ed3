"""A hash over a set that is kept up as members come and go."""

from hypothesis import given
from hypothesis import strategies as st

from control_plane.store import set_hash
from tests.support.examples import examples

SETS = st.sets(st.binary(max_size=8), max_size=6)


@given(SETS, SETS)
@examples(50)
def test_it_tells_what_is_in_the_set_and_not_how_it_came_about(first: set[bytes], second: set[bytes]) -> None:
    both = set_hash.added(set_hash.added(set_hash.EMPTY, first), second - first)
    assert set_hash.removed(both, second - first) == set_hash.added(set_hash.EMPTY, sorted(first, reverse=True))
    assert (set_hash.added(set_hash.EMPTY, second) == set_hash.added(set_hash.EMPTY, first)) == (first == second)


@given(SETS)
@examples(20)
def test_what_was_never_in_the_set_leaves_a_hash_of_none(members: set[bytes]) -> None:
    without = set_hash.removed(set_hash.added(set_hash.EMPTY, members), [b"never in it"])
    assert set_hash.removed(without, members) != set_hash.EMPTY
    assert set_hash.removed(set_hash.added(set_hash.BROKEN, members), [b"x"]) == set_hash.BROKEN


def test_a_stored_hash_is_known_again() -> None:
    stored = set_hash.text(set_hash.added(set_hash.EMPTY, [b"a"]))
    assert len(stored) <= 768
    assert set_hash.digest(stored) == set_hash.digest(stored)
    assert set_hash.digest(stored) != set_hash.digest(set_hash.text(set_hash.EMPTY))
