"""What a change of policies amounts to, document by document. Pure: the store writes it, `diff` shows it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from control_plane.store.errors import StoreError
from control_plane.store.records import Change, Document, PolicyKey, key_of


def changes_between(
    stored: Mapping[PolicyKey, Document], put: Sequence[Document], delete: Sequence[PolicyKey]
) -> tuple[Change, ...]:
    """What happens to `stored` where `put` is added or replaced and `delete` removed, ordered by namespace and name.

    Raises StoreError (`conflicting_change`) where a key is named twice.
    """
    _check_once([key_of(document) for document in put] + list(delete))
    changes = [*_puts(stored, put), *_deletions(stored, delete)]
    return tuple(sorted(changes, key=lambda change: (change.namespace, change.name, change.kind)))


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
