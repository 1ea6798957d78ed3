"""Strict YAML (law 11): what two parsers could read differently is a fault, and everything else means one thing."""

from itertools import pairwise
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from control_plane import yaml_core
from control_plane.yaml_core import MAX_DEPTH, parse, to_yaml
from tests.support.examples import examples


def value_of(text: str) -> Any:
    """What a text without faults holds, in its one document."""
    documents, faults = parse(text, "f.yaml")
    assert faults == []
    (document,) = documents
    return document.content


def faults_of(text: str) -> list[str]:
    """Path and message of each fault."""
    return [f"{fault.path}: {fault.message}" for fault in parse(text, "f.yaml")[1]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8080", 8080),
        ("0", 0),
        ("-1", -1),
        ("true", True),
        ("False", False),
        ("checkout", "checkout"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.1", "10.0.0.1"),
        ("fd00::/8", "fd00::/8"),
        ("0abc", "0abc"),
        ("spiffe://cluster.local/ns/x/sa/y", "spiffe://cluster.local/ns/x/sa/y"),
        ("/charges/{id}/refund", "/charges/{id}/refund"),
        ("'no'", "no"),
        ('"0123"', "0123"),
        ("|\n    no", "no"),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_plain_values_mean_what_they_say(text: str, value: object) -> None:
    got = value_of(f"key: {text}")["key"]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "No",
        "NO",
        "yes",
        "on",
        "Off",
        "y",
        "n",
        "0123",
        "0x1f",
        "0o17",
        "0b1",
        "00",
        "1_000",
        "+5",
        "-0",
        "12:30",
        "12:30:45",
        "190:20:30.15",
        "2026-11-20",
        "2026-11-20T12:00:00Z",
        "1.5",
        "1e3",
        "1.",
        ".5",
        ".inf",
        "-.INF",
        ".nan",
        "=",
        "<<",
        "1234567890123456789012",
    ],
)
def test_a_surprise_is_a_fault_that_says_what_to_write(text: str) -> None:
    (fault,) = faults_of(f"a:\n  b: [x, {text}]")
    assert fault.startswith(f"a.b[1]: line 2: {text!r} ")
    assert "quotes around text" in fault
    assert value_of(f"a: '{text}'") == {"a": text}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "a: line 3: this key stands on line 1 already"),
        ("spec: {a: 1, 'a': 2}", "spec.a: line 1: this key stands on line 1 already"),
        ("a: &x 1", "a: line 1: the anchor &x is not allowed"),
        ("a: *x", "a: line 1: the alias *x is not allowed"),
        ("a: [1, *x]", "a[1]: line 1: the alias *x is not allowed"),
        ("a: {<<: {b: 1}}", "a.['<<']: line 1: '<<' has a meaning of its own"),
        ("a: !!str 1", "a: line 1: the tag 'tag:yaml.org,2002:str' is not allowed"),
        ("a: !!python/object:os.system {}", "is not allowed"),
        ("a: ! b", "a: line 1: the tag '!' is not allowed"),
        ("8080: a", "8080: line 1: a key must be text"),
        ("on: a", "on: line 1: 'on' is a truth value"),
        ("null: a", "null: line 1: a key must be text"),
        ("? [a]\n: b", "['?']: line 1: a key must be text"),
        ("a: [", "not YAML"),
        ("\ta: b", ": line 1: not YAML"),
        ("a: b: c", ": line 1: not YAML"),
        ("a: \x01", "not YAML"),
        ("a: \udcff", "is not valid Unicode"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"nests more than {MAX_DEPTH} deep"),
    ],
)
def test_what_is_not_plain_data_is_a_fault_with_its_place(text: str, words: str) -> None:
    (fault,) = faults_of(text)
    assert words in fault


def test_every_fault_is_found_and_the_rest_is_read() -> None:
    documents, faults = parse("a: no\nb: 1\nb: 2\nc: [0123, x]\n---\nd: *x\n", "f.yaml")
    assert [(fault.index, fault.path) for fault in faults] == [(1, "a"), (1, "b"), (1, "c[0]"), (2, "d")]
    assert [document.content for document in documents] == [{"a": None, "b": 1, "c": [None, "x"]}, {"d": None}]


def test_documents_are_numbered_and_empty_ones_left_out() -> None:
    documents, faults = parse("---\na: 1\n---\n# nothing\n---\nb: 2\n", "f.yaml")
    assert faults == []
    assert [(document.index, document.content) for document in documents] == [(1, {"a": 1}), (3, {"b": 2})]


def test_a_billion_laughs_is_refused_without_laughing() -> None:
    text = "a: &a [x]\n" + "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in pairwise("abcdefghi"))
    assert any("alias" in fault for fault in faults_of(text))


def test_the_deepest_allowed_text_is_read() -> None:
    assert faults_of("[" * MAX_DEPTH + "]" * MAX_DEPTH) == []


scalars = st.text(alphabet="0123456789+-_.:eExXoObBnNyYtTrRuUlLsSfFaAiIZ~=< /", min_size=1, max_size=12)


@examples(400)
@given(scalars)
@example("1e3")
@example("12:30")
@example("2026-11-20 12:00:00")
def test_an_unquoted_scalar_is_read_as_an_older_parser_does_or_refused(text: str) -> None:
    try:
        older = yaml.safe_load(f"[{text}]")
    except (yaml.YAMLError, ValueError):
        return
    documents, faults = parse(f"[{text}]", "f.yaml")
    if not faults:
        assert [documents[0].content] == [older]
        assert list(map(type, documents[0].content)) == list(map(type, older))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | scalars | st.sampled_from(["no", "", "~"])
data = st.recursive(
    texts | st.booleans() | st.none() | st.integers(-(10**17), 10**17),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@examples(150)
@given(st.dictionaries(texts, data, max_size=3), st.booleans())
def test_what_is_written_reads_back_as_the_same(document: dict[str, Any], pure: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if pure:
            patch.setattr(yaml_core, "_LOADER", yaml.SafeLoader)
        assert value_of(to_yaml(document)) == document


def test_a_value_that_stands_twice_is_written_twice() -> None:
    shared = ["GET"]
    assert "&" not in to_yaml({"a": shared, "b": shared})


@pytest.mark.parametrize("text", ["a: {b: [1, no], c: 'x'}\n---\n? [a]\n: &y !!str b\n", "a: |\n  no\nb: >\n  on\n"])
def test_the_parser_without_libyaml_says_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_libyaml = parse(text, "f.yaml")
    monkeypatch.setattr(yaml_core, "_LOADER", yaml.SafeLoader)
    assert parse(text, "f.yaml") == with_libyaml
