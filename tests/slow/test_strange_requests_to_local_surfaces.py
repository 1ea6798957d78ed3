"""Every strange request at the observe addresses and the admin socket: each costs its own connection and no more.

What each answers is plain HTTP/1.1 of its own making: nothing of the request comes back, nothing fails inside, and the
next honest request is served.
"""

import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from control_plane.metrics import Metrics
from control_plane.observe import serve_observe
from sidecar.settings import Limits
from tests.sidecar.test_observe import serving
from tests.support.admin import admin_house
from tests.support.smuggling import BODIES, SMUGGLED
from tests.support.strange_heads import HEADS
from transport import listen

AT_ONCE = 8
EVERY = (*BODIES, *HEADS)
STATUSES = {b"100", b"200", b"400", b"403", b"404", b"405", b"413", b"415", b"421", b"431", b"501", b"505"}
Say = Callable[[bytes], Awaitable[bytes]]


async def said(stream: trio.SocketStream, request: bytes) -> bytes:
    """Everything that comes back, up to an end of either kind."""
    answer = b""
    async with stream:
        try:
            await stream.send_all(request)
            await stream.send_eof()
            async for data in stream:
                answer += data
        except trio.BrokenResourceError:
            return answer
    return answer


async def assert_harmless(say: Say, attempts: list[bytes], honest: bytes) -> None:
    limit = trio.CapacityLimiter(AT_ONCE)

    async def attempt(raw: bytes) -> None:
        async with limit:
            with trio.fail_after(30):
                answer = await say(raw)
        assert set(re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)) <= STATUSES, (raw[:200], answer)
        assert SMUGGLED.encode() not in answer, raw[:200]
        assert b"\0" not in answer, raw[:200]
        assert b"Traceback" not in answer, raw[:200]

    async with trio.open_nursery() as nursery:
        for raw in attempts:
            nursery.start_soon(attempt, raw)
    assert (await say(honest)).startswith(b"HTTP/1.1 200 ")


def at(path: str, host: str) -> list[bytes]:
    """The attempts, as requests for this path and host."""
    return [
        each.raw.replace(b" / HTTP", b" %s HTTP" % path.encode()).replace(b"Host: payments", b"Host: " + host.encode())
        for each in EVERY
    ]


def honest(path: str, host: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


@pytest.mark.parametrize("path", ["/metrics", "/config"])
async def test_the_sidecars_observe_address(path: str) -> None:
    async with serving(Limits(observe_timeout=1.0)) as served:

        async def say(request: bytes) -> bytes:
            return await said(await trio.open_tcp_stream("127.0.0.1", served.port), request)

        await assert_harmless(say, at(path, "127.0.0.1"), honest(path, "127.0.0.1"))
        unexpected = served.metrics.registry.get_sample_value(
            "doorward_sidecar_unexpected_errors_total", {"where": "observe"}
        )
        assert not unexpected


async def test_the_control_planes_observe_address() -> None:
    metrics, listeners = Metrics(), await listen("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]

    async def say(request: bytes) -> bytes:
        return await said(await trio.open_tcp_stream("127.0.0.1", port), request)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_observe(listeners, metrics, lambda: "", max_connections=2 * AT_ONCE))
        await assert_harmless(say, at("/metrics", "127.0.0.1"), honest("/metrics", "127.0.0.1"))
        nursery.cancel_scope.cancel()
    assert 'failures_total{place="observe"}' not in metrics.text().decode()


async def test_the_admin_socket(short_directory: Path) -> None:
    async with AsyncExitStack() as stack:
        house = stack.enter_context(admin_house(short_directory))
        sockets = trio.CapacityLimiter(3)  # it takes few connections at once in tests

        async def say(request: bytes) -> bytes:
            async with sockets:
                sock = trio.socket.socket(socket.AF_UNIX)
                await sock.connect(str(house.socket))
                return await said(trio.SocketStream(sock), request)

        attempts = [raw[:100_000] for raw in at("/v1/bans", "localhost")][::4]
        await assert_harmless(say, attempts, honest("/v1/bans", "localhost"))
        assert house.backend.store.bans() == ()
