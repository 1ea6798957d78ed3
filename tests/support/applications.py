"""Applications behind a sidecar, on loopback within the test: they record what reached them and answer as told."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio
from attrs import define, field

from examples.demo.local_mesh import Sidecar
from tests.support.patience import PATIENCE


@define
class Application:
    """A listening server. `heads` are the request heads that reached it, byte for byte; `connections` counts."""

    port: int = 0
    heads: list[bytes] = field(factory=list)
    connections: int = 0


@asynccontextmanager
async def serving(handler: Callable[[Application, trio.SocketStream], Awaitable[None]]) -> AsyncIterator[Application]:
    """Serve every connection with `handler` until the block ends."""
    application = Application()

    async def serve_one(stream: trio.SocketStream) -> None:
        application.connections += 1
        try:
            async with stream:
                await handler(application, stream)
        except trio.BrokenResourceError:
            pass  # the other side of a refusal or a reset

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve_one, 0, host="127.0.0.1"))
        application.port = listeners[0].socket.getsockname()[1]
        yield application
        nursery.cancel_scope.cancel()


async def answering(application: Application, stream: trio.SocketStream) -> None:
    """HTTP for requests without a body: every head gets a 200 that says `ok`."""
    buffer = b""
    while chunk := await stream.receive_some(65536):
        buffer += chunk
        while b"\r\n\r\n" in buffer:
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            application.heads.append(head + b"\r\n\r\n")
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def echoing(_: Application, stream: trio.SocketStream) -> None:
    """Raw TCP: what comes goes back, until the half-close."""
    async for chunk in stream:
        await stream.send_all(chunk)


async def connect(address: str) -> trio.SocketStream:
    """A plain connection to `HOST:PORT`."""
    host, _, port = address.rpartition(":")
    return await trio.open_tcp_stream(host, int(port))


async def exchange(address: str, request: bytes, *, seconds: float = PATIENCE) -> bytes:
    """Send the bytes on a connection of their own, and everything that comes back until its end."""
    received = b""
    with trio.fail_after(seconds):
        async with await connect(address) as stream:
            await stream.send_all(request)
            try:
                async for chunk in stream:
                    received += chunk
            except trio.BrokenResourceError:
                received += b"<reset>"
    return received


def get(path: str, *headers: str) -> bytes:
    """A GET that ends its connection."""
    lines = [f"GET {path} HTTP/1.1", "Host: payments", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def refusals(sidecar: Sidecar, reason: str) -> list[dict[str, object]]:
    """The sidecar's access-log lines with that reason."""
    return [each for each in sidecar.records() if each.get("reason") == reason]


async def saying(name: str, stream: trio.SocketStream) -> None:
    """Answer each request with the name, or with `plaintext` where it came past the sidecar."""
    try:
        async with stream:
            async for request in stream:
                said = name if b"x-forwarded-client-cert" in request.lower() else "plaintext"
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said.encode()))
    except trio.BrokenResourceError:
        pass
