"""Changing the stored policies: read every document, plan, store, announce; all or nothing.

The server reads the documents itself, whatever the client has checked, so that nothing gets into the store that
`mesh.policy` refuses. Reading and compiling run in a thread: a large set must not hold up the links.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import evolve

from control_plane import policies
from control_plane.admin import plain
from control_plane.admin.backend import Backend, in_thread
from control_plane.admin.enforcement import targets_of
from control_plane.admin.problems import Problem
from control_plane.admin.reading import Body
from control_plane.store.records import PolicyKey, Revision, StoredPolicy, key_of
from control_plane.store.store import Store
from mesh.policy import Document, Fault, PolicyFaults, PolicySet, lint, read_policies

MAX_MESSAGE = 1000


async def change_policies(backend: Backend, body: Body, author: str) -> dict[str, Any]:
    """Do what `body` asks and say what it did. Raises Problem, having stored nothing.

    Fields: `put` (documents as {source, index, content}), `delete` (keys as {kind, namespace, name}), `prune`,
    `message`, `dry_run`.
    """
    documents = [_document(each) for each in body.get("put", list, [])]
    delete = [_key(each) for each in body.get("delete", list, [])]
    prune, dry_run = body.get("prune", bool, False), body.get("dry_run", bool, False)  # field defaults
    message = read_message(body)
    body.done()
    found = await in_thread(functools.partial(_read, documents))
    async with backend.changing:
        stored = await in_thread(backend.store.policies)
        to_put, to_delete, left = policies.plan(policies.documents_of(found), stored, prune=prune)
        gone = [*to_delete, *delete]
        if dry_run:
            changes = policies.preview(to_put, gone, stored)
            number = await in_thread(backend.store.policy_number)
            revision = Revision(number, author, backend.clock(), message, changes)
        else:
            revision = await in_thread(
                functools.partial(backend.store.change_policies, to_put, gone, author=author, message=message)
            )
    warnings = await in_thread(functools.partial(_warnings, found, stored, gone))
    if all(each.action == "unchanged" for each in revision.changes):
        revision = evolve(revision, number=await in_thread(backend.store.policy_number))
    elif not dry_run:
        backend.advance.announce()
    return {
        **plain.revision(revision),
        "dry_run": dry_run,
        "targets": [str(target) for target in targets_of(revision)],
        "warnings": [str(fault) for fault in warnings],
        "left": [plain.key(each) for each in left],
    }


def read_message(body: Body) -> str:
    """The field `message`: why something is changed. Raises Problem."""
    message = body.get("message", str, "")
    if len(message) > MAX_MESSAGE:
        raise Problem(400, "message_too_long", f"a message has at most {MAX_MESSAGE} characters")
    return message


def stored_policy_set(store: Store) -> tuple[PolicySet, int]:
    """The policies in force as `decide` needs them, and the revision that they are of. Blocks."""
    return _read_stored(store.policies()), store.policy_number()


def _read_stored(stored: Iterable[StoredPolicy]) -> PolicySet:
    return read_policies([Document(f"{each.kind} {each.namespace}/{each.name}", 0, each.document) for each in stored])


def _read(documents: Sequence[Document]) -> PolicySet:
    try:
        return read_policies(documents)
    except PolicyFaults as error:
        count = len(error.faults)
        message = f"nothing was stored: {count} fault{'s' if count > 1 else ''} in the policies"
        raise Problem(422, "policy_faults", message, error.faults) from error


def _warnings(found: PolicySet, stored: Iterable[StoredPolicy], gone: Iterable[PolicyKey]) -> list[Fault]:
    """What surprises about `found`, beside all that stays in force: defaults in another file count too."""
    away = {*gone, *map(key_of, policies.documents_of(found))}
    try:
        rest = _read_stored(each for each in stored if each.key not in away)
    except PolicyFaults:
        rest = PolicySet()  # `doorward check` tells of it
    own = {(each.origin.source, each.origin.index) for each in found.policies}
    together = PolicySet(found.policies + rest.policies, found.defaults + rest.defaults)
    return [fault for fault in lint(together) if (fault.source, fault.index) in own]


def _document(each: object) -> Document:
    match each:
        case {"source": str(source), "index": int(index), "content": content, **rest} if not rest:
            return Document(source, index, content)
    raise Problem(400, "bad_document", "each document is an object of source (text), index (number) and content")


def _key(each: object) -> PolicyKey:
    match each:
        case {"kind": str(kind), "namespace": str(namespace), "name": str(name), **rest} if not rest:
            return kind, namespace, name
    raise Problem(400, "bad_key", "each entry of delete is an object of kind, namespace and name, all text")
