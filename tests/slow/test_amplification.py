"""What a stranger's 10 KiB cost: less than 1 MiB of memory each, at every door and page."""

import trio

from certs.tls import client_context
from examples.demo.local_mesh import LocalMesh, Process, wait_for
from mesh.wire import ALPN
from sidecar.view import ALPN_HTTP
from tests.support.applications import Application, answering, serving
from tests.support.attacks import Shop, crowding, going_on, open_shop, surviving
from tests.support.processes import KIB, MIB
from tests.support.records import client_hello

BROUGHT = 10 * KIB
BRIEF = ("--response-head-timeout", "3s", "--pool-idle-timeout", "1s")
STRANGERS = 60  # fewer than one address may have at the same time


async def silent(_: Application, stream: trio.SocketStream) -> None:
    """An application that answers nothing until the other end leaves."""
    async for _chunk in stream:
        pass


async def cost_of(shop: Shop, victim: Process, address: str, said: bytes) -> None:
    """Let strangers say this and wait, and see what each of them cost."""
    assert len(said) <= BROUGHT
    async with (
        surviving(victim, memory=STRANGERS * MIB),
        going_on(shop.call) as honest,
        crowding(address, STRANGERS, said=said),
    ):
        await honest.go_on(6)


def filled(start: bytes, line: bytes, end: bytes) -> bytes:
    """A head of nearly BROUGHT bytes, made of as many small lines as fit."""
    return start + line * ((BROUGHT - len(start) - len(end)) // len(line)) + end


GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
MANY_FIELDS = filled(GET, b"a:\r\n", b"\r\n")
MANY_FIELDS_TAKEN = filled(GET, b"a: " + b"x" * 120 + b"\r\n", b"\r\n")  # no more fields than are taken
ONE_FIELD = filled(GET + b"a: ", b"x", b"\r\n\r\n")
UNFINISHED = filled(GET, b"a:\r\n", b"")
MANY_CHUNKS = filled(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", b"")
MANY_REQUESTS = filled(b"", GET + b"\r\n", b"")
UNFINISHED_HELLO = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03".ljust(BROUGHT, b"x")  # RFC 8446 §4.1.2


async def test_ten_kib_of_a_stranger_cost_less_than_a_mib(mesh: LocalMesh) -> None:
    async with serving(answering) as application:
        shop = await open_shop(mesh, application)
        assert mesh.control_plane is not None
        for victim, address in (
            (shop.checkout, shop.local_port),
            (shop.payments, shop.payments.observe),
            (mesh.control_plane, mesh.observe),
        ):
            for said in (MANY_FIELDS, ONE_FIELD, UNFINISHED, MANY_CHUNKS, MANY_REQUESTS):
                await cost_of(shop, victim, address, said)
        for victim, address, alpn in (
            (shop.payments, shop.mesh_port, ALPN_HTTP),
            (mesh.control_plane, mesh.address, ALPN),
        ):
            hello = client_hello(client_context(None, shop.bundle, [alpn]))
            for said in (hello, UNFINISHED_HELLO):
                await cost_of(shop, victim, address, said)


async def test_a_request_that_nobody_answers_costs_both_sidecars_less_than_a_mib(mesh: LocalMesh) -> None:
    async with serving(silent) as application:
        shop = await open_shop(mesh, application, *BRIEF, call=False)
        async with (
            surviving(shop.checkout, memory=STRANGERS * MIB),
            surviving(shop.payments, memory=STRANGERS * MIB),
            crowding(shop.local_port, STRANGERS, said=MANY_FIELDS_TAKEN),
        ):
            await wait_for(lambda: application.connections == STRANGERS, what="every request")
