"""The patch turns one value into the other, and says no more than what changed."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.injector.json_patch import json_patch
from control_plane.injector.patch import Injected, inject
from control_plane.injector.settings import InjectorSettings
from tests.support.examples import examples
from tests.support.pods import pods

_KEYS = st.text("a~/0é ", max_size=3)
_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(0, 1), st.just(1.0), _KEYS)
_NAMED = st.fixed_dictionaries({"name": st.sampled_from("abcd")}, optional={"x": st.integers(0, 2)})
VALUES = st.recursive(
    _LEAVES,
    lambda below: st.one_of(
        st.lists(below, max_size=4),
        st.lists(_NAMED, max_size=4, unique_by=lambda each: each["name"]),
        st.dictionaries(_KEYS, below, max_size=4),
    ),
    max_leaves=12,
)


def applied(value: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902, as far as the patch uses it: strictly, what is not there cannot be replaced or removed."""
    root = {"": copy.deepcopy(value)}
    for operation in operations:
        at, key = _place(root, operation["path"])
        if operation["op"] == "add" and isinstance(at, list):
            assert 0 <= key <= len(at)
            at.insert(key, operation["value"])
        elif operation["op"] == "add":
            at[key] = operation["value"]
        else:
            at[key]  # it has to be there
            if operation["op"] == "remove":
                del at[key]
            else:
                at[key] = operation["value"]
    return root[""]


def _place(root: dict[str, Any], pointer: str) -> tuple[Any, Any]:
    """The map or list in which the last token stands, and that token (RFC 6901)."""
    tokens = [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")]
    at: Any = root
    for token in tokens[:-1]:
        at = at[int(token)] if isinstance(at, list) else at[token]
    return at, int(tokens[-1]) if isinstance(at, list) else tokens[-1]


def text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@given(VALUES, VALUES)
@examples(100)
def test_applying_the_patch_gives_the_target(before: Any, after: Any) -> None:
    assert text(applied(before, json_patch(before, after))) == text(after)


@given(pods())
@examples(30)
def test_a_pods_patch_gives_the_injected_pod(given_pod: dict[str, Any]) -> None:
    outcome = inject(given_pod, "shop", InjectorSettings())
    assert isinstance(outcome, Injected)
    operations = json_patch(given_pod, outcome.pod)
    assert applied(given_pod, operations) == outcome.pod
    assert not [each for each in operations if each["path"] in {"", "/spec", "/spec/containers", "/metadata"}]


@given(VALUES)
@examples(30)
def test_nothing_changed_is_no_operation(value: Any) -> None:
    assert json_patch(value, copy.deepcopy(value)) == []


@pytest.mark.parametrize(
    ("before", "after", "operations"),
    [
        ({"a": 1}, {"a": 2}, [{"op": "replace", "path": "/a", "value": 2}]),
        ({"a": 1}, {"a": True}, [{"op": "replace", "path": "/a", "value": True}]),
        ({"a/b~": 1}, {}, [{"op": "remove", "path": "/a~1b~0"}]),
        ({}, {"a": None}, [{"op": "add", "path": "/a", "value": None}]),
        (
            [{"name": "b", "x": 1}],
            [{"name": "a"}, {"name": "b", "x": 2}],
            [{"op": "add", "path": "/0", "value": {"name": "a"}}, {"op": "replace", "path": "/1/x", "value": 2}],
        ),
        ([{"name": "a"}, {"name": "b"}], [{"name": "b"}], [{"op": "remove", "path": "/0"}]),
        (["a", "b", "c"], ["c"], [{"op": "remove", "path": "/1"}, {"op": "remove", "path": "/0"}]),
        ([1, 1], [1, 1, 1], [{"op": "replace", "path": "", "value": [1, 1, 1]}]),
    ],
)
def test_it_says_no_more_than_what_changed(before: Any, after: Any, operations: list[dict[str, Any]]) -> None:
    assert json_patch(before, after) == operations
