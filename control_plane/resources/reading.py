"""Objects read as policy documents, each on its own: what is wrong with one costs no other. Pure."""

from collections.abc import Iterable, Mapping

from attrs import frozen

from control_plane.policies import documents_of
from control_plane.resources.objects import MAX_BYTES, ClusterObject
from control_plane.store.records import Document, PolicyKey
from mesh.policy import Document as Source
from mesh.policy import Fault, PolicyFaults, read_policies


@frozen
class Reading:
    """An object, and either its document in the store's normal form or everything that is wrong with it."""

    object: ClusterObject
    document: Document | None
    faults: tuple[Fault, ...] = ()


Readings = Mapping[PolicyKey, Reading]


def read(found: ClusterObject) -> Reading:
    """Read one object."""
    source = f"{found.kind} {found.namespace}/{found.name}"
    if found.too_large:
        message = f"has {found.too_large} bytes as JSON, more than {MAX_BYTES}: make several policies of it"
        return Reading(found, None, (Fault(source, 0, "", message),))
    try:
        policies = read_policies([Source(source, 0, found.content)])
    except PolicyFaults as error:
        return Reading(found, None, error.faults)
    (document,) = documents_of(policies)
    return Reading(found, document)


def read_all(objects: Iterable[ClusterObject], before: Readings) -> Readings:
    """Read every object; what says the same as `before` is not read again."""
    return {each.key: _reread(each, before.get(each.key)) for each in objects}


def _reread(found: ClusterObject, before: Reading | None) -> Reading:
    if before is not None and (before.object is found or _same(before.object, found)):
        return Reading(found, before.document, before.faults)
    return read(found)


def _same(one: ClusterObject, other: ClusterObject) -> bool:
    """The generation is not enough: kubectl's annotation is metadata, and counts for nulls."""
    return (one.uid, one.generation, one.content, one.too_large) == (
        other.uid,
        other.generation,
        other.content,
        other.too_large,
    )
