"""JSON that is nested deeper than Python reads costs what stands so deep, and nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.kubernetes.parsing import MAX_DEPTH, parse
from tests.support.examples import examples

DEEP = 2_000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('[]{}"\\,:a', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\a', max_size=4), inner, max_size=3),
    max_leaves=8,
)


def beside(value: Any, opening: str, closing: str) -> bytes:
    """A list of `value`, something far too deep, and `value` again."""
    text = json.dumps(value)
    return f"[{text}, {opening * DEEP}{text}{closing * DEEP}, {text}]".encode()


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a": ', "}"), ('[{"]": ', "}]")])
@examples(20)
@given(value=JSON)
def test_what_stands_beside_it_is_read_as_it_is(opening: str, closing: str, value: Any) -> None:
    first, deep, last = parse(beside(value, opening, closing))
    assert first == last == value
    for _ in range(MAX_DEPTH - 1):
        (deep,) = deep.values() if isinstance(deep, dict) else deep
    assert deep is None


@given(JSON)
def test_what_is_shallow_is_read_as_everywhere(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize("data", [b"", b"{", b"[" * DEEP, b"]" * DEEP, b"[" * DEEP + b"]" * (DEEP - 1), b"\xff"])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(data)
