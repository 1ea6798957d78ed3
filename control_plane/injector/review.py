"""One AdmissionReview of Kubernetes: the request's bytes in, the answer out.

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response
"""

import base64
import json
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Final

from control_plane.injector.admission_request import API_VERSION, CreatedPod, ReviewMalformed, read_review
from control_plane.injector.faults import Fault
from control_plane.injector.json_patch import json_patch
from control_plane.injector.patch import Refused, Skipped, inject
from control_plane.injector.settings import InjectorSettings
from control_plane.injector.standing import Skip
from control_plane.kubernetes.marks import INJECTED

MAX_FAULTS: Final = 20
"""Faults that a refusal lists; of more it says how many."""
MAX_WARNINGS: Final = 10
"""The API server passes on 4096 bytes of warnings."""

_MALFORMED, _INVALID, _BROKEN = 400, 422, 500


def review(body: bytes, settings: InjectorSettings) -> dict[str, Any]:
    """The answer to `body`, an AdmissionReview v1 with its `response`, to be sent as JSON. Never raises."""
    uid = ""
    try:
        created = read_review(body)
        uid = created.uid
        return _answered(created, settings)
    except ReviewMalformed as error:
        return _refusal(error.uid, _MALFORMED, f"doorward's injector cannot read this: {error}")
    except Exception as error:  # noqa: BLE001  # the last wall: a pod of which nothing is known must not come to life
        where = traceback.extract_tb(error.__traceback__)[-1].name
        return _refusal(uid, _BROKEN, f"this is a fault of Doorward's injector: {type(error).__name__} in {where}")


def _answered(created: CreatedPod, settings: InjectorSettings) -> dict[str, Any]:
    outcome = inject(created.pod, created.namespace, settings)
    if isinstance(outcome, Refused):
        return _refusal(created.uid, _INVALID, _listed(created, outcome.faults))
    if isinstance(outcome, Skipped):
        warnings = [f"doorward: this pod {outcome.reason.message}"] if outcome.reason is Skip.HOST_NETWORK else []
        return _allowed(created.uid, warnings, {"skipped": outcome.reason.value})
    operations = json_patch(created.pod, outcome.pod)
    patch = base64.b64encode(json.dumps(operations, separators=(",", ":")).encode()).decode()
    warnings = [f"doorward: {each}" for each in outcome.warnings[:MAX_WARNINGS]]
    marks = {"injected": outcome.pod["metadata"]["annotations"][INJECTED]}
    return _allowed(created.uid, warnings, marks, {"patchType": "JSONPatch", "patch": patch})


def _listed(created: CreatedPod, faults: Sequence[Fault]) -> str:
    metadata = created.pod.get("metadata")
    name = (metadata.get("name") or metadata.get("generateName")) if isinstance(metadata, dict) else None
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    listed = "; ".join(map(str, faults[:MAX_FAULTS]))
    more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
    return f"pod {created.namespace}/{name or '?'} cannot be in the mesh, {count}: {listed}{more}"


def _allowed(
    uid: str, warnings: Sequence[str], marks: Mapping[str, str], more: Mapping[str, str] | None = None
) -> dict[str, Any]:
    said = {"warnings": list(warnings)} if warnings else {}
    return _answer({"uid": uid, "allowed": True, **(more or {}), **said, "auditAnnotations": dict(marks)})


def _refusal(uid: str, code: int, message: str) -> dict[str, Any]:
    return _answer({"uid": uid, "allowed": False, "status": {"code": code, "message": message}})


def _answer(response: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
