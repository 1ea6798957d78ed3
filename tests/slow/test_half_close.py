"""Either end of a TCP stream may end its direction first, with much still to come the other way; a cut is a reset."""

import socket
import struct
from collections.abc import Callable

import pytest
import trio
from attrs import define, field

from examples.demo.local_mesh import LocalMesh, wait_for
from tests.support.applications import Application, connect, serving
from tests.support.pairs import Pair, start_pair
from tests.support.payloads import MIB, Sum, receive, send

LARGE = 64 * MIB
SMALL = 100_000
PATIENCE = 120.0


async def test_a_client_that_ends_first_still_gets_a_large_answer(mesh: LocalMesh) -> None:
    sums: list[Sum] = []

    async def answering_at_the_end(_: Application, stream: trio.SocketStream) -> None:
        sums.append(await receive(stream))
        sums.append(await send(stream, LARGE, number=2))

    async with serving(answering_at_the_end) as tcp:
        pair = await start_pair(mesh, tcp=tcp)
        with trio.fail_after(PATIENCE):
            async with await connect(pair.tcp) as stream:
                sent = await send(stream, SMALL, number=1)
                await stream.send_eof()
                received = await receive(stream)
    assert sums == [sent, received]
    assert received.size == LARGE


async def test_a_server_that_ends_first_still_gets_a_large_upload(mesh: LocalMesh) -> None:
    sums: list[Sum] = []

    async def ending_at_once(_: Application, stream: trio.SocketStream) -> None:
        sums.append(await send(stream, SMALL, number=2))
        await stream.send_eof()
        sums.append(await receive(stream))

    async with serving(ending_at_once) as tcp:
        pair = await start_pair(mesh, tcp=tcp)
        with trio.fail_after(PATIENCE):
            async with await connect(pair.tcp) as stream:
                received = await receive(stream)
                sent = await send(stream, LARGE, number=1)
                await stream.send_eof()
                await wait_for(lambda: len(sums) == 2, what="the upload's end")
    assert sums == [received, sent]
    assert sent.size == LARGE


async def test_an_end_that_comes_while_much_is_under_way_overtakes_nothing(mesh: LocalMesh) -> None:
    """Both ends send without reading, end, and only then read: neither end of a direction shortens the other one."""
    sums: list[Sum] = []
    held = 256 * 1024  # fits into the buffers on the way, so that neither waits for the other

    async def at_once(_: Application, stream: trio.SocketStream) -> None:
        sums.append(await send(stream, held, number=2))
        await stream.send_eof()
        sums.append(await receive(stream))

    async with serving(at_once) as tcp:
        pair = await start_pair(mesh, tcp=tcp)
        with trio.fail_after(PATIENCE):
            async with await connect(pair.tcp) as stream:
                sent = await send(stream, held, number=1)
                await stream.send_eof()
                received = await receive(stream)
                await wait_for(lambda: len(sums) == 2, what="the upload's end")
    assert sums == [received, sent]
    assert received.size == sent.size == held


@define
class End:
    """One end of a transfer: it sends too much to be held on the way, or takes 1 MiB of it and then pauses.

    `saw` is how the connection ended for it.
    """

    sends: bool
    stream: trio.SocketStream | None = None
    in_the_middle: trio.Event = field(factory=trio.Event)
    goes_on: trio.Event = field(factory=trio.Event)
    saw: str = ""

    async def talk(self, stream: trio.SocketStream) -> None:
        """Send, or take, until the end."""
        self.stream = stream
        try:
            await self._talk(stream)
            self.saw = "an orderly end"
        except trio.BrokenResourceError:
            self.saw = "a reset"
        except trio.ClosedResourceError:
            self.saw = "cut off here"
        finally:
            stream.socket.close()

    async def _talk(self, stream: trio.SocketStream) -> None:
        if self.sends:
            await send(stream, LARGE)
            return
        await receive(stream, MIB)
        self.in_the_middle.set()
        await self.goes_on.wait()
        await receive(stream)

    async def serve(self, _: Application, stream: trio.SocketStream) -> None:
        """Talk as an application does."""
        await self.talk(stream)

    def cut_off(self) -> None:
        """Close with a reset."""
        assert self.stream is not None
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()


async def cut_in_the_middle(pair: Pair, client: End, server: End, cut: Callable[[], object]) -> set[str]:
    """Let both talk, cut it off while the reader pauses, and return what those saw who did not cut."""
    reader = client if server.sends else server
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.talk, await connect(pair.tcp))
        await reader.in_the_middle.wait()
        cut()
        reader.goes_on.set()
        await wait_for(lambda: client.saw and server.saw, what="the end at both ends")
    return {client.saw, server.saw} - {"cut off here"}


@pytest.mark.parametrize("upload", [True, False], ids=["upload", "download"])
async def test_a_cut_at_one_end_is_a_reset_at_the_other(mesh: LocalMesh, upload: bool) -> None:
    client, server = End(sends=upload), End(sends=not upload)

    async def serve(application: Application, stream: trio.SocketStream) -> None:
        await server.serve(application, stream)

    with trio.fail_after(PATIENCE):
        async with serving(serve) as tcp:
            pair = await start_pair(mesh, tcp=tcp)
            for who in ("client", "server"):
                client, server = End(sends=upload), End(sends=not upload)
                cutter = client if who == "client" else server
                assert await cut_in_the_middle(pair, client, server, cutter.cut_off) == {"a reset"}, who


@pytest.mark.parametrize("upload", [True, False], ids=["upload", "download"])
@pytest.mark.parametrize("whose", ["client", "server"])
async def test_a_sidecar_that_is_killed_makes_nothing_look_whole(mesh: LocalMesh, whose: str, upload: bool) -> None:
    client, server = End(sends=upload), End(sends=not upload)
    with trio.fail_after(PATIENCE):
        async with serving(server.serve) as tcp:
            pair = await start_pair(mesh, tcp=tcp)
            killed = pair.client if whose == "client" else pair.server

            def kill() -> None:
                killed.popen.kill()
                killed.popen.wait()

            assert await cut_in_the_middle(pair, client, server, kill) == {"a reset"}
