"""What has to be stored so that the store says what the cluster's objects say, as far as they may. Pure.

One rule: a document belongs to whoever made it. What the command has applied is never touched; its object waits. A
faulty object changes nothing: the last good version of it, if there was one, stays in force.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from attrs import frozen

from control_plane.resources.reading import Reading, Readings
from control_plane.store.changes import canonical
from control_plane.store.records import Document, PolicyKey, StoredPolicy

MESSAGE_CHARACTERS: Final = 500

Stored = Mapping[PolicyKey, StoredPolicy]


class Verdict(StrEnum):
    """What became of an object."""

    ACCEPTED = "accepted"
    FAULTS = "faults"
    OWNED_BY_CLI = "owned_by_cli"
    PENDING = "pending"
    """It is good, and not stored yet."""


@frozen
class Plan:
    """What to put and what to delete, as one revision with this message."""

    put: tuple[Document, ...]
    delete: tuple[PolicyKey, ...]
    message: str


def plan(readings: Readings, stored: Stored) -> Plan | None:
    """What the cluster's objects, all of them, ask of the store. None where it says that already."""
    to_put = [each for key, each in readings.items() if verdict(each, stored.get(key)) is Verdict.PENDING]
    gone = [policy.key for policy in stored.values() if policy.owner == "cluster" and policy.key not in readings]
    if not to_put and not gone:
        return None
    words = [*map(_said, to_put), *(f"{_name(key)} deleted" for key in gone)]
    return Plan(tuple(each.document for each in to_put if each.document is not None), tuple(gone), _message(words))


def verdict(reading: Reading, stored: StoredPolicy | None) -> Verdict:
    """What became of this object, where `stored` is the document of its key."""
    if stored is not None and stored.owner == "cli":
        return Verdict.OWNED_BY_CLI
    if reading.document is None:
        return Verdict.FAULTS
    same = stored is not None and canonical(stored.document) == canonical(reading.document)
    return Verdict.ACCEPTED if same else Verdict.PENDING


def _said(reading: Reading) -> str:
    return f"{_name(reading.object.key)} generation {reading.object.generation}"


def _name(key: PolicyKey) -> str:
    kind, namespace, name = key
    return f"{kind} {namespace}/{name}"


def _message(words: Iterable[str]) -> str:
    """The words as one bounded text; how many were left out stands at its end."""
    left = list(words)
    message = left.pop(0)
    while left and len(message) + len(left[0]) < MESSAGE_CHARACTERS:
        message += f", {left.pop(0)}"
    return f"{message} and {len(left)} more" if left else message
