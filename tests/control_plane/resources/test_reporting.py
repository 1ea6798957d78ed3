"""Statuses are written where they differ, not too often, again after trouble, and never to another object."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from control_plane.kubernetes.errors import ApiRefused, ApiUnreachable
from control_plane.resources import reporting
from tests.control_plane.resources.conftest import House
from tests.control_plane.resources.test_planning import item
from tests.support.patience import PATIENCE


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "PAUSE_SECONDS", 0.3)
    monkeypatch.setattr(reporting, "BACKOFF_SECONDS", (0.05, 0.1))


@asynccontextmanager
async def reporting_on(house: House) -> AsyncIterator[None]:
    house.list_all()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.sync.run)
        nursery.start_soon(house.reports.run)
        yield
        nursery.cancel_scope.cancel()


async def until(true: Callable[[], Any]) -> None:
    with trio.fail_after(PATIENCE):
        while not true():
            await trio.sleep(0.01)


def names(house: House) -> list[str]:
    return [name for name, _ in house.api.patches]


async def test_a_status_is_written_once_and_only_to_the_object_that_was_read(house: House) -> None:
    async with reporting_on(house):
        house.show(item("a"), item("b", htttp=[]))
        await until(lambda: len(house.api.patches) == 2)
        for _ in range(3):
            house.backend.links.moved.announce()
            await trio.sleep(0.4)
    assert sorted(names(house)) == ["a", "b"]
    patches = dict(house.api.patches)
    assert patches["a"]["metadata"] == {"resourceVersion": "7"}
    assert patches["a"]["status"]["conditions"][0]["reason"] == "Accepted"
    assert patches["b"]["status"]["faults"][0]["path"] == "spec.htttp"


async def test_what_the_watch_shows_counts_after_a_restart_and_where_somebody_else_wrote(house: House) -> None:
    async with reporting_on(house):
        house.show(item("a"), item("b"))
        await until(lambda: len(house.api.patches) == 2)
        written = {name: body["status"] for name, body in house.api.patches}
        good, spoilt = item("a"), item("b")
        good["status"], spoilt["status"] = written["a"], {**written["b"], "faults": [{"path": "x", "message": "y"}]}
        for each in (good, spoilt):
            each["metadata"]["resourceVersion"] = "8"
        house.show(good, spoilt)
        await until(lambda: len(house.api.patches) == 3)
        name, body = house.api.patches[-1]
        assert (name, body["status"]["faults"]) == ("b", None)


async def test_an_object_is_not_written_more_often_than_the_pause_allows(house: House) -> None:
    async with reporting_on(house):
        house.show(item("a"))
        began = trio.current_time()
        generation = 1
        with trio.fail_after(PATIENCE):
            while len(house.api.patches) < 5:
                generation += 1
                house.show(item("a", generation % 3 + 1))
                await trio.sleep(0.01)
        assert len(house.api.patches) <= (trio.current_time() - began) / 0.3 + 1


@pytest.mark.parametrize(
    "error",
    [ApiUnreachable("away"), ApiRefused(403, "Forbidden", "no right"), ApiRefused(500, "InternalError", "broken")],
    ids=["away", "forbidden", "broken"],
)
async def test_what_could_not_be_written_is_written_later(house: House, error: Exception) -> None:
    house.api.failures = [error, error]
    async with reporting_on(house):
        house.show(item("a"))
        await until(lambda: len(house.api.patches) == 3)
        await trio.sleep(0.5)
    assert names(house) == ["a", "a", "a"]


@pytest.mark.parametrize("status", [404, 409, 422])
async def test_an_object_that_refuses_holds_up_no_other_and_is_repaired_when_something_moves(
    house: House, status: int
) -> None:
    async with reporting_on(house):
        house.show()
        await trio.sleep(0.4)
        house.api.failures = [ApiRefused(status, "Conflict", "another one")]
        house.show(*(item(name) for name in "abcdefgh"))
        await until(lambda: len(house.api.patches) == 8)
        refused = house.api.patches[0][0]
        house.backend.links.moved.announce()
        await until(lambda: len(house.api.patches) == 9)
        assert names(house)[-1] == refused
