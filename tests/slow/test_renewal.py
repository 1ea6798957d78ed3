"""Certificates that live twenty seconds, under load for a minute: everybody renews often, and no call notices."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from examples.demo.local_mesh import LocalMesh, Sidecar, http_get, open_local_mesh
from tests.support.applications import Application, connect, echoing, exchange, get, serving
from tests.support.load import loading
from tests.support.patience import PATIENCE
from tests.support.policies import allow
from tests.support.processes import logged

SECONDS = 60
LIFETIME = 20  # of a certificate: for half of it a machine may stand still, also its disk, before a renewal is too late
TRICKLE = 2 * LIFETIME + 5  # seconds that one response takes, more than two certificates live


async def test_renewals_under_load_cost_no_call_and_no_connection(short_directory: Path) -> None:
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(open_local_mesh(short_directory))
        await mesh.start_control_plane("--certificate-lifetime", f"{LIFETIME}s")
        payments, ledger, checkout = await _three(mesh, stack)
        door, stream_door = checkout.outbound["shop/payments:8080"], checkout.outbound["shop/ledger:5432"]
        async with (
            loading(door, keep_alive=4, fresh=2) as gets,
            loading(door, keep_alive=4, fresh=2, method="POST") as posts,  # not sent again: each failure shows
            _open_stream(stream_door) as echoed,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_trickle, door)
            await trio.sleep(SECONDS)

        assert (gets.failed, posts.failed) == ([], [])
        assert min(len(gets.answers), len(posts.answers)) > SECONDS  # a busy machine is slow, but it was no idle minute
        assert len(echoed) > SECONDS
        for sidecar in (payments, ledger, checkout):
            serials = {line["serial"] for line in logged(sidecar, "certificate")}
            assert len(serials) >= 5, sidecar.name  # about seven
            assert (await http_get(sidecar.observe, "/ready"))[0] == 200
            assert '"level":"warning","event":"renewal failed' not in sidecar.log.read_text()


async def _three(mesh: LocalMesh, stack: AsyncExitStack) -> tuple[Sidecar, Sidecar, Sidecar]:
    web = await stack.enter_async_context(serving(_answering_or_trickling))
    raw = await stack.enter_async_context(serving(echoing))
    payments = await mesh.start_sidecar("shop/payments", inbound=[f"127.0.0.1:0=127.0.0.1:{web.port}/http,port=8080"])
    ledger = await mesh.start_sidecar("shop/ledger", inbound=[f"127.0.0.1:0=127.0.0.1:{raw.port}/tcp,port=5432"])
    doors = ["127.0.0.1:0=shop/payments:8080", "127.0.0.1:0=shop/ledger:5432"]
    checkout = await mesh.start_sidecar("shop/checkout", outbound=doors)
    await allow(mesh, "checkout", "payments", 8080)
    await allow(mesh, "checkout", "ledger", 5432, http=False)
    return payments, ledger, checkout


async def _answering_or_trickling(application: Application, stream: trio.SocketStream) -> None:
    """A short answer to every request without a body, and a long one to whoever asks for `/trickle`."""
    buffer = b""
    while chunk := await stream.receive_some(65536):
        buffer += chunk
        while b"\r\n\r\n" in buffer:
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            body = b"." * TRICKLE if head.startswith(b"GET /trickle") else b"k"
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            for byte in body[:-1]:
                await stream.send_all(bytes([byte]))
                await trio.sleep(1)
            await stream.send_all(body[-1:])


async def _trickle(door: str) -> None:
    answer = await exchange(door, get("/trickle"), seconds=SECONDS + PATIENCE)
    assert answer.endswith(b"\r\n\r\n" + b"." * TRICKLE), answer


@asynccontextmanager
async def _open_stream(door: str) -> AsyncIterator[list[bytes]]:
    """One TCP connection, with a question and its answer again and again. Yields what came back."""
    echoed: list[bytes] = []
    stream = await connect(door)
    async with stream, trio.open_nursery() as nursery:

        async def ask() -> None:
            while True:
                said = b"%09d" % len(echoed)
                await stream.send_all(said)
                heard = b""
                while len(heard) < len(said):
                    more = await stream.receive_some()
                    assert more, "the stream was closed"
                    heard += more
                assert heard == said
                echoed.append(heard)
                await trio.sleep(0.02)

        nursery.start_soon(ask)
        yield echoed
        nursery.cancel_scope.cancel()
