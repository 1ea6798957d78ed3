"""Writing policies: plain documents in one normal form that read back to the same."""

import json
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from certs.spiffe import SpiffeId
from mesh.policy import (
    Default,
    Document,
    Kind,
    Mode,
    Mtls,
    NamespaceDefaults,
    Policy,
    PolicySet,
    document_key,
    read_policies,
    to_document,
)
from mesh.policy.model import Destination, HttpRule, IdentitySource, UnauthenticatedSource, WorkloadSource
from tests.support.examples import examples

names = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
texts = st.sampled_from(["/", "/a", "/a/{b}", "/a/*", "/{b}/c%3A/*"])
networks = st.ip_addresses().map(ip_network).filter(lambda each: "::ffff:" not in str(each))
sources = st.one_of(
    st.builds(WorkloadSource, names, names | st.just("*")),
    st.sampled_from(["spiffe://a/b", "spiffe://cluster.local/ns/shop/sa/x"]).map(SpiffeId.parse).map(IdentitySource),
    st.lists(networks, max_size=3).map(tuple).map(UnauthenticatedSource),
)
rules = st.builds(
    HttpRule,
    st.lists(st.sampled_from(["GET", "POST", "M-SEARCH"]), unique=True).map(tuple),
    st.lists(texts, unique=True).map(tuple),
).filter(lambda rule: bool(rule.methods or rule.paths))
policies = st.builds(
    Policy,
    st.sampled_from(Kind),
    names,
    names,
    st.builds(Destination, names | st.just("*"), st.lists(st.integers(1, 65535), unique=True, max_size=3).map(tuple)),
    st.lists(sources, min_size=1, max_size=3).map(tuple),
    st.none() | st.lists(rules, min_size=1, max_size=3).map(tuple),
    st.sampled_from(Mode),
)
defaults = st.builds(NamespaceDefaults, names, st.sampled_from(Default), st.sampled_from(Mtls))


@given(policies | defaults)
@examples(100)
def test_what_is_written_reads_back_to_the_same(item: Policy | NamespaceDefaults) -> None:
    document = to_document(item)
    found = read_policies([Document("written", 0, json.loads(json.dumps(document)))])
    assert (*found.policies, *found.defaults) == (item,)
    assert document_key(document) == item.key


def test_documents_that_mean_the_same_are_written_the_same(
    policy: Callable[..., dict[str, Any]], read: Callable[..., PolicySet]
) -> None:
    brief = policy(source=[{"workload": "a"}, {"unauthenticated": True, "addresses": ["10.1.2.3"]}])
    wordy = policy(
        mode="enforce",
        source=[
            {"workload": "a", "namespace": "shop"},
            {"unauthenticated": True, "addresses": ["10.1.2.3/32"]},
        ],
    )
    written = [to_document(read(each).policies[0]) for each in (brief, wordy)]
    assert written[0] == written[1]
    assert written[0]["spec"] == {
        "mode": "enforce",
        "to": {"workload": "payments"},
        "from": [{"workload": "a"}, {"unauthenticated": True, "addresses": ["10.1.2.3/32"]}],
    }
