"""Half a handshake, half a head, a byte now and then: each door lets go after its deadline, and serves others."""

import socket
from contextlib import suppress

import trio

from certs.tls import client_context
from examples.demo.local_mesh import LocalMesh, Process, wait_for
from mesh.wire import ALPN
from sidecar.view import ALPN_HTTP
from tests.support.applications import Application, answering, serving
from tests.support.attacks import Shop, crowding, going_on, open_shop, surviving
from tests.support.processes import MIB, metric
from tests.support.records import client_hello

BODY = 1000
TALKERS = 40  # fewer than one address may have at the same time

# Each test shortens the limit that it looks at, and no other: everybody else keeps to theirs, also on a busy machine.
HANDSHAKE, HEADS = ("--handshake-timeout", "5s"), ("--request-head-timeout", "3s")
BODIES = ("--body-idle-timeout", "3s")
HEAD = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nX-Filler: "


def ended(talker: socket.socket) -> bool:
    """Whether the other end has let go; what it said first is read away."""
    try:
        while talker.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


async def talk_slowly(shop: Shop, victim: Process, address: str, said: bytes, filler: bytes) -> None:
    """Say the beginning, then one byte a second, until the door has let go of everybody."""
    async with (
        surviving(victim, memory=24 * MIB),
        going_on(shop.call, lambda: shop.mesh.admin(lambda client: client.get("/v1/bundle"))) as honest,
        crowding(address, TALKERS, said=said) as talkers,
    ):

        async def drip() -> None:
            while True:
                await trio.sleep(1)
                for each in talkers:
                    with suppress(OSError):
                        each.send(filler)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            await honest.go_on()
            await wait_for(lambda: all(map(ended, talkers)), seconds=90, what=f"an end at {address}")
            nursery.cancel_scope.cancel()


async def test_who_talks_slowly_is_let_go_and_nobody_else_notices(mesh: LocalMesh) -> None:
    async with serving(answering) as application:
        shop = await open_shop(mesh, application, *HANDSHAKE, *HEADS)
        control_plane = mesh.control_plane
        assert control_plane is not None
        hello = client_hello(client_context(None, shop.bundle, [ALPN]))
        async with trio.open_nursery() as nursery:
            for victim, address, said, filler in (
                (shop.payments, shop.mesh_port, hello[:100], b"x"),
                (shop.checkout, shop.local_port, HEAD, b"x"),
                (shop.payments, shop.payments.observe, HEAD, b"x"),
                (control_plane, mesh.observe, HEAD, b"x"),
                (control_plane, mesh.address, hello[:100], b"x"),
            ):
                nursery.start_soon(talk_slowly, shop, victim, address, said, filler)
        for observe, name, reason, count in (
            (shop.payments.observe, "doorward_sidecar_refused_total", "downstream_timeout", TALKERS),
            (shop.checkout.observe, "doorward_sidecar_refused_total", "downstream_timeout", TALKERS),
            (mesh.observe, "doorward_control_plane_links_refused_total", "handshake_timeout", TALKERS),
        ):
            assert await metric(observe, name, reason=reason) == count


async def drip_within_tls(shop: Shop) -> None:
    """Say the beginning of a head over mTLS, then one byte at a time, until the sidecar ends the connection."""
    stream = await shop.direct(shop.mesh_port, ALPN_HTTP)
    try:
        await stream.send_all(HEAD)
        while True:
            await trio.sleep(0.2)
            await stream.send_all(b"x")
    except trio.BrokenResourceError:
        pass
    finally:
        stream.abort()


async def test_who_has_a_certificate_and_talks_slowly_is_let_go_too(mesh: LocalMesh) -> None:
    async with serving(answering) as application:
        shop = await open_shop(mesh, application, *HEADS)
        async with surviving(shop.payments, memory=24 * MIB), going_on(shop.call) as honest:
            with trio.fail_after(90):
                async with trio.open_nursery() as talkers:
                    for _ in range(TALKERS):
                        talkers.start_soon(drip_within_tls, shop)
                    await honest.go_on()
        refused = await metric(shop.payments.observe, "doorward_sidecar_refused_total", reason="downstream_timeout")
        assert refused == TALKERS
        assert not [head for head in application.heads if b"/ready" in head], "no half of a head came through"


async def after_the_body(_: Application, stream: trio.SocketStream) -> None:
    """An application that answers a POST only once all of its body is there."""
    buffer = b""
    async for chunk in stream:
        buffer += chunk
        head, _, body = buffer.partition(b"\r\n\r\n")
        if head and len(body) >= BODY * head.startswith(b"POST"):
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            buffer = b""


async def test_a_body_that_stops_arriving_costs_its_own_exchange_only(mesh: LocalMesh) -> None:
    post = b"POST / HTTP/1.1\r\nHost: payments\r\nContent-Length: %d\r\n\r\nx" % BODY
    async with serving(after_the_body) as application:
        shop = await open_shop(mesh, application, *BODIES)
        async with (
            surviving(shop.checkout, memory=24 * MIB),
            surviving(shop.payments, memory=24 * MIB),
            going_on(shop.call) as honest,
            crowding(shop.local_port, TALKERS, said=post) as talkers,
        ):
            await honest.go_on()
            await wait_for(lambda: all(map(ended, talkers)), seconds=60, what="an end of every body")
        refused = await metric(shop.checkout.observe, "doorward_sidecar_refused_total", reason="downstream_timeout")
        assert refused == TALKERS
