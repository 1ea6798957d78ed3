"""Handing policies over in one revision: to the cluster object that waits for one, or to the command.

The command takes over what belongs to cluster objects only where this control plane watches no cluster: nobody else
could change it then. Should the objects come back, they wait.
"""

import functools
from collections.abc import Callable
from typing import Any

from attrs import evolve

from control_plane.admin import plain
from control_plane.admin.backend import Backend, in_thread
from control_plane.admin.enforcement import targets_of
from control_plane.admin.policy_changes import read_message
from control_plane.admin.problems import Problem
from control_plane.admin.reading import Body
from control_plane.store.records import Document, PolicyKey, Revision


async def release_policy(backend: Backend, body: Body, author: str) -> dict[str, Any]:
    """Release the policy that `body` names by `kind`, `namespace` and `name`, or `all`. Raises Problem, StoreError."""
    key = None if body.get("all", bool, False) else _key(body)  # a field's default
    message = read_message(body)
    body.done()
    async with backend.changing:
        release = _release(backend, key)
        revision = await in_thread(functools.partial(release, author=author, message=message))
    if revision.changes:
        backend.advance.announce()
    else:
        revision = evolve(revision, number=await in_thread(backend.store.policy_number))
    return {
        **plain.revision(revision),
        "dry_run": False,
        "targets": [str(target) for target in targets_of(revision)],
        "warnings": [],
        "left": [],
    }


def _key(body: Body) -> PolicyKey:
    return body.get("kind", str), body.get("namespace", str), body.get("name", str)


def _release(backend: Backend, key: PolicyKey | None) -> Callable[..., Revision]:
    """What has to be done in the store; `key` None stands for all. Raises Problem."""
    if backend.contact is None:
        return functools.partial(backend.store.take_over_policies, None if key is None else [key])
    if key is None:
        raise Problem(
            409,
            "in_a_cluster",
            "this control plane watches a cluster, whose objects keep their policies: kubectl delete removes both. "
            "Only one that runs with --kubernetes off takes all of them over",
        )
    return functools.partial(backend.store.release_policy, _waiting(backend, key))


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
