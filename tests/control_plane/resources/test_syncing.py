"""Objects into the store: only from a complete view, as one revision, and again where the store could not."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.control_plane.resources.conftest import House
from tests.control_plane.resources.test_planning import item, key, stored
from tests.support.patience import PATIENCE


@asynccontextmanager
async def syncing(house: House) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.sync.run)
        yield
        nursery.cancel_scope.cancel()


async def until(house: House, expected: dict[str, str]) -> None:
    """Wait until the store holds that and the sync has seen it."""
    with trio.fail_after(PATIENCE):
        while house.stored() != expected or _seen(house) != expected:
            await trio.sleep(0.02)


def _seen(house: House) -> dict[str, str]:
    return {each.name: each.owner for each in house.sync.stored.values()}


def apply(house: House, name: str) -> None:
    """What the command does."""
    house.store.change_policies([stored(name).document], [], author="ann", message="")
    house.backend.advance.announce()


async def test_nothing_is_stored_or_deleted_before_every_kind_was_listed(house: House) -> None:
    house.store.change_policies([stored("old").document], [], author="kubernetes", message="", owner="cluster")
    async with syncing(house):
        house.show(item("a"))
        house.show(kind="DenyPolicy")
        await trio.sleep(0.5)
        assert house.stored() == {"old": "cluster"}
        house.show(kind="NamespaceDefaults")
        await until(house, {"a": "cluster"})
    (newest, _) = house.store.revisions()
    assert (newest.author, newest.message) == (
        "kubernetes",
        "AllowPolicy shop/a generation 1, AllowPolicy shop/old deleted",
    )


async def test_a_change_is_announced_and_repeating_it_stores_nothing(house: House) -> None:
    house.list_all()
    async with syncing(house):
        before = house.backend.advance.count
        house.show(item("a"), item("b", htttp=[]))
        await until(house, {"a": "cluster"})
        assert house.backend.advance.count == before + 1
        house.show(item("a"), item("b", htttp=[]))
        apply(house, "c")
        await until(house, {"a": "cluster", "c": "cli"})
        assert len(house.store.revisions()) == 2


async def test_an_object_waits_for_the_command_and_takes_over_what_it_deletes(house: House) -> None:
    house.list_all()
    apply(house, "a")
    async with syncing(house):
        house.show(item("a", 2))
        with trio.fail_after(PATIENCE):
            while key("a") not in house.backend.not_accepted.waiting:
                await trio.sleep(0.02)
        assert house.stored() == {"a": "cli"}
        assert house.backend.not_accepted.waiting == {key("a"): stored("a", 2).document}
        house.store.change_policies([], [key("a")], author="ann", message="")
        house.backend.advance.announce()
        await until(house, {"a": "cluster"})
        assert house.backend.not_accepted.waiting == {}


async def test_a_store_that_fails_is_tried_again(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house.list_all()
    async with syncing(house):
        with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
            connection.execute("ALTER TABLE policies RENAME TO hidden")
            house.show(item("a"))
            with trio.fail_after(PATIENCE):
                while "cannot be stored" not in caplog.text:
                    await trio.sleep(0.02)
            connection.execute("ALTER TABLE hidden RENAME TO policies")
        await until(house, {"a": "cluster"})


async def test_what_is_not_accepted_is_logged_once_and_counted(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.list_all()
    apply(house, "mine")

    def count(verdict: str) -> Any:
        labels = {"verdict": verdict}
        return house.sync.metrics.registry.get_sample_value("doorward_control_plane_policy_objects", labels)

    async with syncing(house):
        house.show(item("bad", htttp=[]), item("mine"), item("good"))
        await until(house, {"good": "cluster", "mine": "cli"})
        ((found, (fault,)),) = house.backend.not_accepted.faulty.items()
        assert (found, fault.path) == (key("bad"), "spec.htttp")
        apply(house, "other")
        await until(house, {"good": "cluster", "mine": "cli", "other": "cli"})
    assert [count(each) for each in ("accepted", "faults", "owned_by_cli", "pending")] == [1, 1, 1, 0]
    told = [record.__dict__["fields"] for record in caplog.records if record.getMessage().endswith("not accepted")]
    assert sorted((each["object"], each["reason"]) for each in told) == [
        ("shop/bad", "faults"),
        ("shop/mine", "owned_by_cli"),
    ]
