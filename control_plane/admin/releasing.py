"""Handing a policy of the command over to the cluster object that waits for it, in one revision."""

import functools
from typing import Any

from control_plane.admin import plain
from control_plane.admin.backend import Backend, in_thread
from control_plane.admin.enforcement import targets_of
from control_plane.admin.policy_changes import read_message
from control_plane.admin.problems import Problem
from control_plane.admin.reading import Body
from control_plane.store.records import Document, PolicyKey


async def release_policy(backend: Backend, body: Body, author: str) -> dict[str, Any]:
    """Release the policy that `body` names by `kind`, `namespace` and `name`. Raises Problem, StoreError."""
    key = body.get("kind", str), body.get("namespace", str), body.get("name", str)
    message = read_message(body)
    body.done()
    async with backend.changing:
        document = _waiting(backend, key)
        release = functools.partial(backend.store.release_policy, document, author=author, message=message)
        revision = await in_thread(release)
    backend.advance.announce()
    return {
        **plain.revision(revision),
        "dry_run": False,
        "targets": [str(target) for target in targets_of(revision)],
        "warnings": [],
        "left": [],
    }


def _waiting(backend: Backend, key: PolicyKey) -> Document:
    """What the cluster object of this key says. Raises Problem."""
    kind, namespace, name = (part[:253] for part in key)
    if key not in backend.not_accepted.waiting:
        raise Problem(
            409,
            "no_object_waits",
            f"no cluster object {kind} {namespace}/{name} waits for a policy of the command: apply it first, with "
            f"kubectl apply; `kubectl get {kind.lower()} -n {namespace} {name} -o yaml` shows its status",
        )
    document = backend.not_accepted.waiting[key]
    if document is None:
        raise Problem(
            409,
            "object_has_faults",
            f"the cluster object {kind} {namespace}/{name} has faults, and would leave nothing in force: correct it "
            f"first; `kubectl get {kind.lower()} -n {namespace} {name} -o yaml` lists them under status.faults",
        )
    return document
