"""Ten thousand requests at once on one connection: answered in order, in bounded memory, others served meanwhile."""

import re

import trio

from examples.demo.local_mesh import LocalMesh
from tests.support.applications import Application, connect, serving
from tests.support.attacks import going_on, open_shop, surviving
from tests.support.processes import MIB

REQUESTS = 10_000


async def naming(application: Application, stream: trio.SocketStream) -> None:
    """Answers every request with its path."""
    buffer = b""
    while chunk := await stream.receive_some(65536):
        buffer += chunk
        while b"\r\n\r\n" in buffer:
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            path = head.split()[1]
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))


async def test_a_pipeline_of_ten_thousand_is_answered_in_order(mesh: LocalMesh) -> None:
    async with serving(naming) as application:
        shop = await open_shop(mesh, application, "--request-log", "off")
        pipeline = b"".join(b"GET /%d HTTP/1.1\r\nHost: payments\r\n\r\n" % number for number in range(REQUESTS))
        received = bytearray()
        async with (
            surviving(shop.checkout, memory=16 * MIB),
            surviving(shop.payments, memory=16 * MIB),
            going_on(shop.call),
            await connect(shop.local_port) as stream,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(stream.send_all, pipeline)
            while not received.endswith(b"\r\n\r\n/%d" % (REQUESTS - 1)):
                chunk = await stream.receive_some(65536)
                assert chunk, f"ended after {len(received)} bytes"
                received += chunk
        found = re.findall(rb"\r\n\r\n/(\d+)", received)
        assert [int(each) for each in found] == list(range(REQUESTS))


async def test_a_pipeline_whose_answers_nobody_reads_is_not_kept_in_memory(mesh: LocalMesh) -> None:
    async with serving(naming) as application:
        shop = await open_shop(mesh, application, "--body-idle-timeout", "5s")
        request = b"GET /%s HTTP/1.1\r\nHost: payments\r\n\r\n" % (b"x" * 2000)
        async with (
            surviving(shop.checkout, memory=24 * MIB),
            surviving(shop.payments, memory=24 * MIB),
            going_on(shop.call) as honest,
            await connect(shop.local_port) as stream,
        ):
            with trio.move_on_after(60):
                try:
                    await stream.send_all(request * REQUESTS)
                except trio.BrokenResourceError:
                    pass
                else:
                    raise AssertionError("everything was taken, and nobody reads")
            await honest.go_on()
