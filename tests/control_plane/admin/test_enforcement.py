"""Whom a policy concerns, and on how many of them it is enforced."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.spiffe import TrustDomain
from control_plane.admin.enforcement import Fleet, Target, target_of
from control_plane.push.links import LinkStatus

HOME = TrustDomain("cluster.local")
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def link(identity: str, acknowledged: int | None = None, epoch: str = "now", instance: str = "one") -> LinkStatus:
    return LinkStatus(identity, instance, "127.0.0.1", "v", acknowledged, epoch, NOW, NOW, (), (), None)


def workload(name: str) -> str:
    namespace, _, each = name.partition("/")
    return f"spiffe://cluster.local/ns/{namespace}/sa/{each}"


@pytest.mark.parametrize(
    ("target", "identity", "concerned"),
    [
        ("shop/payments", workload("shop/payments"), 1),
        ("shop/payments", workload("shop/checkout"), 0),
        ("shop/payments", workload("ops/payments"), 0),
        ("shop/*", workload("shop/checkout"), 1),
        ("shop/*", workload("ops/checkout"), 0),
        ("shop/payments", "spiffe://partner.example/ns/shop/sa/payments", 0),
        ("shop/payments", "spiffe://cluster.local/operator/ada", 0),
    ],
)
def test_a_target_covers_its_workloads_of_the_own_trust_domain(target: str, identity: str, concerned: int) -> None:
    assert Fleet.of([link(identity)], HOME, "now").enforcement([Target.parse(target)], 1).of == concerned


def test_a_target_is_written_as_it_is_read() -> None:
    assert [str(Target.parse(text)) for text in ("shop/*", "shop/payments")] == ["shop/*", "shop/payments"]


def test_a_document_without_to_concerns_its_namespace() -> None:
    document = {"kind": "NamespaceDefaults", "metadata": {"name": "defaults", "namespace": "shop"}, "spec": {}}
    assert target_of(document) == Target("shop", "*")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["shop/a", "shop/b", "ops/a"]),
            st.none() | st.integers(0, 5),
            st.sampled_from(["now", "before"]),
        ),
        max_size=8,
    ),
    st.lists(st.sampled_from(["shop/a", "shop/b", "shop/*", "ops/*"]), max_size=4),
    st.integers(0, 5),
)
def test_the_count_is_that_of_looking_at_every_sidecar(
    sidecars: list[tuple[str, int | None, str]], targets: list[str], number: int
) -> None:
    links = [
        link(workload(name), acknowledged, epoch, instance=str(i))
        for i, (name, acknowledged, epoch) in enumerate(sidecars)
    ]
    found = Fleet.of(links, HOME, "now").enforcement([Target.parse(each) for each in targets], number)
    concerned = [each for each in sidecars if each[0] in targets or f"{each[0].partition('/')[0]}/*" in targets]
    enforcing = [each for each in concerned if each[2] == "now" and each[1] is not None and each[1] >= number]
    assert (found.on, found.of, len(found.waiting)) == (len(enforcing), len(concerned), len(concerned) - len(enforcing))
