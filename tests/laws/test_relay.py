"""Laws 24 to 31: bytes are moved fairly, none is lost, mixed up or forged by a close, and nothing holds the loop.

Bytes are moved by plain trio tasks so far: there is no ready list, no latch and no edge to miss. What these laws mean
is held here all the same, so that it still holds when the bytes are moved in another way.
"""

import hashlib
import socket
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing

from certs.tls import client_context, server_context
from mesh.policy import Facts, Reason
from mesh.wire import Ack
from sidecar.live import SLICE, LiveConnection, LiveConnections
from sidecar.metrics import Metrics
from sidecar.relay import BUFFER_BYTES, Ending, Tally, relay
from sidecar.snapshots import Snapshots
from sidecar.view import Mesh
from tests.laws.conftest import Shop, eventually, get, said
from tests.support.doors import read_to_the_end
from tests.support.memory import memory_pair
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from tests.support.simulator import WORKLOAD, allow, snapshot
from tests.support.streams import break_off, plain_pair, socket_pair, tls_pair
from transport import PlainStream, TlsStream

BUFFER = 4096


async def both(pki: Pki, *, small: bool = False) -> tuple[TlsStream, TlsStream]:
    """Two ends of one TLS connection: the dialling one, the accepting one."""
    client = client_context(pki.svid("shop/checkout"), pki.bundle, [b"test"])
    server = server_context(pki.svid("shop/payments"), pki.bundle, [b"test"])
    return await tls_pair(client, server, small=small)


async def test_law_24_a_connection_that_never_pauses_lets_others_have_their_turn(pki: Pki) -> None:
    client, a = await both(pki)
    b, sink = await plain_pair()
    tally, most = Tally(), 0

    async def flood() -> None:
        await client.send_all(bytes(8 * 1024 * 1024))
        await client.send_eof()

    async def swallow() -> None:
        while await sink.receive_some():
            pass
        await sink.aclose()

    async def take_turns() -> None:
        nonlocal most
        while True:
            before = tally.from_a
            await trio.lowlevel.checkpoint()
            most = max(most, tally.from_a - before)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        nursery.start_soon(swallow)
        nursery.start_soon(take_turns)
        await relay(a, b, tally, idle=60)
        nursery.cancel_scope.cancel()
    client.abort()
    assert tally.from_a == 8 * 1024 * 1024
    assert most <= BUFFER_BYTES, "no more than one buffer between two turns of somebody else"


@pytest.mark.parametrize("buffer_bytes", [BUFFER, BUFFER_BYTES])
async def test_law_25_nothing_that_arrived_is_left_behind(pki: Pki, buffer_bytes: int) -> None:
    """Records larger than a read and reads larger than a record, backpressure in between, and then silence, which
    raises no edge for what is left."""
    data = bytes(range(256)) * 4 * 1024
    client, a = await both(pki, small=True)
    b, sink = await plain_pair(small=True)
    received, left, all_there = hashlib.sha256(), len(data), trio.Event()

    async def send() -> None:
        await client.send_all(data)
        await all_there.wait()
        await client.send_eof()

    async def receive_slowly() -> None:
        nonlocal left
        while piece := await sink.receive_some(10_000):
            received.update(piece)
            left -= len(piece)
            if not left:
                all_there.set()
            await trio.lowlevel.checkpoint()
        await sink.aclose()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(receive_slowly)
            ending = await relay(a, b, Tally(), idle=60, buffer_bytes=buffer_bytes)
    assert ending is Ending.DONE
    assert received.digest() == hashlib.sha256(data).digest()
    client.abort()


async def test_law_26_a_wake_up_without_a_cause_changes_nothing(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = await both(pki)
    really, false_alarms = trio.lowlevel.wait_readable, 0

    async def wake_too_early(sock: object) -> None:
        nonlocal false_alarms
        false_alarms += 1
        if false_alarms > 5:
            await really(sock)
        else:
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wake_too_early)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                assert await server.receive_some() == b"what really came"

            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            await client.send_all(b"what really came")
    assert false_alarms > 5
    client.abort()
    server.abort()


async def test_law_27_a_closed_stream_never_touches_who_got_its_descriptor(pki: Pki) -> None:
    client, server = await both(pki)
    connection, number = server.connection, server.connection.fileno()
    del connection
    server.abort()
    client.abort()
    newcomers = [await socket_pair() for _ in range(3)]
    again = [pair for pair in newcomers if number in (pair[0].fileno(), pair[1].fileno())]
    assert again, "the kernel gives the lowest number that is free"
    ours, theirs = again[0] if again[0][0].fileno() == number else tuple(reversed(again[0]))
    await theirs.send(b"for the newcomer")
    for late in (server.receive_some, partial(server.send_all, b"late"), server.send_eof):
        with pytest.raises(trio.ClosedResourceError):
            await late()
    await server.aclose()  # twice is as good as once
    server.abort()
    assert await ours.recv(100) == b"for the newcomer"
    await ours.send(b"still open")
    assert await theirs.recv(100) == b"still open", "and nothing was said on it before"
    for pair in newcomers:
        for sock in pair:
            sock.close()


async def test_law_28_whoever_ends_a_connection_ends_it_once_and_whole() -> None:
    live = LiveConnections()
    connection = LiveConnection(None)
    client, a = memory_pair()
    b, application = memory_pair()
    async with trio.open_nursery() as nursery:

        async def own() -> None:
            with live.register(connection):
                await relay(a, b, Tally(), idle=60)  # type: ignore[arg-type]  # a stream in memory

        nursery.start_soon(own)
        await trio.testing.wait_all_tasks_blocked()
        connection.end(Reason.BANNED)
        connection.end(Reason.DRAINING)
    assert connection.ended is Reason.BANNED
    assert not len(live)
    for far_end in (client, application):
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(PATIENCE):  # cut off, and seen as such
            await far_end.receive_some()
    a.abort()
    await b.aclose()


async def test_law_29_a_fault_of_our_own_costs_one_connection_and_is_counted(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await shop.open()
    going_on = await shop.direct()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr("sidecar.http.inbound.decide", fail)
        assert b"200" not in (await shop.get("/", straight=True)).partition(b"\r\n")[0]
        await eventually(lambda: shop.payments.counted("unexpected_errors_total", where="inbound") == 1)
    assert "ZeroDivisionError" in caplog.text
    assert shop.payments.written[0].reason == Reason.INTERNAL_ERROR
    assert (await said(going_on, get("/"))).endswith(b"ok")


@pytest.mark.parametrize(
    "then",
    [
        lambda stream: stream.send_all(b"x"),
        lambda stream: stream.send_all(bytes(64 * 1024)),
        lambda stream: stream.send_eof(),
    ],
)
async def test_law_30_after_a_write_that_was_broken_off_nothing_is_sent(
    pki: Pki, then: Callable[[TlsStream], Awaitable[None]]
) -> None:
    client, server = await both(pki, small=True)
    await break_off(partial(client.send_all, bytes(4 * 1024 * 1024)))
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(PATIENCE):
        await then(client)
    client.abort()
    with pytest.raises(trio.BrokenResourceError):  # and no clean end is forged
        await read_to_the_end(server)
    server.abort()


async def test_law_30_an_end_without_close_notify_is_a_reset_and_one_with_it_a_half_close(pki: Pki) -> None:
    for clean in (True, False):
        client, a = await both(pki)
        b, application = await plain_pair()
        endings: list[Ending] = []

        async def carry(a: TlsStream = a, b: PlainStream = b, endings: list[Ending] = endings) -> None:
            endings.append(await relay(a, b, Tally(), idle=60))

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(carry)
                await client.send_all(b"question")
                if clean:
                    await client.send_eof()
                    assert await application.receive_some() == b"question"
                    assert await application.receive_some() == b""
                    await application.send_all(b"answer")  # the other direction goes on
                    assert await client.receive_some() == b"answer"
                    await application.aclose()
                else:
                    client._socket.shutdown(socket.SHUT_WR)
                    with pytest.raises(trio.BrokenResourceError):
                        await read_to_the_end(application)
        assert endings == [Ending.DONE if clean else Ending.A_BROKE]
        client.abort()
        application.abort()


async def test_law_31_a_new_snapshot_holds_at_once_and_old_connections_are_looked_at_in_slices(
    shop: Shop, pki: Pki
) -> None:
    await shop.open()
    live, turns = shop.payments.proxy.live, 0
    facts = Facts(shop.payments.proxy.mesh.workload, shop.app_port, pki.id())

    async def hold() -> None:
        with live.register(LiveConnection(None, facts)):
            await trio.sleep_forever()

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(5 * SLICE):
            nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        caller = await shop.direct()
        shop.payments.learn(policies=[])
        assert b" 403 " in await said(caller, get("/")), "before anybody else was decided again"
        nursery.start_soon(count)
        assert await shop.payments.push(policies=[]) == 5 * SLICE
        assert turns >= 4
        nursery.cancel_scope.cancel()


async def test_law_31_who_is_ended_by_a_snapshot_comes_back_under_that_one(pki: Pki) -> None:
    """Others are still to be looked at then, so it has to be in force before the first of them is."""
    mesh, live = Mesh(WORKLOAD.in_domain(pki.domain)), LiveConnections()
    snapshots = Snapshots(mesh, live, Metrics(), pki.domain)
    assert await snapshots.apply(snapshot(pki, 1, allow())) == Ack("first", 1)
    facts = Facts(mesh.workload, 8080, pki.id("shop/frontend"))
    found: list[int] = []

    async def hold() -> None:
        with live.register(LiveConnection(None, facts)):
            await trio.sleep_forever()
        assert mesh.view is not None
        found.append(mesh.view.number)

    async with trio.open_nursery() as nursery:
        for _ in range(2 * SLICE):
            nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        assert await snapshots.apply(snapshot(pki, 2, allow(caller="ops"))) == Ack("first", 2)
    assert found == [2] * 2 * SLICE


async def test_law_31_handshakes_take_turns(shop: Shop) -> None:
    """Their steps are work for the processor: no more than so many are made before others go on."""
    await shop.open()
    limiter = shop.payments.proxy.handshakes
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, int(limiter.borrowed_tokens))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as watching:
        watching.start_soon(watch)
        async with trio.open_nursery() as nursery:
            for _ in range(2 * int(limiter.total_tokens)):
                nursery.start_soon(shop.direct)
        watching.cancel_scope.cancel()
    assert 1 < most <= limiter.total_tokens
