"""What is patched of a webhook configuration. That it is kept current: tests/kubernetes/test_registration.py."""

from typing import Any

import pytest

from control_plane.injector.registration import Webhooks, keep, patch

NAME = {"key": "kubernetes.io/metadata.name", "operator": "NotIn"}
LABELLED = {"key": "doorward.dev/inject", "operator": "In", "values": ["enabled"]}


def configuration(*hooks: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "doorward-injector", "resourceVersion": "7"}, "webhooks": list(hooks)}


def hook(bundle: str | None = None, *expressions: dict[str, Any]) -> dict[str, Any]:
    client = {"service": {"name": "doorward-injector"}} | ({} if bundle is None else {"caBundle": bundle})
    return {"clientConfig": client, "namespaceSelector": {"matchExpressions": list(expressions)}}


def test_every_webhook_s_roots_are_put_in_place_of_others() -> None:
    seen = keep(configuration(hook("b2xk"), hook(), hook("bmV3")))
    assert patch(seen, "bmV3") == [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "bmV3"},
        {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": "bmV3"},
    ]


@pytest.mark.parametrize("hooks", [[], [hook("bmV3")], [hook("bmV3"), hook("bmV3")]])
def test_where_all_are_current_there_is_nothing_to_do(hooks: list[dict[str, Any]]) -> None:
    assert patch(keep(configuration(*hooks)), "bmV3") == []


def test_a_configuration_without_webhooks_is_read() -> None:
    assert keep({"metadata": {"resourceVersion": "7"}}) == Webhooks("7", ())


@pytest.mark.parametrize(
    ("hooks", "excluded"),
    [
        ([hook("", LABELLED, {**NAME, "values": ["kube-system", "mesh"]})], {"kube-system", "mesh"}),
        ([hook("", {**NAME, "values": ["a", "b"]}), hook("", {**NAME, "values": ["b", "c"]})], {"b"}),
        ([hook("", {**NAME, "values": ["a"]}), hook("", LABELLED)], set()),
        ([hook("", {**NAME, "operator": "In", "values": ["a"]})], set()),
        ([{"clientConfig": {}}], set()),
        ([], set()),
    ],
)
def test_left_out_are_the_namespaces_for_which_no_webhook_is_called(
    hooks: list[dict[str, Any]], excluded: set[str]
) -> None:
    assert keep(configuration(*hooks)).excluded == excluded
