"""Warnings: what is well formed and surprising is named at its place, and what is plain gets none."""

from collections.abc import Callable
from typing import Any

import pytest

from mesh.policy import PolicySet, lint

Make = Callable[..., dict[str, Any]]
Read = Callable[..., PolicySet]
PLAINTEXT = [{"unauthenticated": True, "addresses": ["10.0.0.0/8"]}]


@pytest.fixture
def warnings(read: Read) -> Callable[..., list[tuple[int, str, str]]]:
    """Index of the document, path and message of each warning."""

    def warnings(*contents: object) -> list[tuple[int, str, str]]:
        return [(fault.index, fault.path, fault.message) for fault in lint(read(*contents))]

    return warnings


Warnings = Callable[..., list[tuple[int, str, str]]]


@pytest.mark.parametrize(
    ("spec", "path", "words"),
    [
        ({"to": {"workload": "*"}}, "spec.to.workload", "opens every workload of this namespace"),
        (
            {"source": [{"workload": "a"}, {"workload": "*"}]},
            "spec.from[1].workload",
            "every workload of this namespace",
        ),
        ({"source": PLAINTEXT}, "spec.from[0]", "never matches: the namespace's mtls is strict"),
        ({"http": [{"methods": ["GET", "CONNECT"]}]}, "spec.http[0].methods[1]", "CONNECT is always refused"),
        ({"http": [{"paths": ["/a/*"]}, {"paths": ["/a/{b}"]}]}, "spec.http[1]", "spec.http[0] matches all"),
        ({"http": [{"methods": ["GET"]}, {"methods": ["GET"]}]}, "spec.http[1]", "spec.http[0] matches all"),
        ({"kind": "DenyPolicy", "http": [{"paths": ["/a/*"]}]}, "spec.http[0].paths[0]", "does not match /a itself"),
    ],
)
def test_one_policy_can_be_surprising_alone(
    warnings: Warnings, policy: Make, spec: dict[str, Any], path: str, words: str
) -> None:
    ((index, found, message),) = warnings(policy(**spec))
    assert (index, found) == (1, path)
    assert words in message
    assert "shop/p)" in message, "a warning names the policy"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"source": [{"namespace": "ops", "workload": "*"}]},
        {"kind": "DenyPolicy", "to": {"workload": "*"}},
        {"kind": "DenyPolicy", "source": [{"workload": "*"}]},
        {"kind": "DenyPolicy", "http": [{"paths": ["/a", "/a/*"]}, {"methods": ["PUT"], "paths": ["/*"]}]},
        {"http": [{"methods": ["GET"], "paths": ["/a/*"]}, {"paths": ["/a", "/b/{c}/*"]}]},
    ],
)
def test_a_plain_policy_gets_no_warning(warnings: Warnings, policy: Make, spec: dict[str, Any]) -> None:
    assert warnings(policy(**spec)) == []


def test_permissive_mode_turns_the_warnings_about_plaintext_round(
    warnings: Warnings, policy: Make, defaults: Make
) -> None:
    permissive = defaults(mtls="permissive")
    assert warnings(permissive, policy(source=PLAINTEXT)) == []
    ((_, path, message),) = warnings(permissive, policy(source=[{"unauthenticated": True}]))
    assert (path, "from anywhere" in message) == ("spec.from[0]", True)
    ((_, path, message),) = warnings(permissive, policy(kind="DenyPolicy"))
    assert (path, "it is denied too" in message) == ("spec.from[0]", True)
    assert warnings(permissive, policy(kind="DenyPolicy", source=PLAINTEXT)) == []


def test_a_deny_about_http_warns_where_raw_tcp_would_be_let_through(
    warnings: Warnings, policy: Make, defaults: Make
) -> None:
    deny = policy("guard", kind="DenyPolicy", http=[{"methods": ["PUT"]}], source=[{"workload": "x"}])
    http_only = policy("web", http=[{"methods": ["GET"]}])
    other_port = policy("tcp", to={"workload": "payments", "ports": [5432]})
    guarded_port = {**deny, "spec": {**deny["spec"], "to": {"workload": "payments", "ports": [80]}}}
    assert warnings(deny) == warnings(deny, http_only) == warnings(guarded_port, other_port) == []
    for further in (policy("tcp"), defaults(default="audit"), policy("tcp", to={"workload": "*", "ports": [1]})):
        found = [(path, message) for index, path, message in warnings(deny, further) if index == 1]
        assert [path for path, _ in found] == ["spec.http"]
        assert "raw TCP counts as matched" in found[0][1]


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ({}, {}),
        ({}, {"to": {"workload": "payments", "ports": [80]}}),
        ({"to": {"workload": "payments", "ports": [80, 81]}}, {"to": {"workload": "payments", "ports": [80]}}),
        ({}, {"http": [{"methods": ["GET"]}]}),
        ({"source": [{"namespace": "ops", "workload": "*"}]}, {"source": [{"namespace": "ops", "workload": "a"}]}),
        ({"http": [{"methods": ["GET", "PUT"]}]}, {"http": [{"methods": ["GET"], "paths": ["/a"]}]}),
        ({"http": [{"paths": ["/a/*"]}]}, {"http": [{"paths": ["/a/b", "/a/", "/a/{c}/*"]}]}),
        ({"http": [{"paths": ["/{x}/b"]}]}, {"http": [{"paths": ["/a/b", "/{y}/b"]}]}),
    ],
)
def test_a_policy_that_another_covers_is_named(
    warnings: Warnings, policy: Make, wide: dict[str, Any], narrow: dict[str, Any]
) -> None:
    documents = policy("a-wide", **wide), policy("narrow", **narrow)
    ((index, path, message),) = warnings(*documents)
    assert (index, path) == (2, "")
    assert "has no effect: AllowPolicy shop/a-wide matches all that it matches" in message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"to": {"workload": "payments", "ports": [80]}}, {}),
        ({"http": [{"methods": ["GET"]}]}, {}),
        ({"http": [{"paths": ["/a/*"]}]}, {"http": [{"paths": ["/a"]}]}),
        ({"http": [{"paths": ["/{x}"]}]}, {"http": [{"paths": ["/"]}]}),
        ({"http": [{"paths": ["/a"]}]}, {"http": [{"paths": ["/{x}"]}]}),
        ({"http": [{"paths": ["/a/b"]}]}, {"http": [{"paths": ["/a/*"]}]}),
        ({"http": [{"paths": ["/a"]}]}, {"http": [{"methods": ["GET"]}]}),
        ({"source": [{"workload": "a"}]}, {"source": [{"workload": "a"}, {"workload": "b"}]}),
        ({"source": [{"workload": "a"}]}, {"source": [{"identity": "spiffe://x/ns/shop/sa/a"}]}),
        ({"mode": "audit"}, {"http": [{"methods": ["GET"]}]}),
        ({}, {"mode": "audit", "http": [{"methods": ["GET"]}]}),
    ],
)
def test_a_policy_that_adds_something_is_not_named(
    warnings: Warnings, policy: Make, one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert all(index == 1 for index, _, _ in warnings(policy("one", **one), policy("other", **other)))


def test_an_allow_under_a_deny_never_allows(warnings: Warnings, policy: Make) -> None:
    found = warnings(policy("open"), policy("guard", kind="DenyPolicy"))
    assert [(index, path) for index, path, _ in found] == [(1, "")]
    assert "never allows anything: DenyPolicy shop/guard denies all that it matches" in found[0][2]
    assert warnings(policy("open"), policy("guard", kind="DenyPolicy", mode="audit")) == []


def test_networks_cover_networks(warnings: Warnings, policy: Make, defaults: Make) -> None:
    def clause(*addresses: str) -> list[dict[str, Any]]:
        return [{"unauthenticated": True, "addresses": list(addresses)}]

    permissive = defaults(mtls="permissive")
    wide = policy("a", source=clause("10.0.0.0/8", "fd00::/8"))
    inner = policy("b", source=clause("10.1.0.0/16", "fd00::/16"))
    outer = policy("b", source=clause("10.1.0.0/16", "::/0"))
    assert [index for index, _, _ in warnings(permissive, wide, inner)] == [3]
    assert warnings(permissive, wide, outer) == []


def test_an_allow_and_a_deny_of_one_name_are_named(warnings: Warnings, policy: Make) -> None:
    found = warnings(policy("same"), policy("same", kind="DenyPolicy", source=[{"workload": "x"}]))
    assert [(index, path) for index, path, _ in found] == [(2, "metadata.name")]
