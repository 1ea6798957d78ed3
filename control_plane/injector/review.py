"""One AdmissionReview of Kubernetes, request in and answer out (https://kubernetes.io/docs/reference/access-authn-authz/
extensible-admission-controllers/)."""

from typing import Any

from control_plane.injector.settings import InjectorSettings


def review(body: bytes, settings: InjectorSettings) -> dict[str, Any]:
    """The answer to `body`, an AdmissionReview v1 with its `response`, to be sent as JSON. Never raises."""
    del settings
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "", "allowed": False, "status": {"code": 400, "message": f"{len(body)} bytes not read"}},
    }
