"""Reading documents: exactly what stands there, or every fault at its path, and nothing else ever."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.policy import (
    Document,
    Kind,
    Mode,
    Mtls,
    NamespaceDefaults,
    Policy,
    PolicyFaults,
    PolicySet,
    document_key,
    read_policies,
)
from mesh.policy.model import Default, Destination, HttpRule, IdentitySource, UnauthenticatedSource, WorkloadSource
from tests.support.examples import examples

Make = Callable[..., dict[str, Any]]
Read = Callable[..., PolicySet]


def faults_of(read: Read, *contents: object) -> list[tuple[int, str, str]]:
    """Index, path and message of every fault."""
    with pytest.raises(PolicyFaults) as caught:
        read(*contents)
    return [(fault.index, fault.path, fault.message) for fault in caught.value.faults]


def test_a_document_is_read_as_it_stands(read: Read, policy: Make, defaults: Make) -> None:
    sources = [
        {"workload": "checkout"},
        {"namespace": "ops", "workload": "*"},
        {"identity": "spiffe://partner.example/ns/x/sa/y"},
        {"unauthenticated": True, "addresses": ["10.0.0.0/8", "192.0.2.7", "fd00::/8"]},
    ]
    to = {"workload": "*", "ports": [8080, 1, 65535]}
    http = [{"methods": ["POST"], "paths": ["/charges", "/charges/{id}/refund"]}, {"paths": ["/*"]}]
    found = read(
        policy("guard", kind="DenyPolicy", mode="audit", to=to, source=sources, http=http), defaults(default="audit")
    )
    (item,) = found.policies
    assert (item.kind, item.namespace, item.name, item.mode) == (Kind.DENY, "shop", "guard", Mode.AUDIT)
    assert item.to == Destination("*", (8080, 1, 65535))
    assert item.http == (HttpRule(("POST",), ("/charges", "/charges/{id}/refund")), HttpRule((), ("/*",)))
    assert [type(each) for each in item.sources] == [
        WorkloadSource,
        WorkloadSource,
        IdentitySource,
        UnauthenticatedSource,
    ]
    assert item.sources[:2] == (WorkloadSource("shop", "checkout"), WorkloadSource("ops", "*"))
    assert [str(each) for each in item.sources[3].addresses] == ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"]
    assert (item.origin.source, item.origin.index) == ("shop.yaml", 1)
    assert found.defaults == (NamespaceDefaults("shop", Default.AUDIT, Mtls.STRICT),)


def test_what_is_left_out_has_the_safe_meaning(read: Read, policy: Make, defaults: Make) -> None:
    (item,) = read(policy()).policies
    assert item == Policy(Kind.ALLOW, "shop", "p", Destination("payments", ()), (WorkloadSource("shop", "frontend"),))
    assert (item.mode, item.http) == (Mode.ENFORCE, None)
    assert read(defaults(mtls="permissive")).defaults[0].default is Default.DENY


BAD_SPECS: list[tuple[dict[str, Any], str, str]] = [
    ({"mode": "on"}, "spec.mode", "'on' is unknown: write 'enforce' or 'audit'"),
    ({"mode": True}, "spec.mode", "must be a text, got true: write it in quotes"),
    ({"mode": "enforced"}, "spec.mode", "did you mean 'enforce'?"),
    ({"modes": "audit"}, "spec.modes", "unknown key; did you mean 'mode'?"),
    ({"zzz": 1}, "spec.zzz", "unknown key: write 'to' or 'from' or 'mode' or 'http'"),
    ({"to": None}, "spec.to", "must be a map, got nothing"),
    ({"to": "payments"}, "spec.to", "must be a map, got 'payments'"),
    ({"to": {}}, "spec.to.workload", "is missing"),
    ({"to": {"workload": ""}}, "spec.to.workload", "'' is no name"),
    ({"to": {"workload": ".."}}, "spec.to.workload", "'..' is no name"),
    ({"to": {"workload": "a/b"}}, "spec.to.workload", "'a/b' is no name"),
    ({"to": {"workload": "a\n"}}, "spec.to.workload", "'a\\n' is no name"),
    ({"to": {"workload": "x" * 254}}, "spec.to.workload", "is no name: write 1 to 253"),
    ({"to": {"workload": 7}}, "spec.to.workload", "must be a text, got 7: write it in quotes"),
    ({"to": {"workload": "a", "port": 1}}, "spec.to.port", "unknown key; did you mean 'ports'?"),
    ({"to": {"workload": "a", "ports": []}}, "spec.to.ports", "is empty"),
    (
        {"to": {"workload": "a", "ports": 8080}},
        "spec.to.ports",
        "of port numbers, got 8080: write [8080]",
    ),
    ({"to": {"workload": "a", "ports": ["8080"]}}, "spec.to.ports[0]", "write it without quotes"),
    ({"to": {"workload": "a", "ports": [0]}}, "spec.to.ports[0]", "from 1 to 65535, got 0"),
    ({"to": {"workload": "a", "ports": [1, 65536]}}, "spec.to.ports[1]", "from 1 to 65535"),
    ({"to": {"workload": "a", "ports": [True]}}, "spec.to.ports[0]", "got true"),
    ({"to": {"workload": "a", "ports": [1.5]}}, "spec.to.ports[0]", "got a float"),
    ({"to": {"workload": "a", "ports": [10**5000]}}, "spec.to.ports[0]", "got a large number"),
    ({"to": {"workload": "a", "ports": [1, 1]}}, "spec.to.ports[1]", "listed twice"),
    ({"source": []}, "spec.from", "is empty"),
    ({"source": "frontend"}, "spec.from", "must be a list of callers, got 'frontend'"),
    ({"source": {"workload": "a"}}, "spec.from", "must be a list of callers, got a map"),
    ({"source": [{}]}, "spec.from[0]", "is empty: write one of workload, identity, unauthenticated"),
    ({"source": ["frontend"]}, "spec.from[0]", "must be a map, got 'frontend'"),
    ({"source": [{"workload": "a"}, {"workload": "b c"}]}, "spec.from[1].workload", "'b c' is no name"),
    ({"source": [{"wrkload": "a"}]}, "spec.from[0].wrkload", "did you mean 'workload'?"),
    ({"source": [{"namespace": "ops"}]}, "spec.from[0].workload", "is missing: write '*'"),
    ({"source": [{"namespace": "*", "workload": "a"}]}, "spec.from[0].namespace", "'*' is not allowed here"),
    ({"source": [{"addresses": ["10.0.0.0/8"]}]}, "spec.from[0].unauthenticated", "is missing"),
    ({"source": [{"workload": "a", "identity": "b"}]}, "spec.from[0]", "has workload and identity"),
    ({"source": [{"identity": "spiffe://x/y", "namespace": "a"}]}, "spec.from[0].namespace", "goes only with workload"),
    ({"source": [{"workload": "a", "addresses": []}]}, "spec.from[0].addresses", "goes only with unauthenticated"),
    ({"source": [{"identity": "x"}]}, "spec.from[0].identity", "does not start with spiffe://"),
    ({"source": [{"identity": "spiffe://UPPER/x"}]}, "spec.from[0].identity", "trust domain 'UPPER'"),
    ({"source": [{"identity": "spiffe://x"}]}, "spec.from[0].identity", "needs a path"),
    ({"source": [{"identity": "spiffe://x/y/"}]}, "spec.from[0].identity", "path segment ''"),
    ({"source": [{"identity": ["spiffe://x/y"]}]}, "spec.from[0].identity", "must be a text, got a list"),
    ({"source": [{"unauthenticated": False}]}, "spec.from[0].unauthenticated", "must be true, got false"),
    ({"source": [{"unauthenticated": 1}]}, "spec.from[0].unauthenticated", "must be true, got 1"),
    ({"source": [{"unauthenticated": "true"}]}, "spec.from[0].unauthenticated", "must be true, got 'true'"),
    ({"source": [{"unauthenticated": True, "addresses": []}]}, "spec.from[0].addresses", "is empty"),
    (
        {"source": [{"unauthenticated": True, "addresses": ["10.1.0.0/8"]}]},
        "spec.from[0].addresses[0]",
        "write 10.0.0.0/8",
    ),
    (
        {"source": [{"unauthenticated": True, "addresses": ["fe80::1%eth0"]}]},
        "spec.from[0].addresses[0]",
        "an interface",
    ),
    (
        {"source": [{"unauthenticated": True, "addresses": ["::ffff:0:0/96"]}]},
        "spec.from[0].addresses[0]",
        "IPv4 network",
    ),
    ({"http": []}, "spec.http", "is empty"),
    ({"http": None}, "spec.http", "must be a list of rules with methods, paths or both, got nothing"),
    ({"http": [{}]}, "spec.http[0]", "is empty: write methods, paths or both"),
    ({"http": [{"methods": []}]}, "spec.http[0].methods", "is empty"),
    ({"http": [{"methods": "POST"}]}, "spec.http[0].methods", "got 'POST': write ['POST']"),
    ({"http": [{"methods": ["post"]}]}, "spec.http[0].methods[0]", "write POST"),
    ({"http": [{"methods": ["*"]}]}, "spec.http[0].methods[0]", "leave methods out"),
    ({"http": [{"methods": ["GET", "GET"]}]}, "spec.http[0].methods[1]", "listed twice"),
    ({"http": [{"methods": ["GET\n"]}]}, "spec.http[0].methods[0]", "is no HTTP method"),
    ({"http": [{"paths": ["charges"]}]}, "spec.http[0].paths[0]", "does not start with '/'"),
    ({"http": [{"paths": ["/a", "/a/../b"]}]}, "spec.http[0].paths[1]", "write its canonical form: /b"),
    ({"http": [{"paths": ["/a"], "hosts": ["x"]}]}, "spec.http[0].hosts", "unknown key"),
]


@pytest.mark.parametrize(("spec", "path", "message"), BAD_SPECS)
def test_a_fault_in_a_spec_is_reported_alone_and_at_its_path(
    read: Read, policy: Make, spec: dict[str, Any], path: str, message: str
) -> None:
    ((index, found, text),) = faults_of(read, policy(**spec))
    assert (index, found) == (1, path)
    assert message in text


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("x", "'x' is no network"),
        (10, "must be a text, got 10"),
        ("FD00::/8", "write fd00::/8"),
    ],
)
def test_a_faulty_network_is_reported(read: Read, policy: Make, network: object, message: str) -> None:
    clause = {"unauthenticated": True, "addresses": ["fd00::/8", network]}
    ((_, found, text),) = faults_of(read, policy(source=[clause]))
    assert found == "spec.from[0].addresses[1]"
    assert message in text


def _without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda document: {each: document[each] for each in document if each != key}


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        (lambda _: None, "", "must be a map, got nothing"),
        (lambda _: [], "", "must be a map, got a list"),
        (lambda d: d | {"kind": "AllowPolcy"}, "kind", "did you mean 'AllowPolicy'?"),
        (lambda d: d | {"kind": "ConfigMap"}, "kind", "'ConfigMap' is unknown: write 'AllowPolicy' or"),
        (lambda d: d | {"apiVersion": "v1"}, "apiVersion", "write 'doorward.dev/v1'"),
        (lambda d: d | {"metadta": {}}, "metadta", "unknown key; did you mean 'metadata'?"),
        (lambda d: d | {7: 1}, "[7]", "keys are texts"),
        (lambda d: d | {"status\n": 1}, "['status\\n']", "unknown key"),
        (_without("apiVersion"), "apiVersion", "is missing"),
        (_without("kind"), "kind", "is missing"),
        (_without("metadata"), "metadata", "is missing"),
        (_without("spec"), "spec", "is missing"),
        (lambda d: d | {"metadata": {"name": "x"}}, "metadata.namespace", "is missing"),
        (lambda d: d | {"metadata": {"name": "*", "namespace": "a"}}, "metadata.name", "'*' is not allowed here"),
        (lambda d: d | {"metadata": d["metadata"] | {"labels": {}}}, "metadata.labels", "unknown key"),
    ],
)
def test_a_fault_around_the_spec_is_reported_alone_and_at_its_path(
    read: Read, policy: Make, change: Callable[[dict[str, Any]], Any], path: str, message: str
) -> None:
    ((_, found, text),) = faults_of(read, change(policy()))
    assert found == path
    assert message in text


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ({}, "spec", "is empty: write default, mtls or both"),
        ({"default": "allow"}, "spec.default", "did you mean 'allow-mesh'?"),
        ({"default": False}, "spec.default", "must be a text, got false"),
        ({"mtls": "off"}, "spec.mtls", "'off' is unknown: write 'strict' or 'permissive'"),
        ({"mTLS": "strict"}, "spec.mTLS", "unknown key; did you mean 'mtls'?"),
    ],
)
def test_a_fault_in_defaults_is_reported(
    read: Read, defaults: Make, spec: dict[str, Any], path: str, message: str
) -> None:
    ((_, found, text),) = faults_of(read, defaults(**spec))
    assert found == path
    assert message in text


def test_defaults_have_one_name(read: Read, defaults: Make) -> None:
    document = defaults(default="deny")
    document["metadata"]["name"] = "others"
    ((_, path, message),) = faults_of(read, document)
    assert (path, "must be 'defaults'" in message) == ("metadata.name", True)


def test_every_fault_of_every_document_is_listed_at_once(read: Read, policy: Make) -> None:
    first = policy(
        "a b", mode="on", to={"workload": "*", "ports": [0, "1"]}, source=[{"workload": "x"}, {"identity": 1}]
    )
    typos = policy(http=[{"method": ["GET"]}, {"paths": ["x"]}]) | {"kind": "DenyPolciy"}
    typos["spec"]["form"] = typos["spec"].pop("from")
    found = faults_of(read, first, policy(), typos)
    assert [(index, path) for index, path, _ in found] == [
        (1, "metadata.name"),
        (1, "spec.mode"),
        (1, "spec.to.ports[0]"),
        (1, "spec.to.ports[1]"),
        (1, "spec.from[1].identity"),
        (3, "kind"),
        (3, "spec.form"),
        (3, "spec.http[0].method"),
        (3, "spec.http[1].paths[0]"),
    ]


def test_a_second_document_of_the_same_kind_namespace_and_name_is_a_fault(read: Read, policy: Make) -> None:
    ((index, path, message),) = faults_of(read, policy("a"), policy("b"), policy("a"))
    assert (index, path) == (3, "metadata.name")
    assert "AllowPolicy shop/a is there already, in shop.yaml#1" in message
    assert len(read(policy("a"), policy("a", kind="DenyPolicy"), policy("a", namespace="ops")).policies) == 3


def test_a_fault_reads_like_a_compiler_message(read: Read, policy: Make) -> None:
    with pytest.raises(PolicyFaults, match=re.escape("shop.yaml#1 spec.from[0].workload: '' is no name")):
        read(policy(source=[{"workload": ""}]))
    with pytest.raises(PolicyFaults, match=re.escape("shop.yaml#2: must be a map, got a list")):
        read(policy(), [])


def test_the_key_of_a_document_is_that_of_its_policy(read: Read, policy: Make, defaults: Make) -> None:
    for document in (policy("a"), policy("b", kind="DenyPolicy"), defaults(mtls="strict")):
        found = read(document)
        (item,) = (*found.policies, *found.defaults)
        assert document_key(document) == item.key


KEYS = """apiVersion kind metadata spec name namespace mode to from http workload ports identity unauthenticated
addresses methods paths default mtls"""
WORDS = """doorward.dev/v1 AllowPolicy DenyPolicy NamespaceDefaults shop defaults enforce audit * GET /a /{x}/*
10.0.0.0/8 ::/0 spiffe://a/b deny strict"""
keys = st.sampled_from(KEYS.split())
words = st.sampled_from(WORDS.split())
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4) | words
any_keys = keys | st.text(max_size=6) | st.integers()
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_keys, inner, max_size=5),
    max_leaves=15,
)
half_right = st.fixed_dictionaries(
    {
        "apiVersion": st.just("doorward.dev/v1") | anything,
        "kind": st.sampled_from(["AllowPolicy", "DenyPolicy", "NamespaceDefaults"]) | anything,
        "metadata": st.fixed_dictionaries({"name": words | anything, "namespace": words | anything}) | anything,
        "spec": st.dictionaries(keys, anything, max_size=5),
    }
)


@given(st.lists(anything | half_right, min_size=1, max_size=3))
@examples(100)
def test_any_plain_data_is_read_or_refused_with_faults(contents: list[object]) -> None:
    documents = [Document("x", index, each) for index, each in enumerate(contents)]
    try:
        found = read_policies(documents)
    except PolicyFaults as error:
        refused = error
    else:
        assert len(found.policies) + len(found.defaults) == len(contents)
        return
    assert refused.faults
    assert all(len(str(fault)) < 1000 and str(fault).isprintable() for fault in refused.faults)
