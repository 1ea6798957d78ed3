"""SPIFFE IDs: what is written is what was read, and every lookalike is refused."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from certs.errors import SpiffeIdMalformed
from certs.spiffe import (
    MAX_ID_BYTES,
    MAX_NAME_BYTES,
    MAX_TRUST_DOMAIN_BYTES,
    SpiffeId,
    TrustDomain,
    WorkloadName,
)

SEGMENT_CHARACTERS = string.ascii_letters + string.digits + "._-"
DOMAINS = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=MAX_TRUST_DOMAIN_BYTES)
SEGMENTS = st.text(SEGMENT_CHARACTERS, min_size=1, max_size=40).filter(lambda text: text not in {".", ".."})
PATHS = st.lists(SEGMENTS, min_size=1, max_size=6).map(lambda segments: "/" + "/".join(segments))
NAMES = st.text(SEGMENT_CHARACTERS, min_size=1, max_size=MAX_NAME_BYTES).filter(lambda text: text not in {".", ".."})


@given(DOMAINS, PATHS)
def test_an_id_is_read_back_as_it_was_written(domain: str, path: str) -> None:
    written = SpiffeId(domain, path)
    assert SpiffeId.parse(str(written)) == written
    assert str(written) == f"spiffe://{domain}{path}"


@given(DOMAINS, NAMES, NAMES)
@example("a" * MAX_TRUST_DOMAIN_BYTES, "b" * MAX_NAME_BYTES, "c" * MAX_NAME_BYTES)
def test_every_workload_has_an_id_in_every_trust_domain_and_back(domain: str, namespace: str, name: str) -> None:
    workload = WorkloadName(namespace, name)
    assert workload.in_domain(TrustDomain(domain)).workload == workload
    assert WorkloadName.parse(str(workload)) == workload


@given(st.text(max_size=60) | st.text("spiffe:/.-_aA0%?#@\\ \n\0", max_size=60))
@example("spiffe://a/b\n")
@example("spiffe://a/b/")
def test_any_text_is_either_refused_or_means_exactly_itself(text: str) -> None:
    try:
        parsed = SpiffeId.parse(text)
    except SpiffeIdMalformed:
        return
    assert str(parsed) == text
    assert set(parsed.path) <= set(SEGMENT_CHARACTERS + "/")
    assert not {"", ".", ".."} & set(parsed.path[1:].split("/"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe:",
        "spiffe://",
        "spiffe:///ns/a/sa/b",
        "spiffe://cluster.local",
        "spiffe://cluster.local/",
        "spiffe://cluster.local//ns",
        "spiffe://cluster.local/ns/a/sa/b/",
        "spiffe://cluster.local/ns/a/sa/b\n",
        " spiffe://cluster.local/a",
        "spiffe://cluster.local/./a",
        "spiffe://cluster.local/a/..",
        "Spiffe://cluster.local/a",
        "https://cluster.local/a",
        "spiffe://Cluster.local/a",
        "spiffe://cluster.local:8443/a",
        "spiffe://user@cluster.local/a",
        "spiffe://cluster.local/a?b",
        "spiffe://cluster.local/a#b",
        "spiffe://cluster.local/%61",
        "spiffe://cluster.local/ä",
        "spiffe://clüster.local/a",
        "spiffe://cluster.local/a\0",
        "spiffe://cluster.local/\u0661",
    ],
)
def test_a_lookalike_is_refused(text: str) -> None:
    with pytest.raises(SpiffeIdMalformed):
        SpiffeId.parse(text)


def test_the_bounds_of_the_standard_are_kept_to_the_byte() -> None:
    head = "spiffe://a/"
    assert len(str(SpiffeId.parse(head + "b" * (MAX_ID_BYTES - len(head))))) == MAX_ID_BYTES
    with pytest.raises(SpiffeIdMalformed, match="longer"):
        SpiffeId.parse(head + "b" * (MAX_ID_BYTES - len(head) + 1))
    with pytest.raises(SpiffeIdMalformed, match="longer"):
        SpiffeId("a", "/" + "b" * MAX_ID_BYTES)
    assert TrustDomain("a" * MAX_TRUST_DOMAIN_BYTES)
    with pytest.raises(SpiffeIdMalformed, match="longer"):
        TrustDomain("a" * (MAX_TRUST_DOMAIN_BYTES + 1))
    with pytest.raises(SpiffeIdMalformed, match="longer"):
        WorkloadName("shop", "a" * (MAX_NAME_BYTES + 1))


@pytest.mark.parametrize(
    "text", ["checkout", "shop/", "/checkout", "shop/a/b", "shop/che ckout", "../checkout", "shop/*"]
)
def test_a_workload_is_written_namespace_slash_name(text: str) -> None:
    with pytest.raises(SpiffeIdMalformed):
        WorkloadName.parse(text)


@pytest.mark.parametrize("name", ["", "Cluster.local", "cluster.local/", "a b", "a\n", "spiffe://a", "ä"])
def test_a_trust_domain_is_lower_case_and_bare(name: str) -> None:
    with pytest.raises(SpiffeIdMalformed):
        TrustDomain(name)


def test_only_ids_of_workloads_name_one() -> None:
    domain = TrustDomain("cluster.local")
    assert SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/checkout").workload == WorkloadName("shop", "checkout")
    assert domain.control_plane().workload is None
    assert domain.operator("ada").workload is None
    for path in ("/ns/shop/sa", "/ns/shop/sa/checkout/x", "/NS/shop/sa/checkout", "/x/shop/sa/checkout"):
        assert SpiffeId(domain.name, path).workload is None
    assert SpiffeId(domain.name, "/ns/shop/sa/" + "a" * (MAX_NAME_BYTES + 1)).workload is None


def test_only_ids_of_operators_name_one() -> None:
    domain = TrustDomain("cluster.local")
    assert domain.operator("ada").operator == "ada"
    assert domain.control_plane().operator is None
    assert domain.workload("operator", "ada").operator is None
    for path in ("/operator", "/operator/ada/x", "/Operator/ada", "/ns/operator"):
        assert SpiffeId(domain.name, path).operator is None
    long = "a" * (MAX_NAME_BYTES + 1)
    assert SpiffeId(domain.name, f"/operator/{long}").operator is None
    with pytest.raises(SpiffeIdMalformed, match="longer"):
        domain.operator(long)


def test_the_ids_of_the_mesh_itself_are_fixed() -> None:
    domain = TrustDomain("cluster.local")
    assert str(domain.control_plane()) == "spiffe://cluster.local/doorward/control-plane"
    assert str(domain.operator("ada")) == "spiffe://cluster.local/operator/ada"
    assert str(domain.workload("shop", "checkout")) == "spiffe://cluster.local/ns/shop/sa/checkout"
    with pytest.raises(SpiffeIdMalformed):
        domain.operator("ada/../../doorward/control-plane")
    with pytest.raises(SpiffeIdMalformed):
        domain.workload("shop/sa/payments", "x")
