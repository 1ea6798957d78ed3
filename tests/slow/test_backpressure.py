"""A reader that stops makes its writer stop after a bounded number of bytes, and nobody else.

What was accepted from the writer waits in three connections' kernel buffers, whose sizes the kernel chooses and which
it tells, and in the two sidecars: there, each direction holds `buffer_bytes`, and at most one TLS record beside them.
"""

from contextlib import AsyncExitStack

import pytest
import trio
from attrs import define, field, frozen

from examples.demo.local_mesh import LocalMesh
from tests.support.applications import Application, connect, exchange, get, serving
from tests.support.kernel import queued
from tests.support.pairs import HTTP_PORT, TCP_PORT, Pair, start_pair
from tests.support.payloads import KIB, MIB, Sum, blocks, expected, receive

PATIENCE = 200.0
SIZE = 48 * MIB  # more than all buffers on the way can take
RECORD = 16 * KIB
BUFFER_BYTES = 64 * KIB  # as it is without a setting
IDLE = 120 * KIB  # for an open connection by itself, resident
SEAL = 22  # bytes that TLS 1.3 adds to each record (RFC 8446 §5.2)
QUIET = 20  # looks in a row, a twentieth of a second apart, that see nothing move
POST = b"POST /stalling HTTP/1.1\r\nHost: payments\r\nContent-Length: %d\r\n\r\n" % SIZE
GET = b"GET /stalling HTTP/1.1\r\nHost: payments\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE


@define
class Transfer:
    """One writer's SIZE bytes, and a reader that takes none of them before it may."""

    written: int = 0
    sum: Sum = field(factory=Sum)
    may_read: trio.Event = field(factory=trio.Event)
    over: trio.Event = field(factory=trio.Event)

    async def write(self, stream: trio.SocketStream) -> None:
        for block in blocks(SIZE):
            left = memoryview(block)
            while left:
                try:
                    taken = await stream.socket.send(left)
                except OSError as error:  # a stream's own send_all would not tell how much was taken
                    raise trio.BrokenResourceError(str(error)) from None
                self.written += taken
                left = left[taken:]

    async def read(self, stream: trio.SocketStream) -> None:
        await self.may_read.wait()
        self.sum = await receive(stream, SIZE)
        self.over.set()

    async def stops(self, way: "Way") -> int:
        """Wait until nothing moves any more, and return how many bytes the sidecars hold then."""
        seen, since = (0, 0), 0
        while since < QUIET or not self.written:
            now = self.written, self.written - way.queued()
            since = since + 1 if now == seen else 0
            seen = now
            await trio.sleep(0.05)
        return seen[1]


@frozen
class Way:
    """The ports that a transfer's three connections go to: the client's door, the mesh's, the application's."""

    door: int
    mesh: int
    application: int
    record: int  # bytes of content in one TLS record

    @classmethod
    def of(cls, pair: Pair, protocol: str, application: Application, buffer_bytes: int) -> "Way":
        door, port = (pair.http, HTTP_PORT) if protocol == "http" else (pair.tcp, TCP_PORT)
        mesh = pair.server.inbound[port]
        door_port, mesh_port = (int(address.rpartition(":")[2]) for address in (door, mesh))
        return cls(door_port, mesh_port, application.port, min(RECORD, buffer_bytes))

    def queued(self) -> int:
        """How many bytes of content wait in the kernel."""
        waiting = queued([self.door, self.mesh, self.application])
        content = waiting[self.mesh] * self.record // (self.record + SEAL)
        return waiting[self.door] + content + waiting[self.application]


@define
class Applications:
    """Behind both ports: the transfer for the connection that asks for it, and an answer for all others."""

    upload: bool = True
    transfer: Transfer = field(factory=Transfer)

    async def over_tcp(self, _: Application, stream: trio.SocketStream) -> None:
        if await stream.receive_some(1) == b"t":
            await self._talk(stream)
        else:
            await stream.send_all(b"echo")

    async def over_http(self, _: Application, stream: trio.SocketStream) -> None:
        while head := await head_of(stream):
            if b"/stalling" not in head:
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                continue
            if not self.upload:
                await stream.send_all(OK)
            await self._talk(stream)
            await stream.receive_some(1)  # until the caller leaves
            return

    async def _talk(self, stream: trio.SocketStream) -> None:
        await (self.transfer.read(stream) if self.upload else self.transfer.write(stream))


async def head_of(stream: trio.SocketStream) -> bytes:
    """A head, and nothing of what is behind it; b"" at the end."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = await stream.receive_some(1)
        if not byte:
            return b""
        head += byte
    return head


async def call(pair: Pair, protocol: str, applications: Applications) -> None:
    """The client's end of a transfer."""
    transfer, upload = applications.transfer, applications.upload
    async with await connect(pair.http if protocol == "http" else pair.tcp) as stream:
        if protocol == "tcp":
            await stream.send_all(b"t")
        else:
            await stream.send_all(POST if upload else GET)
        if upload:
            await transfer.write(stream)
            await transfer.over.wait()
            return
        if protocol == "http":
            assert (await head_of(stream)).startswith(b"HTTP/1.1 200 ")
        await transfer.read(stream)


async def others_go_on(pair: Pair) -> None:
    assert (await exchange(pair.http, get("/"), seconds=60)).endswith(b"\r\n\r\nok")
    assert await exchange(pair.tcp, b"x", seconds=60) == b"echo"


@pytest.mark.parametrize("buffer_bytes", [BUFFER_BYTES, 4 * KIB])
async def test_a_reader_that_stops_stops_its_writer(mesh: LocalMesh, buffer_bytes: int) -> None:
    applications, whole = Applications(), expected(SIZE)
    with trio.fail_after(PATIENCE):
        async with serving(applications.over_tcp) as tcp, serving(applications.over_http) as http:
            pair = await start_pair(mesh, "--buffer-bytes", str(buffer_bytes), http=http, tcp=tcp)
            for protocol, upload in [("tcp", True), ("tcp", False), ("http", True), ("http", False)]:
                applications.upload, applications.transfer = upload, (transfer := Transfer())
                way = Way.of(pair, protocol, http if protocol == "http" else tcp, buffer_bytes)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(call, pair, protocol, applications)
                    in_sidecars = await transfer.stops(way)
                    print(f"{protocol} {upload=}: {transfer.written} accepted, {in_sidecars} of them in the sidecars")
                    assert transfer.written < SIZE
                    await others_go_on(pair)
                    assert in_sidecars <= 2 * (buffer_bytes + RECORD)
                    transfer.may_read.set()
                assert transfer.sum == whole


async def test_each_of_many_stopped_readers_costs_its_buffers_and_no_more(mesh: LocalMesh) -> None:
    applications, many = Applications(upload=False), 40
    with trio.fail_after(PATIENCE):
        async with (
            serving(applications.over_tcp) as tcp,
            serving(applications.over_http) as http,
            AsyncExitStack() as streams,
        ):
            pair = await start_pair(mesh, http=http, tcp=tcp)
            await others_go_on(pair)
            before = pair.memory()
            for address, asking in [(pair.tcp, b"t"), (pair.http, GET)] * many:
                stream = await streams.enter_async_context(await connect(address))
                await stream.send_all(asking)
            await applications.transfer.stops(Way.of(pair, "tcp", tcp, BUFFER_BYTES))
            for now, then in zip(pair.memory(), before, strict=True):
                assert now.peak - then.peak < 2 * many * (IDLE + 2 * BUFFER_BYTES)
            await others_go_on(pair)
