"""One policy object as the API server has it, cut down to what a policy is made of.

A client-side `kubectl apply` leaves out keys without a value before the API server sees them (it takes null for "remove
this"), and an empty `http:` would become a policy that allows any traffic. What was written is in the annotation that
kubectl keeps, so such keys are put back, as the nulls that they were, for the reader to refuse (law 11).
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from control_plane.store.records import PolicyKey
from mesh.policy import Kind
from mesh.policy.model import API_VERSION, DEFAULTS_KIND

PLURALS: Final[Mapping[str, str]] = {
    Kind.ALLOW.value: "allowpolicies",
    Kind.DENY.value: "denypolicies",
    DEFAULTS_KIND: "namespacedefaults",
}
"""Every kind, and what the API calls many of it."""

APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
MAX_DEPTH: Final = 16
"""Maps and lists within each other; a policy has 5."""
MAX_BYTES: Final = 128 * 1024
"""Of one document in JSON: reading it, keeping its history and sending it to sidecars costs in proportion."""
_ASIDE: Final = ("metadata", "status")


@frozen
class ClusterObject:
    """One object: `content` is its policy document, `status` what it says there now; `version` its resourceVersion.

    Of one that is larger than MAX_BYTES, `too_large` is how many it has, and the content is left out.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    version: str
    content: Mapping[str, Any]
    status: Mapping[str, Any]
    too_large: int = 0

    @property
    def key(self) -> PolicyKey:
        """Kind, namespace and name."""
        return self.kind, self.namespace, self.name

    @property
    def status_path(self) -> str:
        """Where its status is written."""
        return f"{collection(self.kind, self.namespace)}/{self.name}/status"


def collection(kind: str, namespace: str = "") -> str:
    """The API's path for objects of a kind: in one namespace, or with "" in all."""
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{API_VERSION}{within}/{PLURALS[kind]}"


def kept(kind: str, item: dict[str, Any]) -> ClusterObject:
    """What is remembered of an object of `kind`. Of its metadata only name and namespace enter the document."""
    metadata = item["metadata"]
    rest = {key: value for key, value in item.items() if key not in _ASIDE}
    document = {"apiVersion": API_VERSION, "kind": kind, **_with_nulls(rest, _applied(metadata))}
    size = len(json.dumps(document))
    if size > MAX_BYTES:
        document = {"apiVersion": API_VERSION, "kind": kind}
    document["metadata"] = {"name": metadata["name"], "namespace": metadata.get("namespace", "")}
    status = item.get("status")
    return ClusterObject(
        kind=kind,
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation", 0)),
        version=str(metadata.get("resourceVersion", "")),
        content=document,
        status=status if isinstance(status, dict) else {},
        too_large=size if size > MAX_BYTES else 0,
    )


def _applied(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What kubectl was told to apply; empty where there is no such thing."""
    annotations = metadata.get("annotations")
    text = annotations.get(APPLIED) if isinstance(annotations, dict) else None
    try:
        applied = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    return {key: value for key, value in applied.items() if key not in _ASIDE} if isinstance(applied, dict) else {}


def _with_nulls(value: Any, applied: Any, depth: int = 0) -> Any:
    """`value`, and every null of `applied` whose key is missing there; what is nested deeper than a policy is cut off.

    Only an unknown key holds such a thing, and is a fault whatever it holds; comparing it could end us.
    """
    if depth > MAX_DEPTH and isinstance(value, (dict, list)):
        return None
    if isinstance(value, dict):
        was = applied if isinstance(applied, dict) else {}
        nulls = {key: None for key, each in was.items() if each is None and key not in value}
        return {key: _with_nulls(each, was.get(key), depth + 1) for key, each in value.items()} | nulls
    if isinstance(value, list):
        were = applied if isinstance(applied, list) and len(applied) == len(value) else [None] * len(value)
        return [_with_nulls(each, was, depth + 1) for each, was in zip(value, were, strict=True)]
    return value
