"""What an object's status says: whether this version of it is in force, and where what is in force is enforced. Pure.

The form is that of Kubernetes' API conventions: conditions with a reason in one word, `observedGeneration`, and a
`lastTransitionTime` that moves only with the condition's status.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from attrs import frozen

from control_plane.admin.enforcement import Enforcement
from control_plane.resources.planning import Verdict
from control_plane.resources.reading import Reading
from control_plane.store.records import StoredPolicy

MAX_FAULTS: Final = 50
FAULT_CHARACTERS: Final = 300
MESSAGE_CHARACTERS: Final = 4000

Status = dict[str, Any]


@frozen
class _Condition:
    kind: str
    status: str
    reason: str
    message: str


def status_of(
    reading: Reading, found: Verdict, stored: StoredPolicy | None, enforcement: Enforcement | None, now: datetime
) -> Status | None:
    """The status of an object whose key is stored as `stored`, which is enforced as `enforcement` says.

    None while the object is good and not stored yet: what its status says meanwhile is still true of what it names.
    """
    if found is Verdict.PENDING:
        return None
    in_force = stored if stored is not None and stored.owner == "cluster" else None
    conditions = (_accepted(found, reading, stored), _enforced(found, in_force, enforcement))
    status: Status = {
        "observedGeneration": reading.object.generation,
        "conditions": [_written(each, reading, now) for each in conditions],
    }
    if reading.faults:
        status["faults"] = [
            {"path": each.path[:FAULT_CHARACTERS], "message": each.message[:FAULT_CHARACTERS]}
            for each in reading.faults[:MAX_FAULTS]
        ]
    if in_force is not None and enforcement is not None:
        status["number"] = in_force.number
        status["sidecars"] = {"enforced": enforcement.on, "concerned": enforcement.of}
        status["enforcedOn"] = f"{enforcement.on}/{enforcement.of}"
    return status


def change_to(status: Status, current: Mapping[str, Any]) -> dict[str, Any] | None:
    """The merge patch (RFC 7396) that makes `status` of `current`; None where that says the same."""
    if status == current:
        return None
    return {**status, **{key: None for key in current if key not in status}}


def _accepted(found: Verdict, reading: Reading, stored: StoredPolicy | None) -> _Condition:
    if found is Verdict.OWNED_BY_CLI:
        kind, namespace, name = reading.object.key
        advice = f"hand it over with: doorward policy release {kind} {namespace}/{name}"
        message = f"`doorward policy apply` made what is in force under this name, and it stays in force; {advice}"
        if reading.faults:
            message += f", once nothing is wrong with this object: {_listed(reading)}"
        return _Condition("Accepted", "False", "OwnedByCLI", _bounded(message))
    if found is Verdict.FAULTS:
        force = f"the version of revision {stored.number} stays in force" if stored else "nothing is in force"
        return _Condition("Accepted", "False", "Faults", _bounded(f"{force}; {_listed(reading)}"))
    assert stored is not None
    return _Condition("Accepted", "True", "Accepted", f"in force since revision {stored.number}")


def _enforced(found: Verdict, in_force: StoredPolicy | None, enforcement: Enforcement | None) -> _Condition:
    if in_force is None or enforcement is None:
        return _Condition("Enforced", "False", "NothingInForce", "nothing of this object is in force")
    older = found is not Verdict.ACCEPTED
    which = f" (the version of revision {in_force.number}, not what stands here now)" if older else ""
    if not enforcement.of:
        return _Condition("Enforced", "Unknown", "NoSidecars", f"no sidecar is concerned{which}")
    count = f"enforced on {enforcement.on} of {enforcement.of} sidecars{which}"
    if enforcement.waiting:
        return _Condition("Enforced", "False", "Waiting", f"{count}; `doorward sidecars` shows who is behind")
    return _Condition("Enforced", "True", "EnforcedEverywhere", count)


def _listed(reading: Reading) -> str:
    count = len(reading.faults)
    faults = "; ".join(
        f"{each.path}: {each.message}" if each.path else each.message for each in reading.faults[:MAX_FAULTS]
    )
    return f"{count} fault{'s' if count > 1 else ''}: {faults}"


def _bounded(message: str) -> str:
    return message if len(message) <= MESSAGE_CHARACTERS else message[: MESSAGE_CHARACTERS - 1] + "…"


def _written(condition: _Condition, reading: Reading, now: datetime) -> dict[str, Any]:
    return {
        "type": condition.kind,
        "status": condition.status,
        "observedGeneration": reading.object.generation,
        "lastTransitionTime": _since(condition, reading.object.status) or f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "reason": condition.reason,
        "message": condition.message,
    }


def _since(condition: _Condition, status: Mapping[str, Any]) -> str | None:
    """Since when the object says the same of this condition; None where it says something else."""
    conditions = status.get("conditions")
    for each in conditions if isinstance(conditions, list) else ():
        match each:
            case {"type": condition.kind, "status": condition.status, "lastTransitionTime": str(time)}:
                return time
    return None
