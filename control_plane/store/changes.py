"""What a change of policies amounts to, document by document, and whose it is to make.

Pure: the store writes it, `diff` shows it. One rule says who may change what: a document belongs to whoever made it,
the `doorward` command or an object in the cluster, and the other one cannot change it.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from control_plane.store.errors import OwnedByOther, StoreError
from control_plane.store.records import Change, Document, Owner, PolicyKey, StoredPolicy, key_of

_NAMED: Final = 10  # documents that a refusal names


def changes_between(
    stored: Mapping[PolicyKey, Document], put: Sequence[Document], delete: Sequence[PolicyKey]
) -> tuple[Change, ...]:
    """What happens to `stored` where `put` is added or replaced and `delete` removed, ordered by namespace and name.

    Raises StoreError (`conflicting_change`) where a key is named twice.
    """
    _check_once([key_of(document) for document in put] + list(delete))
    changes = [*_puts(stored, put), *_deletions(stored, delete)]
    return in_order(changes)


def in_order(changes: Iterable[Change]) -> tuple[Change, ...]:
    """By namespace and name, as a revision has them."""
    return tuple(sorted(changes, key=lambda change: (change.namespace, change.name, change.kind)))


def check_owner(stored: Iterable[StoredPolicy], keys: Iterable[PolicyKey], owner: Owner) -> None:
    """Raises OwnedByOther where one of `keys` is stored and is not `owner`'s, even if it would stay as it is."""
    wanted = set(keys)
    foreign = [policy for policy in stored if policy.key in wanted and policy.owner != owner]
    if foreign:
        raise OwnedByOther(f"{_names(foreign)}: {_advice(foreign[0])}", code=f"owned_by_{foreign[0].owner}")


def canonical(document: Document) -> str:
    """One text for one meaning: equal exactly where two documents say the same."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _check_once(keys: Sequence[PolicyKey]) -> None:
    key, times = max(Counter(keys).items(), key=lambda item: item[1], default=(None, 0))
    if key is not None and times > 1:
        kind, namespace, name = key
        raise StoreError(f"{kind} {namespace}/{name} is named twice in one change", code="conflicting_change")


def _puts(stored: Mapping[PolicyKey, Document], put: Sequence[Document]) -> Iterator[Change]:
    for document in put:
        key = key_of(document)
        before = stored.get(key)
        if before is None:
            yield Change("added", *key, None, document)
        elif canonical(before) == canonical(document):
            yield Change("unchanged", *key, before, before)
        else:
            yield Change("replaced", *key, before, document)


def _deletions(stored: Mapping[PolicyKey, Document], delete: Sequence[PolicyKey]) -> Iterator[Change]:
    for key in delete:
        if key in stored:
            yield Change("removed", *key, stored[key], None)


def _names(foreign: Sequence[StoredPolicy]) -> str:
    names = ", ".join(f"{each.kind} {each.namespace}/{each.name}" for each in foreign[:_NAMED])
    return names if len(foreign) <= _NAMED else f"{names} and {len(foreign) - _NAMED} more"


def _advice(policy: StoredPolicy) -> str:
    kind, namespace, name = policy.kind.lower(), policy.namespace, policy.name
    if policy.owner == "cluster":
        return (
            "what an object in the cluster says is changed there: "
            f"kubectl edit {kind} -n {namespace} {name}, or kubectl delete {kind} -n {namespace} {name}; "
            "a control plane that watches no cluster takes it over: "
            f"doorward policy release {policy.kind} {namespace}/{name}"
        )
    return (
        "what the command has applied is the command's, until it hands it over: "
        f"doorward policy release {policy.kind} {namespace}/{name}"
    )
