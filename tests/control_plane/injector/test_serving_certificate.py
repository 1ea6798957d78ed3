"""The webhook's certificate is replaced in time, while it serves, and its chain always leads to the trusted root."""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from control_plane.settings import Lifetimes
from tests.support.webhooks import NAME, Caller, WebhookHouse, admission_review, answer, webhook_house

LIFETIME = timedelta(hours=2)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[WebhookHouse]:
    lifetimes = Lifetimes(own_certificate=LIFETIME)
    async with webhook_house(tmp_path, lambda _: answer(), lifetimes=lifetimes) as house:
        yield house


def ends(caller: Caller) -> datetime:
    shown: Any = caller.stream.getpeercert()
    return datetime.strptime(shown["notAfter"], "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)


async def shown(house: WebhookHouse) -> str:
    """The serial of the certificate that a new connection sees; its chain was verified from the bundle's roots."""
    async with house.caller() as caller:
        assert (await caller.ask(admission_review()))[0] == 200
        return caller.serial


async def test_until_half_of_its_life_it_stays(house: WebhookHouse) -> None:
    first = await shown(house)
    house.clock.ahead = LIFETIME / 2 - timedelta(minutes=1)
    assert await shown(house) == first


async def test_past_half_of_its_life_it_is_replaced_while_requests_run(house: WebhookHouse) -> None:
    """A request that began before is answered on its connection, which then ends: the client is to see the new one."""
    async with house.caller() as before:
        body = admission_review()
        await before.send(body[:10], length=len(body))
        house.clock.ahead = LIFETIME / 2 + timedelta(minutes=1)
        async with house.caller() as after:
            assert after.serial != before.serial
            assert ends(after) > ends(before) + LIFETIME / 2
            assert (await after.ask(body))[0] == 200
        await before.stream.send_all(body[10:])
        assert (await before.receive())[0] == 200
        with pytest.raises(trio.BrokenResourceError):
            await before.ask(body)
    expiry = house.count("serving_certificate_expiry_timestamp_seconds")
    assert datetime.fromtimestamp(expiry, UTC) == ends(after)


async def test_no_connection_ever_sees_one_that_is_over(house: WebhookHouse) -> None:
    """Whatever the clock does: a machine may sleep for days."""
    serials = set()
    for days in range(1, 6):
        house.clock.ahead = timedelta(days=days)
        async with house.caller() as caller:
            serials.add(caller.serial)
            assert house.clock() + LIFETIME / 2 < ends(caller) <= house.clock() + LIFETIME
    assert len(serials) == 5


async def test_after_the_issuer_was_replaced_its_chain_leads_to_the_root(house: WebhookHouse) -> None:
    before = await shown(house)
    replaced = house.authority.issuer
    house.clock.ahead = Lifetimes().issuer / 2 + timedelta(minutes=1)
    assert house.authority.renew_issuer_if_due()
    assert house.authority.issuer.certificate != replaced.certificate
    assert await shown(house) != before


async def test_where_the_issuer_has_ended_the_last_one_is_shown_and_it_is_said_once(
    house: WebhookHouse, caplog: pytest.LogCaptureFixture
) -> None:
    before = await shown(house)
    house.clock.ahead = Lifetimes().issuer + timedelta(minutes=1)
    for _ in range(3):
        assert await shown(house) == before
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in said] == ["the serving certificate cannot be renewed"]
    assert house.count("failures_total", place="authority") == 1
    house.authority.renew_issuer_if_due()
    assert await shown(house) != before


async def test_many_at_once_see_one_and_the_same(house: WebhookHouse) -> None:
    house.clock.ahead = LIFETIME
    seen: set[str] = set()

    async def look() -> None:
        seen.add(await shown(house))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(look)
    assert len(seen) == 1


async def test_it_bears_the_service_s_name_and_its_key_is_in_no_file(house: WebhookHouse, tmp_path: Path) -> None:
    async with house.caller() as caller:
        shown: Any = caller.stream.getpeercert()
    assert shown["subjectAltName"] == (("DNS", NAME),)
    with_a_key = {each.name for each in tmp_path.rglob("*") if each.is_file() and b"PRIVATE KEY" in each.read_bytes()}
    assert with_a_key == {"root.key", "issuer.key"}
