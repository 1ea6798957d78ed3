"""What is said of one admission in the log: which pod, and what became of it. Nothing else of the pod. Pure."""

import json
from typing import Any

from attrs import frozen

from control_plane.injector.standing import Skip

INJECTED, UNCHANGED, SKIPPED, REFUSED = "injected", "unchanged", "skipped", "refused"
MAX_NAME = 253
MAX_REASON = 1000


@frozen
class Admission:
    """One pod that was asked about. `name` is its own, or what its controller lets the API server complete."""

    namespace: str
    name: str
    dry_run: bool
    outcome: str
    """INJECTED, SKIPPED or REFUSED; or UNCHANGED for a pod that has its sidecar: API servers ask about a pod once more
    where others changed it after us."""
    reason: str
    """Why, where it was not injected; or what the user was warned of."""

    @classmethod
    def of(cls, body: bytes, answer: dict[str, Any]) -> "Admission":
        """From a request's body, which may be anything, and our own answer to it."""
        request = _mapping(_read(body), "request")
        metadata = _mapping(_mapping(request, "object"), "metadata")
        name = _text(request, "name") or _text(metadata, "name") or _text(metadata, "generateName")
        outcome, reason = _outcome(answer["response"])
        return cls(_text(request, "namespace"), name, request.get("dryRun") is True, outcome, reason)


def _outcome(response: dict[str, Any]) -> tuple[str, str]:
    if not response["allowed"]:
        return REFUSED, str(response.get("status", {}).get("message", ""))[:MAX_REASON]
    if "patch" not in response:
        reason = response.get("auditAnnotations", {}).get("skipped", "")
        return UNCHANGED if reason == Skip.INJECTED else SKIPPED, reason
    return INJECTED, "; ".join(response.get("warnings", ()))[:MAX_REASON]


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _mapping(within: Any, key: str) -> dict[str, Any]:
    found = within.get(key) if isinstance(within, dict) else None
    return found if isinstance(found, dict) else {}


def _text(within: dict[str, Any], key: str) -> str:
    found = within.get(key)
    return found[:MAX_NAME] if isinstance(found, str) else ""
