"""Whom a policy concerns."""

import pytest

from certs.spiffe import WorkloadName
from control_plane.admin.enforcement import Target, target_of


@pytest.mark.parametrize(
    ("target", "workload", "covered"),
    [
        ("shop/payments", "shop/payments", True),
        ("shop/payments", "shop/checkout", False),
        ("shop/payments", "ops/payments", False),
        ("shop/*", "shop/checkout", True),
        ("shop/*", "ops/checkout", False),
    ],
)
def test_a_target_covers_its_workloads(target: str, workload: str, covered: bool) -> None:
    assert Target.parse(target).covers(WorkloadName.parse(workload)) is covered


def test_a_target_is_written_as_it_is_read() -> None:
    assert [str(Target.parse(text)) for text in ("shop/*", "shop/payments")] == ["shop/*", "shop/payments"]


def test_a_document_without_to_concerns_its_namespace() -> None:
    document = {"kind": "NamespaceDefaults", "metadata": {"name": "defaults", "namespace": "shop"}, "spec": {}}
    assert target_of(document) == Target("shop", "*")
