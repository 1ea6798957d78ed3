"""Policies back to plain documents, in one normal form: two documents that mean the same are written the same."""

from typing import Any

from mesh.policy.model import (
    API_VERSION,
    HttpRule,
    IdentitySource,
    NamespaceDefaults,
    Policy,
    Source,
    UnauthenticatedSource,
    WorkloadSource,
)


def to_document(item: Policy | NamespaceDefaults) -> dict[str, Any]:
    """The document of one policy or of a namespace's defaults: plain maps, lists, texts and numbers.

    Reading it gives `item` back. What has a default is written out; a caller's namespace is left out where it is the
    policy's own.
    """
    kind, namespace, name = item.key
    spec = _policy_spec(item) if isinstance(item, Policy) else _defaults_spec(item)
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def _defaults_spec(defaults: NamespaceDefaults) -> dict[str, Any]:
    return {"default": defaults.default.value, "mtls": defaults.mtls.value}


def _policy_spec(policy: Policy) -> dict[str, Any]:
    to: dict[str, Any] = {"workload": policy.to.workload}
    if policy.to.ports:
        to["ports"] = list(policy.to.ports)
    spec: dict[str, Any] = {
        "mode": policy.mode.value,
        "to": to,
        "from": [_source(source, policy.namespace) for source in policy.sources],
    }
    if policy.http is not None:
        spec["http"] = [_http_rule(rule) for rule in policy.http]
    return spec


def _source(source: Source, own_namespace: str) -> dict[str, Any]:
    match source:
        case WorkloadSource(namespace, workload):
            foreign = {} if namespace == own_namespace else {"namespace": namespace}
            return {**foreign, "workload": workload}
        case IdentitySource(identity):
            return {"identity": str(identity)}
        case UnauthenticatedSource(addresses):
            clause: dict[str, Any] = {"unauthenticated": True}
            return {**clause, "addresses": [str(network) for network in addresses]} if addresses else clause


def _http_rule(rule: HttpRule) -> dict[str, Any]:
    written = {"methods": list(rule.methods), "paths": list(rule.paths)}
    return {key: value for key, value in written.items() if value}
