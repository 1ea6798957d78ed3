"""What a watch does about answers that a real API server gives seldom: malformed, expired, refused, ended at once."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing
from attrs import Factory, define

from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.contact import Contact
from control_plane.kubernetes.errors import ApiRefused, ApiUnreachable
from control_plane.kubernetes.watching import BACKOFF_SECONDS, Watched
from control_plane.metrics import Metrics
from tests.support.api_server import Answer, ApiServer, Asked, api_server

EXPIRED = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
SECONDS = 30.0


def thing(name: str, version: int, value: object = 1) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop", "resourceVersion": str(version)}, "value": value}


def listed(version: int, *items: Any, more: str = "") -> Answer:
    return 200, {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(items)}


def events(*said: tuple[str, Any]) -> Answer:
    return 200, b"".join(json.dumps({"type": kind, "object": item}).encode() + b"\n" for kind, item in said)


def value(item: dict[str, Any]) -> int | None:
    found = item["value"]
    if found == "broken":
        raise ValueError(found)
    return found if isinstance(found, int) else None


@pytest.fixture
def answers() -> list[Answer]:
    """What the server says, one after the other; the last one again and again."""
    return []


@pytest.fixture
def server(tmp_path: Path, answers: list[Answer]) -> Iterator[ApiServer]:
    """An API server of whose answers the test decides."""

    def answer(asked: Asked) -> Answer:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    with api_server(tmp_path, answer) as server:
        yield server


async def run_until(
    server: ApiServer, condition: Callable[[Watched[Any]], object], keep: Callable[[dict[str, Any]], Any] = value
) -> Watched[Any]:
    """Run one until the condition holds at an announcement."""
    async with server.api() as api, trio.open_nursery() as nursery:
        watched = Watched(api, "/api/v1/things", keep)
        nursery.start_soon(watched.run)
        with trio.fail_after(SECONDS):
            while not condition(watched):
                await watched.changed.wait()
        nursery.cancel_scope.cancel()
    return watched


def paths(server: ApiServer) -> list[str]:
    """The kinds of requests that it was asked, in order."""
    return ["watch" if "watch=true" in asked.path else "list" for asked in server.asked]


@pytest.mark.parametrize(
    "bad",
    [
        events(("ADDED", thing("b", 2)), ("ERROR", EXPIRED)),
        (410, EXPIRED),
        (200, b"{not json}\n"),
        events(("INVENTED", thing("b", 2))),
        events(("ADDED", {"metadata": {}})),
        events(("ADDED", {"metadata": {"name": 1, "resourceVersion": "2"}})),
        events(("ADDED", {"metadata": "x"})),
        events(("BOOKMARK", {})),
        events(("BOOKMARK", {"metadata": {"resourceVersion": "\ud800"}})),
    ],
)
async def test_after_an_expired_or_malformed_event_everything_is_listed_anew(
    server: ApiServer, answers: list[Answer], bad: Answer
) -> None:
    answers[:] = [listed(1, thing("a", 1)), bad, listed(9, thing("c", 9)), events()]
    watched = await run_until(server, lambda watched: ("shop", "c") in watched.objects)
    assert watched.objects == {("shop", "c"): 1}  # the new list replaces all
    assert paths(server)[:3] == ["list", "watch", "list"]


@pytest.mark.parametrize("bad", [(500, b""), (403, {"code": 403}), events(("ERROR", {"code": 500}))])
async def test_after_any_other_failure_the_watch_is_resumed(
    server: ApiServer, answers: list[Answer], bad: Answer
) -> None:
    answers[:] = [listed(1, thing("a", 1)), bad, events(("ADDED", thing("b", 2)))]
    watched = await run_until(server, lambda watched: len(watched.objects) == 2)
    assert watched.objects == {("shop", "a"): 1, ("shop", "b"): 1}
    assert paths(server)[:3] == ["list", "watch", "watch"]
    assert "resourceVersion=1&" in server.asked[2].path


async def test_a_page_that_expired_begins_the_list_anew(server: ApiServer, answers: list[Answer]) -> None:
    answers[:] = [
        listed(1, thing("a", 1), more="next"),
        (410, EXPIRED),
        listed(2, thing("b", 2), more="next"),
        listed(2, thing("c", 2)),
        events(),
    ]
    watched = await run_until(server, lambda watched: watched.synced)
    assert set(watched.objects) == {("shop", "b"), ("shop", "c")}
    continued = ["continue=next" in asked.path for asked in server.asked[:4]]
    assert continued == [False, True, False, True]


@pytest.mark.parametrize(
    "bad",
    [
        (200, {}),
        (200, {"items": [1], "metadata": {}}),
        (200, {"items": {}, "metadata": 1}),
        (200, {"items": [], "metadata": {"resourceVersion": "1", "continue": "\ud800"}}),
    ],
)
async def test_nothing_is_synced_before_one_complete_list(
    server: ApiServer, answers: list[Answer], bad: Answer
) -> None:
    answers[:] = [bad, listed(1, thing("a", 1), more="next"), bad, listed(1), events()]
    watched = await run_until(server, lambda watched: watched.synced)
    assert (watched.objects, paths(server)[:4]) == ({}, ["list"] * 4)


async def test_an_object_that_cannot_be_read_costs_only_itself(
    server: ApiServer, answers: list[Answer], caplog: pytest.LogCaptureFixture
) -> None:
    broken = thing("a", 2, "broken")
    answers[:] = [listed(1, thing("a", 1), broken), events(("ADDED", thing("b", 3))), events()]
    watched = await run_until(server, lambda watched: ("shop", "b") in watched.objects)
    assert watched.objects == {("shop", "b"): 1}
    assert caplog.records[0].fields["object"] == "shop/a"


class TooDeep:
    """What cannot be compared, as Python's own values where they are nested a thousand deep."""

    def __eq__(self, other: object) -> bool:
        raise RecursionError

    __hash__ = None  # type: ignore[assignment]  # as those


async def test_what_nobody_foresaw_ends_nothing(
    server: ApiServer, answers: list[Answer], caplog: pytest.LogCaptureFixture
) -> None:
    changed = events(("MODIFIED", thing("a", 2)))
    answers[:] = [listed(1, thing("a", 1)), changed, listed(3, thing("b", 3)), events()]
    watched = await run_until(server, lambda watched: ("shop", "b") in watched.objects, lambda _: TooDeep())
    assert paths(server)[:3] == ["list", "watch", "list"]
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [RecursionError]
    assert watched.api.contact.metrics.failures.labels("kubernetes")._value.get() == 1


async def test_events_that_come_together_are_one_change(server: ApiServer, answers: list[Answer]) -> None:
    many = [("ADDED", thing(f"t{number}", number)) for number in range(2, 50)]
    answers[:] = [listed(1), events(*many, ("BOOKMARK", {"metadata": {"resourceVersion": "99"}})), events()]
    watched = await run_until(server, lambda watched: len(watched.objects) == 48)
    assert watched.changed.count == 2
    assert watched._version == "99"


@pytest.mark.parametrize("ended", [events(), (503, b""), (200, b"{bad}\n"), (410, EXPIRED)])
async def test_connections_that_end_at_once_are_never_made_in_a_hurry(
    server: ApiServer, answers: list[Answer], ended: Answer
) -> None:
    def answer(asked: Asked) -> Answer:
        return ended if "watch=true" in asked.path else listed(1)

    server.answer = answer
    began = trio.current_time()
    async with server.api() as api, trio.open_nursery() as nursery:
        nursery.start_soon(Watched(api, "/api/v1/things", value).run)
        with trio.fail_after(SECONDS):
            while paths(server).count("watch") < 4:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began >= sum((0.125, 0.25, 0.5)), "the least that three pauses take"


LEAVES, RETURNS = 5.0, 605.0


class Events:
    """A watch's, which ends when the API server leaves; once it is back they say what has changed meanwhile."""

    more = False

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        if trio.current_time() < LEAVES:
            await trio.sleep_until(LEAVES)
            raise ApiUnreachable("gone")
        yield {"type": "MODIFIED", "object": thing("a", 2, 2)}
        await trio.sleep_forever()


@define
class TenMinutesAway:
    """As much of a KubernetesApi as a watch needs. `asked` is when it was looked for."""

    refusals: list[ApiRefused] = Factory(list)
    """What it answers a watch once it is back, until it is ready for one."""
    contact: Contact = Factory(lambda: Contact(Metrics()))
    asked: list[float] = Factory(list)

    async def get(self, path: str, **params: str) -> dict[str, Any]:
        self._reach()
        return {"metadata": {"resourceVersion": "1"}, "items": [thing("a", 1)]}

    @asynccontextmanager
    async def watch(self, path: str, **params: str) -> AsyncIterator[Events]:
        self._reach()
        if trio.current_time() >= RETURNS and self.refusals:
            raise self.refusals.pop()
        yield Events()

    def _reach(self) -> None:
        self.asked.append(trio.current_time())
        if LEAVES <= trio.current_time() < RETURNS:
            raise ApiUnreachable("nobody there")


REOPENING = ApiRefused(429, "TooManyRequests", "storage is (re)initializing")
FORGOTTEN = ApiRefused(410, "Expired", "too old resource version")


@pytest.mark.parametrize("refusals", [[], 3 * [REOPENING], [FORGOTTEN], [FORGOTTEN, REOPENING]])
async def test_ten_minutes_without_an_api_server_change_nothing_and_are_made_up_for_soon(
    autojump_clock: trio.testing.MockClock, refusals: list[ApiRefused]
) -> None:
    api = TenMinutesAway([*refusals])
    watched = Watched(cast("KubernetesApi", api), "/api/v1/things", value)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.run)
        await trio.sleep_until(RETURNS - 0.1)
        assert (watched.objects, watched.synced, watched.changed.count) == ({("shop", "a"): 1}, True, 1)
        await watched.changed.wait()
        assert watched.objects == {("shop", "a"): 2}
        found = min(each for each in api.asked if each >= RETURNS)
        assert found <= RETURNS + BACKOFF_SECONDS[1]
        assert trio.current_time() <= found + BACKOFF_SECONDS[0] * (2 ** len(refusals) - 1)
        nursery.cancel_scope.cancel()
    attempts = len([each for each in api.asked if LEAVES < each < RETURNS])
    assert 600 / BACKOFF_SECONDS[1] <= attempts <= 2 * 600 / BACKOFF_SECONDS[1] + 10
