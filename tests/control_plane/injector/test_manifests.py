"""Manifests mean what they mean to kubectl, and what is ambiguous is a fault with its line."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.injector.manifests import MAX_DEPTH, read_manifests
from control_plane.injector.scalars import resolve
from control_plane.yaml_core import to_yaml
from tests.support.examples import examples


def contents(text: str) -> list[Any]:
    manifests, faults = read_manifests(text, "x")
    assert faults == []
    return [each.content for each in manifests]


def faults(text: str) -> list[str]:
    _, found = read_manifests(text, "x.yaml")
    assert found
    return [str(each) for each in found]


# Each as kubectl 1.37 printed it as JSON.
@pytest.mark.parametrize(
    ("texts", "value"),
    [
        ("yes Yes YES y Y true on ON", True),
        ("no No NO n N false off OFF", False),
        ("null Null ~", None),
        ("2 0x2 0b10 02 0o2 +2 2.0 2. 20e-1 0.2e1 2_ 0_2", 2),
        ("0644 0o644 420 4_20 0x1A4", 420),
        ("08 8", 8),
        ("1e3 1E+3 1_000 1000.0", 1000),
        ("-5 -0b101 -0x5 -05 -5.0", -5),
        ("1.5 1.5_0 +1.5", 1.5),
        (".5 .5_0 0.5", 0.5),
        ("18446744073709551615 0xFFFFFFFFFFFFFFFF", 2**64 - 1),
    ],
)
def test_an_unquoted_scalar_is_what_kubectl_takes_it_for(texts: str, value: Any) -> None:
    for text in texts.split():
        found = resolve(text)
        assert (text, type(found), found) == (text, type(value), value)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "yEs",
            "tRue",
            "oN",
            "2024-01-01",
            "2024-1-1",
            "2024-01-01T00:00:00Z",
            "2024-",
            "2024-13-45",
            "12:30",
            "1:2:3",
        ),
        *("10.0.0.1", "1.2.3", "100m", "128Mi", "1k", "0x", "0b12", "0o8", "1e400", "0x1p-2", "1e5.0", ".", "+", "_1"),
        *("=", "@", "http://a", "0xFFFFFFFFFFFFFFFFFF", "nan", "inf"),
    ],
)
def test_other_scalars_are_text(text: str) -> None:
    assert resolve(text) == text


@pytest.mark.parametrize("text", [".inf", "-.Inf", "+.INF", ".nan", ".NaN"])
def test_what_json_cannot_hold_is_a_fault(text: str) -> None:
    assert "line 2" in faults(f"kind: A\na: {text}\n")[0]


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    )
)
@examples(50)
def test_what_is_printed_reads_back_as_the_same(value: Any) -> None:
    document = {"kind": "A", "value": json.loads(json.dumps(value))}
    assert contents(to_yaml(document)) == [document]
    assert contents(json.dumps(document)) == [document]


@given(st.text("yesnoYNtrufal0123456789.-+_xobe:~", max_size=8))
@examples(100)
def test_text_stays_text_when_it_is_printed(text: str) -> None:
    assert contents(to_yaml({"kind": "A", "args": [text], text: "key"})) == [{"kind": "A", "args": [text], text: "key"}]


def test_documents_are_parted_and_numbered_and_keep_their_text() -> None:
    text = "# first\nkind: A # here\n---\n\n--- # second\nkind: B\nscript: |\n  --- no marker\n...\n"
    manifests, found = read_manifests(text, "x")
    assert found == []
    assert [(each.index, each.content["kind"]) for each in manifests] == [(1, "A"), (2, "B")]
    assert manifests[0].text == "# first\nkind: A # here\n"
    assert manifests[1].content["script"] == "--- no marker\n"


def test_json_is_taken_also_with_tabs_and_several_in_a_row() -> None:
    assert contents('{\n\t"kind": "A",\n\t"x": "\\ud83d\\ude00"\n}\n{"kind": "B"}') == [
        {"kind": "A", "x": "😀"},
        {"kind": "B"},
    ]
    assert contents("{kind: A}\n---\n{kind: B}") == [{"kind": "A"}, {"kind": "B"}]


def test_anchors_and_merges_are_followed() -> None:
    text = "kind: A\nbase: &b {x: 1, v: [1, 2]}\none: *b\ntwo: {<<: *b, x: 2}\nthree: {<<: [*b, {z: 1}]}\n"
    (found,) = contents(text + "four: {80: a, yes: b}")
    assert found["one"] == {"x": 1, "v": [1, 2]}
    assert found["two"] == {"x": 2, "v": [1, 2]}
    assert found["three"] == {"x": 1, "v": [1, 2], "z": 1}
    assert found["four"] == {"80": "a", "true": "b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: A\nkind: B\n", "x.yaml#1: line 2: the key 'kind' stands there twice"),
        ("kind: A\n---\na: *b\n", "x.yaml#2: line 3: the alias *b names no anchor"),
        ("b: &b {x: 1}\na: {x: 2, <<: *b}\n", "the merge overrides 'x': write it before that"),
        ("a: {<<: [1]}\n", "<< merges maps only"),
        ("a: !!binary aGk=\n", "the tag 'tag:yaml.org,2002:binary' means nothing"),
        ("a: !x y\n", "means nothing in a manifest"),
        ("{? [a] : b}\n", "a key must be text"),
        ("a: [1\n", "line 2: not YAML"),
        ("kind: A\n---\nb: c: d\n", "x.yaml#2: line 3: not YAML"),
        ("a: " + "[" * 200 + "]" * 200, f"nests more than {MAX_DEPTH} deep"),
        ("a: \ud800", "is not valid Unicode"),
    ],
)
def test_what_cannot_be_used_is_a_fault_with_its_line(text: str, message: str) -> None:
    assert message in faults(text)[0]


def test_every_document_with_a_fault_is_named() -> None:
    assert [each.split(":")[0] for each in faults("a: a: b\n---\nkind: B\n---\nc: c: d\n")] == ["x.yaml#1", "x.yaml#3"]


def test_aliases_of_aliases_do_not_grow_without_a_bound() -> None:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    assert "holds more than 1000000 values" in faults(laughs)[0]
