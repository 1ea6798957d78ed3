"""What a status says: it is true, it is bounded, and it changes only where something changed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from control_plane.admin.enforcement import Enforcement
from control_plane.push.links import LinkStatus
from control_plane.resources.planning import verdict
from control_plane.resources.reading import Reading
from control_plane.resources.statuses import MAX_FAULTS, MESSAGE_CHARACTERS, change_to, status_of
from control_plane.store.records import StoredPolicy
from tests.control_plane.resources.test_planning import item, key, read, stored

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def one(*args: Any, **how: Any) -> Reading:
    return read(item("a", *args, **how))[key("a")]


def enforcement(on: int, of: int) -> Enforcement:
    behind = LinkStatus("spiffe://x", "i", "", "", None, None, NOW, NOW, (), (), None)
    return Enforcement(on, of, (behind,) * (of - on))


def status(
    reading: Reading, have: StoredPolicy | None, on: int = 0, of: int = 0, now: datetime = NOW
) -> dict[str, Any]:
    count = None if have is None else enforcement(on, of)
    found = status_of(reading, verdict(reading, have), have, count, now)
    assert found is not None
    return found


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    return {each["type"]: (each["status"], each["reason"], each["message"]) for each in found["conditions"]}


@pytest.mark.parametrize(
    ("on", "of", "expected"),
    [
        (3, 3, ("True", "EnforcedEverywhere", "enforced on 3 of 3 sidecars")),
        (2, 3, ("False", "Waiting", "enforced on 2 of 3 sidecars; `doorward sidecars` shows who is behind")),
        (0, 0, ("Unknown", "NoSidecars", "no sidecar is concerned")),
    ],
)
def test_an_accepted_object_says_where_it_is_enforced(on: int, of: int, expected: tuple[str, str, str]) -> None:
    found = status(one(4), stored("a", 4), on, of)
    assert conditions(found) == {"Accepted": ("True", "Accepted", "in force since revision 3"), "Enforced": expected}
    assert (found["number"], found["sidecars"], found["enforcedOn"], found["observedGeneration"]) == (
        3,
        {"enforced": on, "concerned": of},
        f"{on}/{of}",
        4,
    )
    assert "faults" not in found


def test_a_faulty_object_lists_its_faults_and_says_that_the_older_version_is_enforced() -> None:
    found = status(one(2, htttp=[], mode="enfoce"), stored("a"), 3, 3)
    said = conditions(found)
    assert said["Accepted"][:2] == ("False", "Faults")
    assert said["Accepted"][2].startswith("the version of revision 3 stays in force; 2 faults: spec.htttp: unknown key")
    assert [each["path"] for each in found["faults"]] == ["spec.htttp", "spec.mode"]
    assert said["Enforced"] == (
        "True",
        "EnforcedEverywhere",
        "enforced on 3 of 3 sidecars (the version of revision 3, not what stands here now)",
    )
    assert found["number"] == 3


def test_an_object_that_was_never_good_has_nothing_in_force() -> None:
    found = status(one(http=None), None)
    assert conditions(found)["Accepted"][2].startswith("nothing is in force; 1 fault: spec.http: must be a list")
    assert conditions(found)["Enforced"] == ("False", "NothingInForce", "nothing of this object is in force")
    assert {"number", "sidecars", "enforcedOn"} & found.keys() == set()


def test_an_object_under_a_name_of_the_command_names_the_command_that_releases_it() -> None:
    said = conditions(status(one(), stored("a", owner="cli"), 3, 3))
    assert said["Accepted"][:2] == ("False", "OwnedByCLI")
    assert "doorward policy release AllowPolicy shop/a" in said["Accepted"][2]
    assert said["Enforced"][:2] == ("False", "NothingInForce")
    faulty = status(one(http=None), stored("a", owner="cli"))
    assert "spec.http" in conditions(faulty)["Accepted"][2]
    assert [each["path"] for each in faulty["faults"]] == ["spec.http"]


def test_while_a_good_object_is_not_stored_its_status_stays() -> None:
    reading = one(2)
    assert status_of(reading, verdict(reading, stored("a")), stored("a"), enforcement(1, 1), NOW) is None


def test_times_move_with_a_condition_s_status_and_with_nothing_else() -> None:
    reading, times = one(), []
    for minute, (on, of) in enumerate([(0, 2), (1, 2), (2, 2), (2, 2), (3, 3), (2, 3)]):
        found = status(reading, stored("a"), on, of, NOW + timedelta(minutes=minute))
        reading = evolve(reading, object=evolve(reading.object, status=found))
        times.append([each["lastTransitionTime"][14:16] for each in found["conditions"]])
    assert times == [["00", "00"], ["00", "00"], ["00", "02"], ["00", "02"], ["00", "02"], ["00", "05"]]


def test_only_what_differs_is_written_and_what_is_over_is_removed() -> None:
    reading = one(2, htttp=[])
    faulty = status(reading, stored("a"), 1, 1)
    good = status(one(3), stored("a", 3), 1, 1)
    patch = change_to(good, faulty)
    assert patch is not None
    assert (patch["faults"], patch["conditions"]) == (None, good["conditions"])
    assert change_to(good, good) is None
    assert change_to(good, {}) == good


def test_a_status_is_bounded_however_many_faults_there_are() -> None:
    found = status(one(**{f"unknown{'x' * 40}{number}": 1 for number in range(1000)}), None)
    assert len(found["faults"]) == MAX_FAULTS
    message = conditions(found)["Accepted"][2]
    assert message.startswith("nothing is in force; 1000 faults: ")
    assert len(message) <= MESSAGE_CHARACTERS


@pytest.mark.parametrize(
    "odd", [{"conditions": 3}, {"conditions": [3, None, {"type": "Accepted"}]}, {"conditions": {}}]
)
def test_a_status_that_somebody_else_wrote_is_replaced(odd: dict[str, Any]) -> None:
    reading = one()
    reading = evolve(reading, object=evolve(reading.object, status=odd))
    found = status(reading, stored("a"), 1, 1)
    assert change_to(found, odd) == found
