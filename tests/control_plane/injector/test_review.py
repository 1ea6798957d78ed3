"""An AdmissionReview and its answer: a recorded one, the same with anything missing or wrong, and junk."""

import base64
import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.injector import review as module
from control_plane.injector.admission_request import MAX_DEPTH
from control_plane.injector.json_patch import json_patch
from control_plane.injector.patch import Injected, inject
from control_plane.injector.review import MAX_FAULTS, MAX_WARNINGS, review
from control_plane.injector.settings import InjectorSettings
from tests.control_plane.injector.test_json_patch import applied
from tests.support.examples import examples
from tests.support.pods import container, pod

SETTINGS = InjectorSettings()
RECORDED = json.loads((Path(__file__).parent / "recorded_review.json").read_text())
UID = RECORDED["request"]["uid"]

# Without these the request cannot be told to be a pod's creation, or the pod is none.
NEEDED = {
    *("kind", "apiVersion", "request", "request.uid", "request.kind", "request.resource", "request.operation"),
    *("request.namespace", "request.object", "request.object.kind", "request.object.apiVersion"),
    *(f"request.kind.{key}" for key in ("group", "version", "kind")),
    *(f"request.resource.{key}" for key in ("group", "version", "resource")),
    *("request.object.spec", "request.object.spec.containers"),
}


def answered(asked: Any) -> dict[str, Any]:
    """The response; what is said around it is always the same."""
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    answer = review(body, SETTINGS)
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert json.loads(json.dumps(answer)) == answer
    response = answer["response"]
    assert isinstance(response["uid"], str)
    assert isinstance(response["allowed"], bool)
    assert response["allowed"] or response["status"]["message"]
    return response


def asking(given_pod: Any, **request: Any) -> dict[str, Any]:
    asked = copy.deepcopy(RECORDED)
    asked["request"].update(object=given_pod, **request)
    return asked


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        if key != "fieldsV1":  # the API server's bookkeeping, of which nobody reads anything
            yield from paths(below, (*path, key))


def changed(path: tuple[str | int, ...], *replacement: Any) -> dict[str, Any]:
    """The recorded review without what stands at `path`, or with something else there."""
    asked: Any = copy.deepcopy(RECORDED)
    at = asked
    for key in path[:-1]:
        at = at[key]
    if replacement:
        at[path[-1]] = replacement[0]
    else:
        del at[path[-1]]
    return asked


def test_a_recorded_review_is_answered_with_a_patch() -> None:
    response = answered(RECORDED)
    assert (response["uid"], response["allowed"], response["patchType"]) == (UID, True, "JSONPatch")
    operations = json.loads(base64.b64decode(response["patch"]))
    outcome = inject(RECORDED["request"]["object"], "shop", SETTINGS)
    assert isinstance(outcome, Injected)
    assert applied(RECORDED["request"]["object"], operations) == outcome.pod
    assert response["auditAnnotations"] == {"injected": "0.1.0"}


def test_whatever_is_missing_it_is_a_refusal_or_an_answer_and_never_a_crash() -> None:
    refused = set()
    for path in paths(RECORDED):
        response = answered(changed(path))
        assert response["uid"] == ("" if path in {("request",), ("request", "uid")} else UID)
        if not response["allowed"]:
            assert response["status"]["code"] in {400, 422}
            refused.add(".".join(map(str, path)))
    assert refused >= NEEDED
    # Besides: a pod's containers and probes without their names and ports.
    assert all(each.startswith("request.object.spec.") for each in refused - NEEDED)


@pytest.mark.parametrize("wrong", [None, "x", [None], {"name": 1}])
def test_whatever_has_a_wrong_type_it_is_never_a_crash(wrong: Any) -> None:
    for path in paths(RECORDED):
        response = answered(changed(path, wrong))
        assert response["allowed"] or response["status"]["code"] in {400, 422}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operation": "UPDATE"}, "request.operation is 'UPDATE', expected 'CREATE'"),
        ({"operation": "DELETE", "object": None}, "request.operation"),
        ({"operation": "CONNECT"}, "request.operation"),
        ({"subResource": "ephemeralcontainers"}, "request.subResource"),
        ({"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}}, "request.kind.group"),
        ({"resource": {"group": "", "version": "v1", "resource": "services"}}, "request.resource.resource"),
        ({"object": {"apiVersion": "v1", "kind": "Service"}}, "request.object.kind"),
        ({"namespace": ""}, "request.namespace"),
    ],
)
def test_what_is_not_the_creation_of_a_pod_is_refused(change: dict[str, Any], message: str) -> None:
    response = answered({**RECORDED, "request": {**RECORDED["request"], **change}})
    assert (response["uid"], response["allowed"], response["status"]["code"]) == (UID, False, 400)
    assert message in response["status"]["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b'"x"', b"NaN", b'{"request": NaN}', b"[" * 100_000, b'{"a":' * 100_000],
)
def test_what_is_no_review_at_all_is_refused(body: bytes) -> None:
    response = answered(body)
    assert (response["uid"], response["allowed"], response["status"]["code"]) == ("", False, 400)


def test_what_nests_too_deep_is_refused() -> None:
    deep: Any = "x"
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert "nests" in answered(changed(("request", "object", "metadata", "managedFields"), deep))["status"]["message"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    ),
    st.data(),
)
@examples(50)
def test_junk_anywhere_is_never_a_crash(junk: Any, data: st.DataObject) -> None:
    response = answered(changed(data.draw(st.sampled_from(list(paths(RECORDED)))), junk))
    assert response["allowed"] or response["status"]["code"] in {400, 422}


@given(st.binary())
@examples(50)
def test_junk_alone_is_refused(body: bytes) -> None:
    assert not answered(body)["allowed"]


def test_a_refusal_names_the_pod_and_every_fault_with_what_is_accepted() -> None:
    faulty = pod(container(livenessProbe={"grpc": {"port": 9000}}), annotations={"doorward.dev/egress": "deny"})
    del faulty["metadata"]["name"]
    faulty["metadata"]["generateName"] = "web-"
    response = answered(asking(faulty))
    assert response["status"]["code"] == 422
    assert response["status"]["message"] == (
        "pod shop/web- cannot be in the mesh, 2 faults: metadata.annotations[doorward.dev/egress]: 'deny' is none of "
        "them: write allow or registry-only; spec.containers[0].livenessProbe.grpc: gRPC probes cannot pass the "
        "sidecar yet: write an exec probe with grpc_health_probe, an httpGet probe, a tcpSocket probe, or the "
        "annotation doorward.dev/exclude-inbound-ports with this port"
    )
    assert "patch" not in response


def test_a_refusal_is_bounded_however_much_is_wrong() -> None:
    message = answered(asking(pod(annotations={f"doorward.dev/{each}": "" for each in range(1000)})))["status"][
        "message"
    ]
    assert message.count("is unknown") == MAX_FAULTS
    assert message.endswith("; and 980 more")


def test_warnings_are_bounded() -> None:
    crowd = [container(f"c{each}", securityContext={"privileged": True}) for each in range(50)]
    assert len(answered(asking(pod(*crowd)))["warnings"]) == MAX_WARNINGS


def test_a_skipped_pod_is_allowed_unchanged_and_the_audit_log_says_why() -> None:
    response = answered(asking(pod(hostNetwork=True)))
    assert response.keys() == {"uid", "allowed", "warnings", "auditAnnotations"}
    assert "hostNetwork" in response["warnings"][0]
    opted_out = pod()
    opted_out["metadata"]["labels"] = {"doorward.dev/inject": "disabled"}
    assert answered(asking(opted_out)) == {"uid": UID, "allowed": True, "auditAnnotations": {"skipped": "opted_out"}}


def test_a_fault_of_ours_refuses_the_pod_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "inject", lambda *_: 1 / 0)
    response = answered(RECORDED)
    assert (response["uid"], response["allowed"], response["status"]["code"]) == (UID, False, 500)
    assert "ZeroDivisionError" in response["status"]["message"]


MANY = 12_000
VAST = {
    "volumes": pod(volumes=[{"name": f"v{index}"} for index in range(MANY)]),
    "containers": pod(
        *({"name": f"c{index}", "livenessProbe": {"tcpSocket": {"port": 1}}} for index in range(MANY)),
    ),
    "unknown": pod(annotations={f"doorward.dev/exclude-inbound-pos{index}": "" for index in range(MANY)}),
    "ports": pod(
        annotations={
            "doorward.dev/ports": ",".join(f"{port}/tcp" for port in range(1, MANY)),
            "doorward.dev/exclude-inbound-ports": ",".join(map(str, range(MANY + 1, 2 * MANY))),
        }
    ),
}
"""Pods of some hundred KiB that were made to cost minutes."""


@pytest.mark.parametrize("given_pod", VAST.values(), ids=VAST)
def test_a_vast_pod_is_refused_in_a_moment(given_pod: dict[str, Any]) -> None:
    body = json.dumps(asking(given_pod)).encode()
    began = time.process_time()
    assert not review(body, SETTINGS)["response"]["allowed"]
    assert time.process_time() - began < 1, "other pods wait meanwhile"


def test_a_long_list_of_unchanged_items_costs_no_more_than_its_length() -> None:
    named = [{"name": f"v{index}"} for index in range(MANY)]
    began = time.process_time()
    (operation,) = json_patch(named, [*named, {"name": "new"}])
    assert operation == {"op": "add", "path": f"/{MANY}", "value": {"name": "new"}}
    assert time.process_time() - began < 1
