"""Exchanges in memory: what reaches the upstream, what reaches the client, and what is left of both connections."""

import json
from typing import Any

import pytest
import trio
import trio.testing

from mesh.policy.reasons import Reason
from sidecar.http.exchange import MAX_INTERIM
from sidecar.settings import Limits
from tests.support.conversations import Talk, TalkTo, all_of, expect
from tests.support.memory import MemoryStream

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
SENT = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SAID = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def end_of_head(received: bytes) -> tuple[bytes, bytes]:
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


async def answered(talk: Talk) -> tuple[bytes, dict[str, Any]]:
    """Our own answer, up to the end of the connection: its status line and what it says."""
    head, body = end_of_head(await all_of(talk.client))
    await talk.client.aclose()
    assert b"connection: close" in head
    return head.split(b"\r\n")[0], json.loads(body)


async def until_broken(stream: MemoryStream, piece: bytes, pause: float = 0.1) -> None:
    """Send the piece again and again until either end is gone; without a pause virtual time would never move."""
    try:
        while True:
            await stream.send_all(piece)
            await trio.sleep(pause)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def settled() -> None:
    """Until the sidecar has nothing left to do, its records included."""
    await trio.testing.wait_all_tasks_blocked()


# Requests and responses


async def test_requests_of_one_connection_follow_each_other(talk: TalkTo) -> None:
    it = talk()
    for _ in range(3):
        await it.say(GET)
        upstream = await it.upstream(until=SENT)
        await upstream.send_all(OK)
        await expect(it.client, SAID)
    await settled()
    assert all(pooled.keep for pooled in it.route.given_back)
    assert [record.status for record in it.records] == [200] * 3


async def test_pipelined_requests_are_answered_in_order(talk: TalkTo) -> None:
    it = talk()
    await it.say(b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" + GET)
    first = await it.upstream(until=b"GET /1 HTTP/1.1\r\nhost: h\r\n\r\n")
    assert len(it.route.upstreams) == 1
    await first.send_all(OK)
    second = await it.upstream(until=b"POST /2 HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc")
    await second.send_all(OK)
    third = await it.upstream(until=SENT)
    await third.send_all(OK)
    assert await expect(it.client, SAID * 3) == SAID * 3


async def test_chunks_and_trailers_pass_both_ways(talk: TalkTo) -> None:
    it = talk()
    await it.say(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: 1\r\n\r\n")
    upstream = await it.upstream(
        until=b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: 1\r\n\r\n"
    )
    await upstream.send_all(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nB: 2\r\nx-doorward-a: b\r\n\r\n"
    )
    await expect(it.client, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nB: 2\r\n\r\n")
    await settled()
    assert it.route.given_back[0].keep
    assert (it.records[0].bytes_in, it.records[0].bytes_out) == (3, 2)


@pytest.mark.parametrize(
    ("request_", "response", "received"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n"),
    ],
)
async def test_responses_without_a_body_leave_the_connection_usable(
    talk: TalkTo, request_: bytes, response: bytes, received: bytes
) -> None:
    it = talk()
    for _ in range(2):
        await it.say(request_ + b" / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream = await it.upstream(until=b"\r\n\r\n")
        await upstream.send_all(response)
        assert await expect(it.client, received) == received


@pytest.mark.parametrize("announced", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize(("request_", "status"), [(b"HEAD", b"200"), (b"GET", b"304"), (b"GET", b"204")])
async def test_a_body_that_comes_after_all_is_no_answer_to_the_next_request(
    talk: TalkTo, request_: bytes, status: bytes, announced: bytes
) -> None:
    it = talk()
    await it.say(request_ + b" / HTTP/1.1\r\nHost: h\r\n\r\n")
    upstream = await it.upstream(until=b"\r\n\r\n")
    await upstream.send_all(b"HTTP/1.1 %s x\r\n%s\r\n\r\n" % (status, announced))
    await expect(it.client, b"\r\n\r\n")
    await settled()
    assert [(each.keep, each.finished) for each in it.route.given_back] == [(False, True)]


async def test_a_body_until_close_becomes_chunks_for_http_1_1(talk: TalkTo) -> None:
    it = talk()
    await it.say(GET)
    upstream = await it.upstream(until=SENT)
    await upstream.send_all(b"HTTP/1.0 200 OK\r\n\r\nall of it")
    await upstream.aclose()
    await expect(it.client, b"\r\n\r\n9\r\nall of it\r\n0\r\n\r\n")
    await it.say(GET)
    await it.upstream(until=SENT)
    assert not it.route.given_back[0].keep


async def test_http_1_0_gets_no_chunks_and_one_answer(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk()
    await it.say(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    upstream = await it.upstream(until=SENT)
    await upstream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: 1\r\n\r\n")
    assert await all_of(it.client) == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok"


async def test_a_client_that_says_close_is_closed_in_order(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk()
    await it.say(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    upstream = await it.upstream(until=SENT)
    await upstream.send_all(OK)
    assert await all_of(it.client) == b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    await settled()
    assert it.route.given_back[0].keep


async def test_a_client_that_ends_its_direction_still_gets_its_responses(talk: TalkTo) -> None:
    it = talk()
    await it.say(GET + GET)
    await it.client.send_eof()
    for _ in range(2):
        upstream = await it.upstream(until=SENT)
        await upstream.send_all(OK)
    assert await all_of(it.client) == SAID * 2


async def test_an_upstream_that_says_close_is_not_used_again(talk: TalkTo) -> None:
    it = talk()
    await it.say(GET)
    upstream = await it.upstream(until=SENT)
    await upstream.send_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    await expect(it.client, SAID)
    await settled()
    assert not it.route.given_back[0].keep


async def test_unsolicited_bytes_behind_a_response_end_its_connection(talk: TalkTo) -> None:
    it = talk()
    await it.say(GET)
    upstream = await it.upstream(until=SENT)
    await upstream.send_all(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
    await expect(it.client, SAID)
    await settled()
    assert not it.route.given_back[0].keep


# 1xx and early responses


EXPECTING = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"


async def test_100_continue_is_the_upstreams_to_say(talk: TalkTo) -> None:
    it = talk()
    await it.say(EXPECTING)
    upstream = await it.upstream(until=b"Expect: 100-continue\r\ncontent-length: 3\r\n\r\n")
    await upstream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
    await expect(it.client, b"HTTP/1.1 100 Continue\r\n\r\n")
    await it.say(b"abc")
    await expect(upstream, b"abc")
    await upstream.send_all(b"HTTP/1.1 103 Early Hints\r\nLink: l\r\n\r\n" + OK)
    await expect(it.client, b"HTTP/1.1 103 Early Hints\r\nLink: l\r\n\r\n" + SAID)


async def test_a_final_status_instead_of_100_ends_the_connection(talk: TalkTo) -> None:
    it = talk()
    await it.say(EXPECTING)
    upstream = await it.upstream(until=b"\r\n\r\n")
    await upstream.send_all(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
    await expect(it.client, b"HTTP/1.1 417 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    await it.client.aclose()
    await it.done.wait()
    assert not it.route.given_back[0].keep


async def test_a_denied_client_that_waits_for_100_gets_403_and_an_end(talk: TalkTo) -> None:
    it = talk(denies={"POST"})
    await it.say(EXPECTING)
    status, said = await answered(it)
    assert status == b"HTTP/1.1 403 Forbidden"
    assert said["reason"] == "no_policy_matched"
    assert not it.route.upstreams


async def test_http_1_0_hears_no_1xx(talk: TalkTo) -> None:
    it = talk()
    await it.say(b"GET / HTTP/1.0\r\n\r\n")
    upstream = await it.upstream(until=SENT)
    await upstream.send_all(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    assert (await all_of(it.client)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_upload_and_response_run_at_the_same_time(talk: TalkTo) -> None:
    it = talk()
    await it.say(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    upstream = await it.upstream(until=b"\r\n\r\n")
    await upstream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await expect(it.client, b"\r\n\r\n")
    for number in range(3):
        chunk = b"1\r\n%d\r\n" % number
        await it.say(chunk)
        await expect(upstream, chunk)
        await upstream.send_all(chunk)
        await expect(it.client, chunk)
    await it.say(b"0\r\n\r\n")
    await expect(upstream, b"0\r\n\r\n")
    await upstream.send_all(b"0\r\n\r\n")
    await expect(it.client, b"0\r\n\r\n")
    await settled()
    assert not it.route.given_back[0].keep


async def test_an_early_response_arrives_although_the_upstream_reads_no_more(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk(limit=1000)
    await it.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n")
    upstream = await it.upstream(until=b"\r\n\r\n")
    await upstream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    await upstream.aclose()
    received = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(until_broken, it.client, b"x" * 1_000_000)
        received = await all_of(it.client)
    assert received.removesuffix(b"<reset>") == (
        b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno"
    )
    await it.done.wait()
    assert not it.route.given_back[0].keep


# What goes wrong


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"SSH-2.0-OpenSSH",
        b"HTTP/2",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_garbage_from_the_upstream_is_a_502_at_once(talk: TalkTo, garbage: bytes, autojump_clock: Any) -> None:
    it = talk()
    await it.say(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    upstream = await it.upstream(until=SENT)
    await upstream.send_all(garbage)
    status, said = await answered(it)
    assert status == b"HTTP/1.1 502 Bad Gateway"
    assert (said["error"], said["reason"]) == ("failed", "upstream_malformed")
    await it.done.wait()
    assert it.records[0].reason == Reason.UPSTREAM_MALFORMED
    assert not it.route.given_back[0].keep


@pytest.mark.parametrize(("count", "status"), [(MAX_INTERIM, b"200"), (MAX_INTERIM + 1, b"502")])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_interim_responses_do_not_go_on_for_ever(
    talk: TalkTo, count: int, status: bytes, version: bytes, autojump_clock: Any
) -> None:
    it = talk()
    await it.say(b"GET / HTTP/%s\r\nHost: h\r\nConnection: close\r\n\r\n" % version)
    upstream = await it.upstream(until=SENT)
    await upstream.send_all(
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * count + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    )
    *hints, final = (await all_of(it.client)).split(b"HTTP/1.1 ")[1:]
    assert final.startswith(status)
    assert len(hints) == (MAX_INTERIM if version == b"1.1" else 0)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 20", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize("cut", [True, False])
async def test_an_upstream_that_goes_away_without_a_response_is_a_502(talk: TalkTo, said: bytes, cut: bool) -> None:
    it = talk()
    await it.say(GET)
    upstream = await it.upstream(until=SENT)
    await upstream.send_all(said)
    await settled()
    upstream.abort() if cut else await upstream.aclose()
    received = await expect(it.client, b"}\n")
    assert b"502 Bad Gateway" in received
    assert it.records[0].reason == Reason.UPSTREAM_RESET
    await it.say(GET)  # the client's connection goes on
    await it.upstream(until=SENT)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhalf",
    ],
)
async def test_a_truncated_response_is_a_reset_for_the_client(talk: TalkTo, said: bytes) -> None:
    it = talk()
    await it.say(GET)
    upstream = await it.upstream(until=SENT)
    await upstream.send_all(said)
    await settled()
    upstream.abort()
    received = await all_of(it.client)
    assert received.endswith(b"<reset>")
    assert it.records[0].reason == Reason.UPSTREAM_RESET
    assert it.records[0].status == 200


@pytest.mark.parametrize("reset", [True, False])
async def test_a_client_that_goes_away_within_its_body_resets_the_upstream(talk: TalkTo, reset: bool) -> None:
    it = talk()
    await it.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
    upstream = await it.upstream(until=b"half")
    it.client.abort() if reset else await it.client.aclose()
    assert await all_of(upstream) == b"<reset>"
    await it.done.wait()
    assert it.records[0].reason == Reason.DOWNSTREAM_RESET
    assert it.records[0].status is None


@pytest.mark.parametrize("waits", [0, 5])
async def test_a_client_that_goes_away_while_it_waits_resets_the_upstream(
    talk: TalkTo, waits: float, autojump_clock: Any
) -> None:
    it = talk()
    await it.say(GET)
    upstream = await it.upstream(until=SENT)
    await trio.sleep(waits)
    it.client.abort()
    assert await all_of(upstream) == b"<reset>"
    await it.done.wait()
    assert it.records[0].reason == Reason.DOWNSTREAM_RESET


async def test_a_client_that_goes_away_from_a_quiet_stream_resets_the_upstream_at_once(
    talk: TalkTo, autojump_clock: Any
) -> None:
    it = talk()
    await it.say(GET)
    upstream = await it.upstream(until=SENT)
    await upstream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    await expect(it.client, b"1\r\nx\r\n")
    await trio.sleep(5)
    await upstream.send_all(b"1\r\ny\r\n")
    await expect(it.client, b"1\r\ny\r\n")
    left = trio.current_time()
    it.client.abort()
    assert await all_of(upstream) == b"<reset>"
    assert trio.current_time() - left < 1
    await it.done.wait()
    assert it.records[0].reason == Reason.DOWNSTREAM_RESET


async def test_a_malformed_chunk_ends_the_request_before_and_after_its_response_began(talk: TalkTo) -> None:
    for begun in (False, True):
        it = talk()
        await it.say(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        upstream = await it.upstream(until=b"3\r\nabc\r\n")
        if begun:
            await upstream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            await expect(it.client, b"1\r\nx\r\n")
        await it.say(b"0x3\r\nabc\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
        if begun:
            assert await all_of(it.client) == b"<reset>"
        else:
            assert (await answered(it))[0] == b"HTTP/1.1 400 Bad Request"
        assert await all_of(upstream) == b"<reset>"
        assert len(it.route.upstreams) == 1
        assert it.records[0].reason == Reason.MALFORMED_REQUEST


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 70000, b"431 Request Header Fields Too Large", "head_too_large"),
        (b"\x16\x03\x01\x00\x05", b"400 Bad Request", "not_http"),
        (b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", b"501 Not Implemented", "method_refused"),
        (
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET,
            b"400 Bad Request",
            "ambiguous_framing",
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505 HTTP Version Not Supported", "malformed_request"),
    ],
)
async def test_what_breaks_the_law_is_answered_once_and_goes_nowhere(
    talk: TalkTo, sent: bytes, status: bytes, reason: str, autojump_clock: Any
) -> None:
    it = talk()
    await it.say(sent)
    line, said = await answered(it)
    assert line == b"HTTP/1.1 " + status
    assert (said["error"], said["reason"]) == ("refused", reason)
    assert not it.route.upstreams
    assert [record.reason for record in it.records] == [reason]
    assert it.node.counted("refused_total", direction="inbound", reason=reason) == 1


# Denied requests and their bodies


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
async def test_behind_a_denied_request_with_a_small_body_the_connection_goes_on(talk: TalkTo, framing: bytes) -> None:
    it = talk(denies={"POST"})
    await it.say(b"POST / HTTP/1.1\r\nHost: h\r\n" + framing + GET)
    upstream = await it.upstream(until=SENT)
    await upstream.send_all(OK)
    received = await expect(it.client, SAID)
    assert received.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"connection: close" not in received


async def test_behind_a_denied_request_with_a_large_body_the_connection_ends(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk(denies={"POST"})
    await it.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n")
    status, _ = await answered(it)
    assert status == b"HTTP/1.1 403 Forbidden"
    await it.done.wait()


async def test_an_endless_body_of_a_denied_request_is_not_read_for_ever(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk(limit=100_000, limits=Limits(drain_body_bytes=1000, drain_body_timeout=1.0), denies={"POST"})
    await it.say(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    await expect(it.client, b"}\n")
    with trio.fail_after(10):
        await until_broken(it.client, b"64\r\n" + b"x" * 100 + b"\r\n")


async def test_a_denial_that_nobody_takes_is_recorded_as_a_denial(talk: TalkTo) -> None:
    it = talk(limit=100, denies={"GET"})
    await it.say(GET)
    await settled()
    it.client.abort()
    await it.done.wait()
    assert [(record.status, record.reason) for record in it.records] == [(403, Reason.NO_POLICY_MATCHED)]


async def test_a_body_that_trickles_behind_a_denial_is_not_waited_for_long(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk(denies={"POST"})
    await it.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n")
    started = trio.current_time()
    await all_of(it.client)
    await it.done.wait()
    assert trio.current_time() - started <= 2 * it.node.proxy.limits.drain_body_timeout + 0.1


# Deadlines


async def test_an_idle_connection_is_closed_without_a_word_and_a_record(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk()
    assert await all_of(it.client) == b""
    assert trio.current_time() == pytest.approx(it.node.proxy.limits.keep_alive_timeout, abs=0.1)
    assert not it.records


async def test_a_head_that_never_ends_is_answered_408(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(until_broken, it.client, b"x", 1.0)
        status, said = await answered(it)
    assert status == b"HTTP/1.1 408 Request Timeout"
    assert said["reason"] == "downstream_timeout"


async def test_a_silent_upstream_is_a_504(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk()
    await it.say(GET)
    upstream = await it.upstream(until=SENT)
    received = await expect(it.client, b"}\n")
    assert b"504 Gateway Timeout" in received
    assert b'"upstream_timeout"' in received
    assert trio.current_time() == pytest.approx(it.node.proxy.limits.response_head_timeout, abs=0.1)
    assert await all_of(upstream) == b"<reset>"


async def test_interim_responses_do_not_stretch_the_deadline(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk()
    await it.say(GET)
    upstream = await it.upstream(until=SENT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(until_broken, upstream, b"HTTP/1.1 103 Early Hints\r\n\r\n", 5.0)
        assert b"504 Gateway Timeout" in await expect(it.client, b"}\n")


async def test_a_response_is_awaited_from_the_end_of_a_long_upload_on(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk()
    await it.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n")
    upstream = await it.upstream(until=b"\r\n\r\n")
    for _ in range(10):
        await trio.sleep(50)
        await it.say(b"x")
    await trio.sleep(50)
    await upstream.send_all(OK)
    await expect(it.client, SAID)


async def test_a_client_that_waits_for_100_is_not_left_waiting(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk()
    await it.say(EXPECTING)
    status, said = await answered(it)
    assert status == b"HTTP/1.1 504 Gateway Timeout"
    assert said["reason"] == "upstream_timeout"


async def test_a_body_that_stops_arriving_is_answered_408(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk()
    await it.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
    upstream = await it.upstream(until=b"half")
    status, said = await answered(it)
    assert status == b"HTTP/1.1 408 Request Timeout"
    assert said["reason"] == "downstream_timeout"
    assert await all_of(upstream) == b"<reset>"


async def test_a_response_that_stops_arriving_is_cut_off(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk()
    await it.say(GET)
    upstream = await it.upstream(until=SENT)
    await upstream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    assert (await all_of(it.client)).endswith(b"half<reset>")
    assert it.records[0].reason == Reason.UPSTREAM_TIMEOUT


async def test_an_upstream_that_takes_no_body_is_a_504(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk(limit=1000)
    await it.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(until_broken, it.client, b"x" * 100_000)
        assert b"504 Gateway Timeout" in await all_of(it.client)


async def test_a_client_that_reads_nothing_is_cut_off(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk(limit=1000)
    await it.say(GET)
    upstream = await it.upstream(until=SENT)
    with pytest.raises(trio.BrokenResourceError):
        await upstream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
    await it.done.wait()
    assert it.records[0].reason == Reason.DOWNSTREAM_TIMEOUT
    assert (await all_of(it.client)).endswith(b"<reset>")


# Sending again (law 19)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
async def test_a_request_without_a_body_is_sent_again_where_an_idle_connection_was_dead(
    talk: TalkTo, method: bytes
) -> None:
    it = talk(reused=1)
    await it.say(method + b" / HTTP/1.1\r\nHost: h\r\n\r\n")
    dead = await it.upstream(until=b"\r\n\r\n")
    await dead.aclose()
    fresh = await it.upstream(until=b"\r\n\r\n")
    await fresh.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
    await expect(it.client, b"HTTP/1.1 204 No Content\r\n\r\n")
    await settled()
    assert [record.status for record in it.records] == [204]


@pytest.mark.parametrize(
    ("reused", "request_", "said"),
    [
        (0, GET, b""),
        (1, GET, b"HTTP"),
        (1, GET, b"HTTP/1.1 100 Continue\r\n\r\n"),
        (1, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", b""),
        (1, b"DELETE / HTTP/1.1\r\nHost: h\r\n\r\n", b""),
        (1, b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", b""),
    ],
)
async def test_nothing_else_is_sent_again(talk: TalkTo, reused: int, request_: bytes, said: bytes) -> None:
    it = talk(reused=reused)
    await it.say(request_)
    dead = await it.upstream(until=request_[-1:])
    await dead.send_all(said)
    await settled()
    await dead.aclose()
    assert b"502 Bad Gateway" in await expect(it.client, b"}\n")
    assert len(it.route.upstreams) == 1


async def test_a_request_is_sent_again_once(talk: TalkTo) -> None:
    it = talk(reused=2)
    await it.say(GET)
    for _ in range(2):
        dead = await it.upstream(until=SENT)
        await dead.aclose()
    assert b"502 Bad Gateway" in await expect(it.client, b"}\n")
    assert len(it.route.upstreams) == 2


# Upgrades (law 18)


UPGRADE = b"GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\n"
)


async def upgraded(talk: TalkTo, *, early: bytes = b"", **options: Any) -> tuple[Talk, Any]:
    it = talk(**options)
    await it.say(UPGRADE + early)
    upstream = await it.upstream(until=b"connection: upgrade\r\nupgrade: websocket\r\n\r\n")
    await upstream.send_all(SWITCHED)
    received = await expect(it.client, b"\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\n")
    return it, upstream


async def test_after_101_bytes_pass_both_ways_unread(talk: TalkTo) -> None:
    it, upstream = await upgraded(talk, early=b"\x00GET / early")
    assert await expect(upstream, b"early") == b"\x00GET / early"
    await upstream.send_all(b"\xff\x00 down")
    assert await expect(it.client, b"down") == b"\xff\x00 down"
    await it.client.send_eof()
    assert await all_of(upstream) == b""
    await upstream.send_all(b"last")
    await upstream.aclose()
    assert await all_of(it.client) == b"last"
    await it.done.wait()
    assert (it.records[0].status, it.records[0].reason) == (101, "")
    assert (it.records[0].bytes_in, it.records[0].bytes_out) == (12, 11)


async def test_bytes_right_behind_the_101_are_passed_on(talk: TalkTo) -> None:
    it = talk()
    await it.say(UPGRADE)
    upstream = await it.upstream(until=b"\r\n\r\n")
    await upstream.send_all(SWITCHED + b"hello")
    await expect(it.client, b"\r\n\r\nhello")


async def test_an_upgrade_that_the_upstream_ignores_is_an_ordinary_exchange(talk: TalkTo) -> None:
    it = talk()
    await it.say(UPGRADE)
    upstream = await it.upstream(until=b"\r\n\r\n")
    await upstream.send_all(OK)
    await expect(it.client, SAID)
    await it.say(GET)
    await it.upstream(until=SENT)


@pytest.mark.parametrize(
    "switched",
    [
        SWITCHED.replace(b"websocket", b"h2c"),
        SWITCHED.replace(b"Upgrade: websocket\r\n", b""),
        SWITCHED.replace(b"Connection: Upgrade\r\n", b""),
    ],
)
async def test_a_101_that_does_not_match_opens_no_tunnel(talk: TalkTo, switched: bytes) -> None:
    it = talk()
    await it.say(UPGRADE)
    upstream = await it.upstream(until=b"\r\n\r\n")
    await upstream.send_all(switched)
    assert b"502 Bad Gateway" in await expect(it.client, b"}\n")
    assert it.records[0].reason == Reason.UPSTREAM_MALFORMED


async def test_h2c_is_not_asked_for(talk: TalkTo) -> None:
    it = talk()
    await it.say(
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n"
    )
    await it.upstream(until=SENT)


async def test_a_tunnel_that_breaks_breaks_on_both_sides(talk: TalkTo) -> None:
    it, upstream = await upgraded(talk)
    upstream.abort()
    assert await all_of(it.client) == b"<reset>"
    await it.done.wait()
    assert it.records[0].reason == Reason.UPSTREAM_RESET


# Ended from outside


async def test_a_policy_change_before_the_response_is_a_403(talk: TalkTo) -> None:
    it = talk()
    await it.say(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    upstream = await it.upstream(until=SENT)
    it.route.lives[0].end(Reason.POLICY_CHANGED)
    status, said = await answered(it)
    assert status == b"HTTP/1.1 403 Forbidden"
    assert (said["error"], said["reason"], said["snapshot"]) == ("denied", "policy_changed", 1)
    assert await all_of(upstream) == b"<reset>"
    await it.done.wait()
    assert it.records[0].reason == Reason.POLICY_CHANGED


async def test_a_policy_change_within_the_response_cuts_it_off(talk: TalkTo) -> None:
    it = talk()
    await it.say(GET)
    upstream = await it.upstream(until=SENT)
    await upstream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await expect(it.client, b"half")
    it.route.lives[0].end(Reason.POLICY_CHANGED)
    assert await all_of(it.client) == b"<reset>"
    assert await all_of(upstream) == b"<reset>"
    assert it.records[0].reason == Reason.POLICY_CHANGED


async def test_a_policy_change_ends_a_tunnel(talk: TalkTo) -> None:
    it, upstream = await upgraded(talk)
    it.route.lives[0].end(Reason.POLICY_CHANGED)
    assert await all_of(it.client) == b"<reset>"
    assert await all_of(upstream) == b"<reset>"
    await it.done.wait()
    assert it.records[0].reason == Reason.POLICY_CHANGED


async def test_draining_ends_an_idle_connection_at_once(talk: TalkTo) -> None:
    it = talk()
    await settled()
    it.node.proxy.draining.set()
    assert await all_of(it.client) == b""
    assert not it.records


async def test_draining_finishes_what_is_in_flight_and_says_close(talk: TalkTo) -> None:
    it = talk()
    await it.say(GET + GET)
    upstream = await it.upstream(until=SENT)
    it.node.proxy.draining.set()
    await upstream.send_all(OK)
    assert await all_of(it.client) == b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    assert len(it.route.upstreams) == 1


# Bounds


@pytest.mark.parametrize("up", [True, False])
async def test_a_slow_reader_holds_its_writer_back(talk: TalkTo, up: bool) -> None:
    it = talk(limit=1000, limits=Limits(buffer_bytes=1000))
    await it.say(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    upstream = await it.upstream(until=b"\r\n\r\n")
    await upstream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await expect(it.client, b"\r\n\r\n")
    writer = it.client if up else upstream
    sent = 0
    with trio.move_on_after(0.2):
        while True:
            await writer.send_all(b"64\r\n" + b"x" * 100 + b"\r\n")
            sent += 100
    assert sent < 5000


async def test_pipelined_bytes_behind_a_waiting_request_are_bounded(talk: TalkTo, autojump_clock: Any) -> None:
    it = talk(limit=1000, limits=Limits(head_bytes=2000))
    await it.say(GET)
    upstream = await it.upstream(until=SENT)
    sent = 0
    with trio.move_on_after(5):
        while True:
            await it.say(GET)
            sent += len(GET)
    assert 2000 < sent < 5000
    await upstream.send_all(OK)
    await expect(it.client, SAID)
