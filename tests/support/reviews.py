"""What an API server answers to a TokenReview."""

from typing import Any

from control_plane.kubernetes.token_review import POD_NAME, POD_UID


def attested(
    namespace: str, service_account: str, *, pod: str = "pod-1", uid: str = "0f3c", audience: str = "doorward"
) -> dict[str, Any]:
    """It vouches for a token that is bound to a pod, as kube-apiserver 1.37 says it."""
    return _review(
        {
            "authenticated": True,
            "audiences": [audience],
            "user": {
                "username": f"system:serviceaccount:{namespace}:{service_account}",
                "uid": "7b1e",
                "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
                "extra": {
                    POD_NAME: [pod],
                    POD_UID: [uid],
                    "authentication.kubernetes.io/credential-id": ["JTI=4e1c"],
                },
            },
        }
    )


def refused(error: str) -> dict[str, Any]:
    """It does not take the token: what is false or empty is left out."""
    return _review({"user": {}, "error": error})


def _review(status: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "status": status}
