"""Plain data to policies: strict, and with every fault reported at once, each at its path.

Nothing is turned into another type and nothing unknown is skipped: whoever writes a policy file either gets exactly
what stands there or a list of what is wrong (law 11). A reader notes faults as it goes and returns None for what it
could not read; only when no fault was noted in any document is a PolicySet made.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from attrs import frozen

from mesh.policy.faults import Fault, PolicyFaults
from mesh.policy.fields import Node, closest, show
from mesh.policy.model import (
    API_VERSION,
    DEFAULTS_KIND,
    DEFAULTS_NAME,
    Default,
    Destination,
    Key,
    Kind,
    Mode,
    Mtls,
    NamespaceDefaults,
    Origin,
    Policy,
    PolicySet,
)
from mesh.policy.values import read_http, read_name, read_ports, read_sources, read_workload

KINDS = (*(kind.value for kind in Kind), DEFAULTS_KIND)


@frozen
class Document:
    """One document as plain data: `source` and `index` are repeated in faults, so that people find it."""

    source: str
    index: int
    content: object


def read_policies(documents: Iterable[Document]) -> PolicySet:
    """The policies and defaults that `documents` hold. Raises PolicyFaults with every fault of every document."""
    faults: list[Fault] = []
    read: dict[Key, Policy | NamespaceDefaults] = {}
    for document in documents:
        item = _read(document, faults)
        if item is not None and (before := read.setdefault(item.key, item)) is not item:
            faults.append(_duplicate(item, before))
    if faults:
        raise PolicyFaults(faults)
    return PolicySet(
        policies=tuple(each for each in read.values() if isinstance(each, Policy)),
        defaults=tuple(each for each in read.values() if isinstance(each, NamespaceDefaults)),
    )


def document_key(content: Mapping[str, Any]) -> Key:
    """Kind, namespace and name of a document that read_policies accepted."""
    metadata = content["metadata"]
    return (content["kind"], metadata["namespace"], metadata["name"])


def _duplicate(item: Policy | NamespaceDefaults, before: Policy | NamespaceDefaults) -> Fault:
    kind, namespace, name = item.key
    place = f"{before.origin.source}#{before.origin.index}"
    message = f"{kind} {namespace}/{name} is there already, in {place}: give it another name or remove one"
    return Fault(item.origin.source, item.origin.index, "metadata.name", message)


def _read(document: Document, faults: list[Fault]) -> Policy | NamespaceDefaults | None:
    origin = Origin(document.source, document.index)
    noted = len(faults)
    top = Node(document.content, "", lambda path, text: faults.append(Fault(origin.source, origin.index, path, text)))
    fields = top.mapping(required=("apiVersion", "kind", "metadata", "spec"))
    if fields is None:
        return None
    if "apiVersion" in fields:
        fields["apiVersion"].one_of((API_VERSION,))
    kind = _kind(fields)
    namespace, name = _metadata(fields.get("metadata"), only_defaults=kind == DEFAULTS_KIND)
    item: Policy | NamespaceDefaults | None = None
    if "spec" in fields and kind == DEFAULTS_KIND:
        item = _defaults(fields["spec"], namespace, origin)
    elif "spec" in fields and kind is not None:
        item = _policy(fields["spec"], Kind(kind), namespace, name, origin)
    return item if len(faults) == noted else None


def _kind(fields: dict[str, Node]) -> str | None:
    """The kind. After a fault the kind that was probably meant, if any, so that the faults in `spec` are found too."""
    node = fields.get("kind")
    kind = node.one_of(KINDS) if node else None
    if kind is not None:
        return kind
    meant = closest(node.value, KINDS) if node and isinstance(node.value, str) else None
    return meant or _kind_by_spec(fields.get("spec"))


def _kind_by_spec(spec: Node | None) -> str | None:
    keys = spec.value if spec and isinstance(spec.value, dict) else {}
    if "to" in keys or "from" in keys:
        return Kind.ALLOW.value
    return DEFAULTS_KIND if "default" in keys or "mtls" in keys else None


def _metadata(node: Node | None, *, only_defaults: bool) -> tuple[str, str]:
    """Namespace and name; empty after a fault."""
    fields = (node.mapping(required=("name", "namespace")) if node else None) or {}
    namespace, name = (read_name(fields[key]) if key in fields else None for key in ("namespace", "name"))
    if only_defaults and name not in (None, DEFAULTS_NAME):
        fields["name"].fault(f"must be {DEFAULTS_NAME!r}, since a namespace has one: got {show(name)}")
    return (namespace or "", name or "")


def _defaults(spec: Node, namespace: str, origin: Origin) -> NamespaceDefaults | None:
    fields = spec.mapping(optional=("default", "mtls"))
    if fields is None:
        return None
    if not spec.value:
        spec.fault("is empty: write default, mtls or both")
    default = fields["default"].one_of(_words(Default)) if "default" in fields else Default.DENY
    mtls = fields["mtls"].one_of(_words(Mtls)) if "mtls" in fields else Mtls.STRICT
    if default is None or mtls is None:
        return None
    return NamespaceDefaults(namespace, Default(default), Mtls(mtls), origin=origin)


def _policy(spec: Node, kind: Kind, namespace: str, name: str, origin: Origin) -> Policy | None:
    fields = spec.mapping(required=("to", "from"), optional=("mode", "http"))
    if fields is None:
        return None
    mode = fields["mode"].one_of(_words(Mode)) if "mode" in fields else Mode.ENFORCE
    to = _destination(fields["to"]) if "to" in fields else None
    sources = read_sources(fields["from"], namespace) if "from" in fields else None
    http = read_http(fields["http"]) if "http" in fields else None
    if mode is None or to is None or not sources:
        return None
    return Policy(kind, namespace, name, to, sources, http, Mode(mode), origin)


def _destination(node: Node) -> Destination | None:
    fields = node.mapping(required=("workload",), optional=("ports",))
    if fields is None:
        return None
    workload = read_workload(fields["workload"]) if "workload" in fields else None
    ports = read_ports(fields["ports"]) if "ports" in fields else ()
    return Destination(workload, ports) if workload is not None else None


def _words(choices: type[StrEnum]) -> tuple[str, ...]:
    return tuple(choice.value for choice in choices)
