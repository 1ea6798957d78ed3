"""The webhook over real TLS: what API servers get, what strangers get, and what a crowd of them cannot do."""

import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, field

from control_plane.injector.webhook import BODY_SECONDS, LARGE_AT_ONCE, LARGE_BYTES, MAX_BODY_BYTES
from control_plane.settings import Limits
from tests.support.webhooks import WebhookHouse, admission_review, answer, webhook_house

CONNECTIONS = 16


@define
class Reviewer:
    """Answers what the test wants, and remembers what it was given."""

    answer: dict[str, Any] = field(factory=lambda: answer(patch="W10=", patchType="JSONPatch"))
    seen: list[bytes] = field(factory=list)
    error: Exception | None = None

    def __call__(self, body: bytes) -> dict[str, Any]:
        self.seen.append(body)
        if self.error:
            raise self.error
        return self.answer


@pytest.fixture
def reviewer() -> Reviewer:
    return Reviewer()


@pytest.fixture
async def house(tmp_path: Path, reviewer: Reviewer) -> AsyncIterator[WebhookHouse]:
    async with webhook_house(tmp_path, reviewer, limits=Limits(injector_connections=CONNECTIONS)) as house:
        yield house


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [record.__dict__["fields"] for record in caplog.records if record.getMessage() == event]


async def test_a_review_is_answered_as_the_pure_function_does(house: WebhookHouse, reviewer: Reviewer) -> None:
    async with house.caller() as caller:
        for count in (1, 2):
            assert await caller.ask(admission_review()) == (200, json.dumps(reviewer.answer).encode())
            assert reviewer.seen == [admission_review()] * count
    assert house.count("admissions_total", outcome="injected") == 2
    assert house.count("admission_seconds_count") == 2


@pytest.mark.parametrize(
    ("said", "outcome", "reason"),
    [
        (answer(patch="W10="), "injected", ""),
        (answer(), "skipped", ""),
        (answer(auditAnnotations={"skipped": "host_network"}), "skipped", "host_network"),
        (answer(auditAnnotations={"skipped": "injected"}), "unchanged", "injected"),
        (answer(patch="W10=", warnings=["one", "two"]), "injected", "one; two"),
        (answer(allowed=False, status={"message": "doorward.dev/ports: no such"}), "refused", "doorward.dev/ports"),
    ],
)
async def test_each_admission_is_logged_and_counted(
    house: WebhookHouse,
    reviewer: Reviewer,
    caplog: pytest.LogCaptureFixture,
    said: dict[str, Any],
    outcome: str,
    reason: str,
) -> None:
    caplog.set_level(logging.INFO)
    reviewer.answer = said
    assert (await house.ask(admission_review(dryRun=True)))[0] == 200
    (line,) = lines(caplog, "admission")
    assert line.pop("milliseconds") >= 0
    assert reason in line.pop("reason")
    assert line == {"namespace": "shop", "name": "checkout-", "dry_run": True, "outcome": outcome}
    assert house.count("admissions_total", outcome=outcome) == 1
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize(
    ("head", "status", "reason"),
    [
        ({"path": "/"}, 404, "no_such_path"),
        ({"path": "/inject/more"}, 404, "no_such_path"),
        ({"method": "PUT"}, 405, "no_such_method"),
        ({"headers": {"content-type": "text/plain"}}, 415, "not_json"),
    ],
)
async def test_what_is_no_admission_is_refused(
    house: WebhookHouse, reviewer: Reviewer, head: dict[str, Any], status: int, reason: str
) -> None:
    async with house.caller() as caller:
        assert (await caller.ask(b"{}", **head))[0] == status
        with pytest.raises(trio.BrokenResourceError):
            await caller.ask(b"{}")
    assert house.count("injector_refused_total", reason=reason) == 1
    assert not reviewer.seen


async def test_the_largest_review_is_taken_and_one_more_byte_is_not(house: WebhookHouse, reviewer: Reviewer) -> None:
    largest = admission_review().ljust(MAX_BODY_BYTES)
    assert (await house.ask(largest))[0] == 200
    assert reviewer.seen == [largest]
    async with house.caller() as caller:
        await caller.send(largest, length=MAX_BODY_BYTES + 1)
        await caller.stream.send_all(b" ")
        assert (await caller.receive())[0] == 413


async def test_large_reviews_that_do_not_end_hold_up_no_others(house: WebhookHouse, reviewer: Reviewer) -> None:
    large = b" " * (LARGE_BYTES + 1)
    statuses: list[int] = []
    answered = trio.Event()

    async def hold() -> None:
        async with house.caller() as caller:
            await caller.send(large, length=MAX_BODY_BYTES)
            statuses.append((await caller.receive())[0])  # whoever has a place gets no answer
            answered.set()

    async with trio.open_nursery() as nursery:
        for _ in range(LARGE_AT_ONCE + 1):
            nursery.start_soon(hold)
        with trio.fail_after(30):
            await answered.wait()
        assert (await house.ask(admission_review()))[0] == 200
        assert statuses == [503]
        nursery.cancel_scope.cancel()
    await house.until("injector_refused_total", LARGE_AT_ONCE, reason="left_early")
    assert (await house.ask(large))[0] == 200


async def test_a_review_that_comes_too_slowly_is_given_up(house: WebhookHouse, autojump_clock: object) -> None:
    async with house.caller() as caller:
        began = trio.current_time()
        await caller.send(b"{", length=2)
        assert (await caller.receive())[0] == 408
    assert trio.current_time() - began == pytest.approx(BODY_SECONDS, abs=0.5)
    assert house.count("injector_refused_total", reason="body_timeout") == 1


async def test_a_fault_of_ours_costs_one_request(
    house: WebhookHouse, reviewer: Reviewer, caplog: pytest.LogCaptureFixture
) -> None:
    reviewer.error = RuntimeError("nobody foresaw this")
    assert (await house.ask(admission_review()))[0] == 500
    assert house.count("failures_total", place="injector") == 1
    assert "nobody foresaw this" in caplog.text
    reviewer.error = None
    assert (await house.ask(admission_review()))[0] == 200


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"POST /inject HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", "not_tls"),
        (b"\0" * 4096, "not_tls"),
        (b"\x16\x03\x01\xff\xff" + b"\0" * 4096, "tls_failed"),
        (b"\x16\x03\x01\x02\x00\x01", "left_early"),
        (b"", "left_early"),
    ],
)
async def test_what_is_no_tls_is_refused(house: WebhookHouse, sent: bytes, reason: str) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", house.port) as stream:
        await stream.send_all(sent)
        await stream.send_eof()
        await house.until("injector_refused_total", reason=reason)
    assert (await house.ask(admission_review()))[0] == 200


async def test_tls_1_2_and_another_protocol_are_refused(house: WebhookHouse) -> None:
    old = house.client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(trio.BrokenResourceError):
        async with house.caller(old):
            pass
    await house.until("injector_refused_total", reason="tls_failed")
    async with house.caller(house.client_context("h2")) as caller:
        with pytest.raises(trio.BrokenResourceError):
            await caller.ask(admission_review())
    await house.until("injector_refused_total", reason="wrong_protocol")


async def test_under_another_name_it_is_not_believed(house: WebhookHouse) -> None:
    with pytest.raises(trio.BrokenResourceError) as failed:
        async with house.caller(name="doorward-injector.other.svc"):
            pass
    assert isinstance(failed.value.__cause__, ssl.SSLCertVerificationError)


async def test_who_says_nothing_is_given_up_and_before_gives_way(house: WebhookHouse) -> None:
    async with trio.open_nursery() as nursery:
        silent = [await trio.open_tcp_stream("127.0.0.1", house.port) for _ in range(CONNECTIONS)]
        with trio.fail_after(30):
            assert (await house.ask(admission_review()))[0] == 200
        assert house.count("injector_refused_total", reason="gave_way") >= 1
        for stream in silent:
            nursery.start_soon(stream.aclose)


async def test_a_handshake_has_its_time(tmp_path: Path, reviewer: Reviewer) -> None:
    async with (
        webhook_house(tmp_path, reviewer, limits=Limits(handshake_timeout=0.1)) as house,
        await trio.open_tcp_stream("127.0.0.1", house.port) as stream,
    ):
        with trio.fail_after(30):
            assert await stream.receive_some() == b""
        assert house.count("injector_refused_total", reason="handshake_timeout") == 1


@pytest.mark.parametrize("waits_for", ["its request", "its answer to be read"])
async def test_the_end_waits_for_nobody(
    tmp_path: Path, reviewer: Reviewer, mock_clock: trio.testing.MockClock, waits_for: str
) -> None:
    mock_clock.rate, took = 1, list[float]()
    reviewer.answer = answer(patch="x" * 16 * 1024 * 1024)
    async with AsyncExitStack() as beyond, webhook_house(tmp_path, reviewer) as house:
        caller = await beyond.enter_async_context(house.caller())
        await caller.send(admission_review(), length=len(admission_review()) + (waits_for == "its request"))
        if waits_for != "its request":
            assert (await caller.stream.receive_some(1)) == b"H"
        beyond.callback(lambda: took.append(trio.current_time() - began))
        mock_clock.rate, mock_clock.autojump_threshold = 0, 0.01
        began = trio.current_time()
        house.stop.cancel()
    assert took[0] < 0.1, "it waited until something timed out"
