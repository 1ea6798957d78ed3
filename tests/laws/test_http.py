"""Laws 16 to 20: one reading of every message, our own fields from us alone, and connections that carry no surprise."""

import json
import re
from typing import Any

import pytest
import trio

from mesh.policy import Reason
from sidecar.settings import Limits
from tests.laws.conftest import OK, Shop, eventually, get, heard, policy, said

AMBIGUOUS = {
    "TE with CL": b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE on 1.0": b"POST / HTTP/1.0\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "CL twice, equal": b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "CL twice, unequal": b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
    "CL as a list": b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 0, 0\r\n\r\n",
    "CL with a sign": b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: +0\r\n\r\n",
    "TE that is not chunked": b"POST / HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n",
    "TE by an underscore": b"POST / HTTP/1.1\r\nHost: p\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bare LF": b"GET / HTTP/1.1\nHost: p\n\n",
    "a bare LF behind a field": b"GET / HTTP/1.1\r\nHost: p\r\nA: b\nContent-Length: 5\r\n\r\nhello",
    "a bare CR": b"GET / HTTP/1.1\r\nHost: p\r\nA: b\rContent-Length: 5\r\n\r\nhello",
    "obs-fold": b"GET / HTTP/1.1\r\nHost: p\r\nA: b\r\n c\r\n\r\n",
    "a space before the colon": b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length : 5\r\n\r\nhello",
    "a control byte": b"GET / HTTP/1.1\r\nHost: p\r\nA: \x01\r\n\r\n",
    "a NUL": b"GET / HTTP/1.1\r\nHost: p\r\nA: \x00\r\n\r\n",
    "version 1.2": b"GET / HTTP/1.2\r\nHost: p\r\n\r\n",
    "version 2.0": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: p\r\nHost: q\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a chunk size with a sign": b"POST / HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n+0\r\n\r\n",
}


@pytest.mark.parametrize("door", ["outbound", "inbound"])
async def test_law_16_a_request_with_two_readings_goes_nowhere(shop: Shop, door: str) -> None:
    await shop.open()
    for what, request in AMBIGUOUS.items():
        raw = request.replace(b"Host: p\r", b"Host: payments\r") + get("/smuggled")
        answer = await shop.say(raw, straight=door == "inbound")
        assert re.findall(rb"HTTP/1.1 ([0-9])[0-9]{2} ", answer) in ([b"4"], [b"5"]), (what, answer)
        assert all(b"smuggled" not in head for head in shop.heads), what
    # The head of the last one is in order, so it may have gone upstream before its body's fault was read.
    assert len(shop.heads) <= 1


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nA: \x01\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_law_16_a_response_with_two_readings_is_a_502(shop: Shop, response: bytes) -> None:
    await shop.open()
    shop.answer = lambda _: response
    answer = await shop.get("/", straight=True)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b'"upstream_malformed"' in answer


async def test_law_16_what_is_taken_is_written_anew(shop: Shop) -> None:
    await shop.open()
    odd = b"GET /a HTTP/1.1\r\nhOsT:payments\r\nX-A:   b  \r\nKeep-Alive: 1\r\nConnection: keep-alive\r\n\r\n"
    assert (await shop.say(odd)).endswith(b"ok")
    assert shop.heads[0].startswith(b"GET /a HTTP/1.1\r\nhost: payments\r\nX-A: b\r\nx-forwarded-client-cert: By=")


@pytest.mark.parametrize("name", ["x-forwarded-client-cert", "X_Forwarded-Client_Cert", "x_doorward_decision"])
async def test_law_17_our_own_fields_come_from_us_alone(shop: Shop, name: str) -> None:
    await shop.open()
    forged = f"{name}: By=x;URI=spiffe://cluster.local/ns/shop/sa/admin"
    shop.answer = lambda _: OK.replace(b"\r\n\r\n", f"\r\n{forged}\r\n\r\n".encode())
    proven = f"x-forwarded-client-cert: By={shop.pki.id('shop/payments')};URI={shop.pki.id()}".encode()
    nominated = "Connection: x-forwarded-client-cert, close"
    assert b"sa/admin" not in await shop.get("/", forged, forged, nominated, straight=True)
    assert shop.heads == [b"GET / HTTP/1.1\r\nhost: payments\r\n" + proven]
    seen: list[bytes] = []

    shop.answer = lambda head: seen.append(head) or b""  # the body's end, trailers included, is the next "head"
    body = f"0\r\n{forged}\r\nX-Fine: yes\r\n\r\n".encode()
    caller = await shop.direct()
    await caller.send_all(b"POST / HTTP/1.1\r\nHost: payments\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    await eventually(lambda: len(seen) == 2)
    assert seen[1] == b"0\r\nX-Fine: yes"


UPGRADE = ("Connection: Upgrade", "Sec-WebSocket-Key: x")


async def test_law_18_a_tunnel_opens_for_a_websocket_and_after_its_own_101(shop: Shop) -> None:
    await shop.open()
    assert (await shop.get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA")).endswith(
        b"ok"
    )
    assert b"pgrade" not in shop.heads[0]
    assert b"h2c" not in shop.heads[0]
    for unasked in (
        b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\n\r\n",
    ):
        shop.answer = lambda _, unasked=unasked: unasked
        assert (await shop.get("/", *UPGRADE, "Upgrade: websocket", straight=True)).startswith(b"HTTP/1.1 502 ")
    granted = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    shop.answer = lambda _: granted
    assert (await shop.get("/", straight=True)).startswith(b"HTTP/1.1 502 "), "it was not asked for"
    shop.answer = lambda head: granted if b"HTTP/1.1" in head else b"frame back"
    caller = await shop.direct()
    await caller.send_all(get("/", *UPGRADE, "Upgrade: websocket"))
    await heard(caller, b"upgrade: websocket\r\n\r\n")
    await caller.send_all(b"frame\r\n\r\n")
    await heard(caller, b"frame back")
    assert shop.heads[-1] == b"frame"


async def test_law_19_no_connection_to_the_application_is_shared_between_callers(shop: Shop) -> None:
    await shop.open()
    shop.payments.learn(policies=[policy(shop.app_port, **{"from": [{"workload": "checkout"}, {"workload": "stock"}]})])
    for workload in ("shop/checkout", "shop/stock", "shop/checkout"):
        assert (await said(await shop.direct(workload), get("/"))).endswith(b"ok")
    assert shop.connections == 2


@pytest.mark.parametrize("behind", [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", b"x"])
async def test_law_19_bytes_that_nobody_asked_for_are_nobodys_answer(shop: Shop, behind: bytes) -> None:
    await shop.open()
    shop.answer = lambda _: OK + behind
    for _ in range(2):
        answer = await shop.get("/", straight=True)
        assert answer.endswith(b"\r\n\r\nok")
    assert shop.connections == 2


async def test_law_19_bytes_that_come_while_nobody_asks_are_nobodys_answer(shop: Shop) -> None:
    await shop.open()
    assert (await shop.get("/", straight=True)).endswith(b"ok")
    await shop.streams[0].send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
    assert (await shop.get("/", straight=True)).endswith(b"\r\n\r\nok")
    assert shop.connections == 2


async def test_law_19_an_early_answer_ends_its_connection(shop: Shop) -> None:
    await shop.open()
    caller = await shop.direct()
    await caller.send_all(b"POST / HTTP/1.1\r\nHost: payments\r\nContent-Length: 100000\r\n\r\nx")
    assert b"connection: close\r\n" in await heard(caller, b"ok")
    caller.abort()
    assert (await shop.get("/", straight=True)).endswith(b"ok")
    assert shop.connections == 2


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("HEAD", 2), ("OPTIONS", 2), ("POST", 1), ("DELETE", 1)])
async def test_law_19_only_what_changes_nothing_is_sent_again(shop: Shop, method: str, times: int) -> None:
    await shop.open()
    caller = await shop.direct()
    await caller.send_all(get("/first"))
    await heard(caller, b"ok")  # an idle connection to the application is kept
    met: list[bytes] = []

    def die_once(head: bytes) -> bytes:
        met.append(head)
        if len(met) == 1:
            raise trio.BrokenResourceError("a reset")
        return OK

    shop.answer = die_once
    answer = await said(caller, f"{method} /again HTTP/1.1\r\nHost: payments\r\nContent-Length: 0\r\n\r\n".encode())
    assert len(met) == times
    assert answer.startswith(b"HTTP/1.1 200 " if times == 2 else b"HTTP/1.1 502 ")


async def test_law_19_the_body_of_a_denied_request_is_read_within_bounds_or_not_at_all(shop: Shop) -> None:
    await shop.open({"methods": ["GET"]}, limits=Limits(drain_body_bytes=1024))
    small = b"POST / HTTP/1.1\r\nHost: payments\r\nContent-Length: 1000\r\n\r\n" + bytes(1000)
    answer = await shop.say(small + get("/"), straight=True)
    assert (answer.count(b" 403 "), answer.count(b" 200 ")) == (1, 1)
    smuggled = get("/smuggled").ljust(5000, b" ")
    large = b"POST / HTTP/1.1\r\nHost: payments\r\nContent-Length: 5000\r\n\r\n" + smuggled
    answer = await shop.say(large + get("/"), straight=True)
    assert (answer.count(b" 403 "), answer.count(b" 200 ")) == (1, 0)
    assert len(shop.heads) == 1


async def test_law_20_ids_are_random_and_nothing_secret_or_forged_is_said(shop: Shop) -> None:
    await shop.open({"paths": ["/open"]})
    secret = ("Authorization: Bearer s3cret", "Cookie: s3cret", 'User-Agent: s3cret"}\\n{"forged": 1')
    answers = [
        await shop.get(path, *secret, straight=True) for path in ("/open?t=s3cret", "/shut?t=s3cret", "/%22?s3cret")
    ]
    await eventually(lambda: len(shop.payments.written) == 3)
    lines = [record.line() for record in shop.payments.written]
    said_all: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert all(line.count(b"\n") == 1 for line in lines)
    assert b"s3cret" not in b"".join(lines + answers)
    assert b"forged" not in b"".join(lines)
    ids = [each["decision"] for each in said_all]
    assert all(re.fullmatch(r"test-[0-9a-f]{16}", each) for each in ids)
    assert len(set(ids)) == 3
    assert ids[1].encode() in answers[1]
    assert said_all[1]["reason"] == Reason.NO_POLICY_MATCHED
