"""The request in an AdmissionReview of Kubernetes: bytes to the pod that is to be created, or what is wrong.

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from attrs import frozen

from control_plane.injector.faults import shown

API_VERSION: Final = "admission.k8s.io/v1"
MAX_DEPTH: Final = 100
"""Nesting of the whole review. A pod with the API server's own bookkeeping is twenty deep."""


class ReviewMalformed(Exception):
    """This is no review that can be answered with more than a refusal. `uid` is the request's where it is readable."""

    def __init__(self, message: str, uid: str = "") -> None:
        super().__init__(message)
        self.uid = uid


@frozen
class CreatedPod:
    """One pod that somebody wants to create. `namespace` is where; the pod itself need not say so."""

    uid: str
    namespace: str
    pod: dict[str, Any]


def read_review(body: bytes) -> CreatedPod:
    """The pod in that review. Raises ReviewMalformed, also for anything that is not the creation of a pod."""
    review = _decoded(body)
    uid = ""
    if isinstance(request := review.get("request"), dict) and isinstance(request.get("uid"), str):
        uid = request["uid"]
    try:
        _expect(review, {"apiVersion": API_VERSION, "kind": "AdmissionReview"}, "")
        if not isinstance(request, dict):
            _wrong("request", request, "a map")
        if not uid:
            _wrong("request.uid", request.get("uid"), "the request's own id")
        _check_subject(request)
        pod = request.get("object")
        if not isinstance(pod, dict):
            _wrong("request.object", pod, "the pod")
        _expect(pod, {"apiVersion": "v1", "kind": "Pod"}, "request.object.")
    except ReviewMalformed as error:
        raise ReviewMalformed(str(error), uid) from None
    return CreatedPod(uid, request["namespace"], pod)


def _check_subject(request: Mapping[str, Any]) -> None:
    """That the request is about creating a pod, and about no part of one."""
    for key, named in (("kind", {"kind": "Pod"}), ("resource", {"resource": "pods"})):
        if not isinstance(request.get(key), dict):
            _wrong(f"request.{key}", request.get(key), "a map")
        _expect(request[key], {"group": "", "version": "v1", **named}, f"request.{key}.")
    if request.get("subResource") not in (None, ""):
        _wrong("request.subResource", request["subResource"], "nothing: only whole pods are looked at")
    _expect(request, {"operation": "CREATE"}, "request.")
    if not isinstance(request.get("namespace"), str) or not request["namespace"]:
        _wrong("request.namespace", request.get("namespace"), "the pod's namespace")


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        review = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        kind = "nests too deep" if isinstance(error, RecursionError) else "is no JSON"
        raise ReviewMalformed(f"the review {kind}") from None
    if not isinstance(review, dict):
        raise ReviewMalformed("the review is no JSON object")
    if _deeper_than(review, MAX_DEPTH):
        raise ReviewMalformed(f"the review nests more than {MAX_DEPTH} deep")
    return review


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)


def _deeper_than(value: object, depth: int) -> bool:
    """Level by level, since a recursion's own depth is bounded too."""
    level = [value]
    while level and depth >= 0:
        depth -= 1
        level = [
            below
            for each in level
            if isinstance(each, dict | list)
            for below in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def _expect(fields: Mapping[str, Any], wanted: Mapping[str, str], path: str) -> None:
    for key, value in wanted.items():
        if fields.get(key) != value:
            _wrong(f"{path}{key}", fields.get(key), repr(value))


def _wrong(path: str, value: object, expected: str) -> NoReturn:
    raise ReviewMalformed(f"the review's {path} is {shown(value)}, expected {expected}")
