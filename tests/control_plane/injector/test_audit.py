"""Why a pod is not in the mesh, from what the API server says of it: one reason each, the first that holds."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from certs.spiffe import TrustDomain
from control_plane.injector.audit import (
    Audited,
    Mesh,
    Namespace,
    Pod,
    Reason,
    audit,
    read_namespace,
    read_pod,
)
from control_plane.injector.standing import Skip
from control_plane.kubernetes.marks import INJECT

LABELLED = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SHOP = Namespace("shop", labelled=True, labelled_since=LABELLED)
IDENTITY = "spiffe://cluster.local/ns/shop/sa/checkout"
MESH = Mesh(TrustDomain("cluster.local"), "0.4.0", {(IDENTITY, "10.0.0.7")}, {"kube-system", "doorward"})
MESHED = Pod(
    namespace="shop",
    name="checkout-1",
    service_account="checkout",
    addresses=("10.0.0.7",),
    left_out=None,
    created=LABELLED + HOUR,
    sidecar=True,
    sidecar_ready=True,
    version="0.4.0",
    over=False,
)
BARE = evolve(MESHED, sidecar=False, sidecar_ready=False, version="", addresses=("10.0.0.9",))


def audited(pod: Pod, *namespaces: Namespace) -> Audited:
    (found,) = audit(namespaces or [SHOP], [pod], MESH)
    return found


def test_a_pod_as_it_should_be_has_nothing_to_say() -> None:
    assert audited(MESHED) == Audited("shop", "checkout-1", IDENTITY)


@pytest.mark.parametrize(
    ("pod", "reason", "said"),
    [
        (evolve(BARE, left_out=Skip.OPTED_OUT), Reason.OPTED_OUT, "it has the label doorward.dev/inject: disabled"),
        (evolve(BARE, left_out=Skip.HOST_NETWORK), Reason.HOST_NETWORK, "it uses its node's network"),
        (evolve(BARE, left_out=Skip.STATIC_POD), Reason.STATIC_POD, "a static pod"),
        (evolve(BARE, left_out=Skip.WINDOWS), Reason.WINDOWS, "on Windows"),
        (evolve(BARE, left_out=Skip.SYSTEM_NAMESPACE), Reason.NAMESPACE_EXCLUDED, "leaves its namespace out"),
        (evolve(BARE, created=LABELLED - HOUR), Reason.BEFORE_LABEL, "2026-11-22 11:00:00 UTC"),
        (evolve(BARE, created=LABELLED - HOUR, left_out=Skip.HOST_NETWORK), Reason.HOST_NETWORK, "network"),
        (BARE, Reason.NOT_INJECTED, "the webhook did not act"),
        (evolve(MESHED, around=("debugger-x", "b")), Reason.RUNS_AS_SIDECAR, "debugger-x, b: run"),
        (evolve(MESHED, around=("a",), sidecar_ready=False), Reason.RUNS_AS_SIDECAR, "not redirected"),
        (evolve(MESHED, sidecar_ready=False), Reason.NOT_READY, "not ready"),
        (evolve(MESHED, sidecar_ready=False, addresses=()), Reason.NOT_READY, "not ready"),
        (evolve(MESHED, addresses=("10.0.0.8",)), Reason.NOT_CONNECTED, "not connected"),
        (evolve(MESHED, service_account="other"), Reason.NOT_CONNECTED, "not connected"),
        (evolve(MESHED, version="0.3.0"), Reason.OTHER_VERSION, "of version 0.3.0, this is 0.4.0"),
        (evolve(MESHED, version="0.3.0", addresses=()), Reason.NOT_CONNECTED, "not connected"),
    ],
)
def test_each_reason_is_named_and_says_what_to_do(pod: Pod, reason: Reason, said: str) -> None:
    found = audited(pod)
    assert found.reason == reason
    assert said in found.detail
    assert found.advice
    assert "{" not in found.advice


def test_any_address_of_a_pod_may_be_the_one_that_it_connects_from() -> None:
    assert audited(evolve(MESHED, addresses=("fd00::7", "10.0.0.7"))).reason is None


def test_a_sidecar_that_no_injector_put_there_has_no_version_to_differ() -> None:
    assert audited(evolve(MESHED, version="")).reason is None


def test_a_labelled_namespace_that_the_webhook_leaves_out_is_named() -> None:
    system = evolve(SHOP, name="kube-system")
    assert audited(evolve(BARE, namespace="kube-system"), system).reason == Reason.NAMESPACE_EXCLUDED


def test_where_nobody_knows_since_when_it_is_labelled_the_webhook_is_asked_about() -> None:
    unknown = evolve(SHOP, labelled_since=None)
    assert audited(evolve(BARE, created=LABELLED - HOUR), unknown).reason == Reason.NOT_INJECTED


@pytest.mark.parametrize("value", ["true", "Enabled", ""])
def test_a_namespace_s_label_that_says_nothing_is_named_before_somebody_relies_on_it(value: str) -> None:
    namespace = read_namespace({"metadata": {"name": "shop", "labels": {INJECT: value}}})
    found = audited(BARE, namespace)
    assert (found.reason, f"{INJECT}={value}," in found.detail) == (Reason.UNKNOWN_LABEL, True)
    assert f"kubectl label namespace shop {INJECT}=enabled" in found.advice
    assert audited(evolve(BARE, left_out=Skip.OPTED_OUT), namespace).reason == Reason.OPTED_OUT
    assert audited(MESHED, namespace).reason is None
    system = evolve(namespace, name="kube-system")
    assert audited(evolve(BARE, namespace="kube-system"), system).reason == Reason.NAMESPACE_EXCLUDED


@pytest.mark.parametrize("labels", [{}, {INJECT: "disabled"}])
def test_a_namespace_that_is_kept_out_is_nobody_s_concern(labels: dict[str, str]) -> None:
    assert audit([read_namespace({"metadata": {"name": "shop", "labels": labels}})], [BARE], MESH) == []


@pytest.mark.parametrize("pod", [BARE, evolve(BARE, left_out=Skip.HOST_NETWORK)])
def test_outside_of_labelled_namespaces_pods_without_a_sidecar_are_nobody_s_concern(pod: Pod) -> None:
    assert audit([evolve(SHOP, labelled=False)], [pod], MESH) == []
    assert audit([], [pod], MESH) == []


def test_a_pod_with_a_sidecar_is_looked_at_wherever_it_is() -> None:
    assert audited(evolve(MESHED, sidecar_ready=False), evolve(SHOP, labelled=False)).reason == Reason.NOT_READY


def test_what_is_over_is_left_out() -> None:
    assert audit([SHOP], [evolve(BARE, over=True), evolve(MESHED, over=True)], MESH) == []


def test_pods_come_by_namespace_and_name() -> None:
    names = [("b", "1"), ("a", "2"), ("a", "1")]
    pods = [evolve(MESHED, namespace=namespace, name=name) for namespace, name in names]
    assert [(each.namespace, each.name) for each in audit([], pods, MESH)] == sorted(names)


def test_a_pod_whose_names_make_no_identity_is_listed_all_the_same() -> None:
    found = audited(evolve(MESHED, service_account="a b"))
    assert (found.identity, found.reason) == ("", Reason.NOT_CONNECTED)


# As the API server has them


def pod(**more: Any) -> dict[str, Any]:
    """A pod with a native sidecar; `more` is laid over its parts."""
    parts: dict[str, Any] = {
        "metadata": {
            "namespace": "shop",
            "name": "checkout-1",
            "creationTimestamp": "2026-11-22T13:00:00Z",
            "annotations": {"doorward.dev/injected": "0.4.0"},
        },
        "spec": {
            "serviceAccountName": "checkout",
            "containers": [{"name": "app"}],
            "initContainers": [{"name": "doorward-redirect"}, {"name": "doorward-sidecar"}],
        },
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": "10.0.0.7"}],
            "initContainerStatuses": [{"name": "doorward-sidecar", "ready": True}],
        },
    }
    return {name: {**part, **more.get(name, {})} for name, part in parts.items()}


CLASSIC = {
    "spec": {"containers": [{"name": "app"}, {"name": "doorward-sidecar"}], "initContainers": []},
    "status": {"initContainerStatuses": [], "containerStatuses": [{"name": "doorward-sidecar", "ready": True}]},
}


@pytest.mark.parametrize("found", [pod(), pod(**CLASSIC)], ids=["native", "classic"])
def test_a_meshed_pod_is_read(found: dict[str, Any]) -> None:
    assert read_pod(found) == MESHED


@pytest.mark.parametrize(
    ("more", "changed"),
    [
        ({"spec": {"initContainers": []}}, {"sidecar": False}),
        ({"spec": {"initContainers": [], "hostNetwork": True}}, {"sidecar": False, "left_out": Skip.HOST_NETWORK}),
        ({"spec": {"hostNetwork": True}}, {}),
        ({"metadata": {"labels": {INJECT: "enabled"}}}, {}),
        ({"metadata": {"annotations": {}}}, {"version": ""}),
        ({"metadata": {"deletionTimestamp": "2026-11-22T13:00:00Z"}}, {"over": True}),
        ({"status": {"phase": "Succeeded"}}, {"over": True}),
        ({"status": {"phase": "Failed"}}, {"over": True}),
        ({"status": {"phase": "Pending", "podIPs": []}}, {"addresses": ()}),
        ({"status": {"initContainerStatuses": []}}, {"sidecar_ready": False}),
        ({"status": {"initContainerStatuses": [{"name": "app", "ready": True}]}}, {"sidecar_ready": False}),
        ({"status": {"podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}]}}, {"addresses": ("10.0.0.7", "fd00::7")}),
    ],
)
def test_what_tells_pods_apart_is_read(more: dict[str, Any], changed: dict[str, Any]) -> None:
    assert read_pod(pod(**more)) == evolve(MESHED, **changed)


def test_a_pod_that_was_just_created_is_read() -> None:
    found = pod()
    del found["status"], found["spec"]["serviceAccountName"], found["metadata"]["annotations"]
    expected = evolve(MESHED, service_account="default", addresses=(), sidecar_ready=False, version="")
    assert read_pod(found) == expected


def debugged(*containers: dict[str, Any], status: Any = (), **more: Any) -> dict[str, Any]:
    """A meshed pod with these ephemeral containers; `more` is laid over its spec."""
    found = pod()
    for each, user in zip(found["spec"]["initContainers"], (0, 1337), strict=True):
        each["securityContext"] = {"runAsUser": user}
    found["spec"] = {**found["spec"], "ephemeralContainers": list(containers), **more}
    found["status"]["ephemeralContainerStatuses"] = list(status)
    return found


AS_SIDECAR = {"name": "debugger-x", "securityContext": {"runAsUser": 1337}}
NOBODY_SAYS = {"name": "debugger-x"}
RUNS = {"name": "debugger-x", "state": {"running": {}}}
IS_SIDECAR = {**RUNS, "user": {"linux": {"uid": 1337}}}


@pytest.mark.parametrize(
    ("found", "around"),
    [
        (debugged(AS_SIDECAR), ("debugger-x",)),
        (debugged(AS_SIDECAR, status=[RUNS]), ("debugger-x",)),
        (debugged(AS_SIDECAR, status=[{"name": "debugger-x", "state": {"terminated": {"exitCode": 0}}}]), ()),
        (debugged({**AS_SIDECAR, "securityContext": {"runAsUser": 1000}}), ()),
        (debugged(NOBODY_SAYS), ()),
        (debugged(NOBODY_SAYS, securityContext={"runAsUser": 1337}), ("app", "debugger-x")),
        (debugged({**AS_SIDECAR, "securityContext": None}, securityContext={"runAsUser": 1000}), ()),
        (debugged(NOBODY_SAYS, status=[IS_SIDECAR]), ("debugger-x",)),
        (debugged(containers=[{**AS_SIDECAR, "name": "app"}]), ("app",)),
        (debugged(AS_SIDECAR, initContainers=[{**AS_SIDECAR, "name": "doorward-sidecar"}]), ()),
        (debugged(), ()),
    ],
    ids=[
        "runs",
        "waits-or-runs",
        "ended",
        "other-user",
        "unknown",
        "pod-s-user",
        "own-none",
        "status",
        "app",
        "not-redirected",
        "none",
    ],
)
def test_who_runs_as_the_sidecar_s_user_goes_around_the_redirection(
    found: dict[str, Any], around: tuple[str, ...]
) -> None:
    assert read_pod(found).around == around


def managed(time: str, *labels: str) -> dict[str, Any]:
    fields: dict[str, Any] = {f"f:{label}": {} for label in labels}
    return {"manager": "kubectl", "time": time, "fieldsV1": {"f:metadata": {"f:labels": {".": {}, **fields}}}}


@pytest.mark.parametrize(
    ("fields", "since"),
    [
        ([managed("2026-11-22T12:00:00Z", INJECT)], LABELLED),
        ([managed("2026-11-22T11:00:00Z", INJECT), managed("2026-11-22T12:00:00Z", INJECT)], LABELLED),
        ([managed("2026-11-22T12:00:00Z", INJECT), managed("2026-11-22T13:00:00Z", "team")], LABELLED),
        ([managed("2026-11-22T12:00:00Z", "team")], None),
        ([{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}], None),
        ([], None),
    ],
)
def test_since_when_a_namespace_is_labelled_is_what_its_managed_fields_say(
    fields: list[dict[str, Any]], since: datetime | None
) -> None:
    metadata = {"name": "shop", "labels": {INJECT: "enabled"}, "managedFields": fields}
    assert read_namespace({"metadata": metadata}) == Namespace("shop", labelled=True, labelled_since=since)


@pytest.mark.parametrize("labels", [{}, {INJECT: "disabled"}, {INJECT: "true"}, {"doorward.dev/injected": "enabled"}])
def test_only_one_label_puts_a_namespace_into_the_mesh(labels: dict[str, str]) -> None:
    metadata = {"name": "shop", "labels": labels, "managedFields": [managed("2026-11-22T12:00:00Z", INJECT)]}
    read = read_namespace({"metadata": metadata})
    assert (read.labelled, read.labelled_since) == (False, None)
