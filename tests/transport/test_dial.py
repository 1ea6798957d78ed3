"""Every way in which nobody is reached has its own error, and a name is tried address by address."""

import socket

import pytest
import trio

from examples.demo.ports import free_port
from tests.support.patience import PATIENCE
from tests.support.processes import no_descriptor_left
from transport import (
    ConnectRefused,
    ConnectTimeout,
    ConnectUnreachable,
    Dialled,
    PlainStream,
    dial,
    original_destination,
)
from transport.sockets import PAUSE_SECONDS, Peername, is_own


async def test_nobody_listens() -> None:
    port = free_port()
    with pytest.raises(ConnectRefused, match=f"127.0.0.1:{port}"):
        await dial("127.0.0.1", port, deadline=5)


async def test_nobody_answers() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        held = []
        for _ in range(8):  # a backlog that is full answers no more
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
            held.append(caller)
        with pytest.raises(ConnectTimeout):
            await dial("127.0.0.1", full.getsockname()[1], deadline=0.2)
        for caller in held:
            caller.close()


async def test_where_no_descriptor_is_left_it_waits_for_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        dialled: list[PlainStream] = []

        async def call() -> None:
            dialled.append(await dial(*listening.getsockname(), deadline=60))

        async with trio.open_nursery() as nursery:
            with no_descriptor_left():
                nursery.start_soon(call)
                await trio.sleep(2.5 * PAUSE_SECONDS)
                assert dialled == []
        await dialled[0].aclose()


@pytest.mark.parametrize("address", ["no.such.name.invalid", "a" * 300, "", "1.2.3.4.5"])
async def test_no_such_address(address: str) -> None:
    with pytest.raises((ConnectUnreachable, ConnectRefused)):
        await dial(address, 1, deadline=PATIENCE)  # the machine's resolver may ask others


async def test_a_name_is_tried_address_by_address() -> None:
    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *args: object, **kwargs: object) -> list:
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", free_port())),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", listening.getsockname()),
            ]

        async def getnameinfo(self, *args: object) -> tuple[str, str]:
            raise NotImplementedError

    with socket.create_server(("127.0.0.1", 0)) as listening:
        trio.socket.set_custom_hostname_resolver(Resolver())
        stream = await dial("payments.example", 1, deadline=5)
        assert stream.peername == listening.getsockname()
        stream.abort()


async def test_the_near_end_is_the_one_that_is_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stream = await dial(*listening.getsockname(), deadline=5, source="127.0.0.9")
        assert stream.socket.getsockname()[0] == "127.0.0.9"
        stream.abort()
        with pytest.raises(ConnectUnreachable, match="assign requested address"):
            await dial(*listening.getsockname(), deadline=5, source="192.0.2.1")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_dialled_connection_is_known_before_it_can_be_accepted_and_until_it_is_closed(host: str) -> None:
    dialled, known = Dialled(), []
    with trio.socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        await listening.bind((host, 0))
        listening.listen()

        async def accept() -> None:
            sock, (address, port, *_) = await listening.accept()
            known.append(((address, port), listening.getsockname()[:2]))
            assert known[0] in dialled
            sock.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            stream = await dial(host, listening.getsockname()[1], deadline=5, dialled=dialled)
    assert known == [(stream.socket.getsockname()[:2], stream.peername)]
    stream.abort()
    assert known[0] not in dialled


async def test_what_failed_to_connect_is_not_known() -> None:
    class Noting(Dialled):
        def add(self, sock: trio.socket.SocketType, far: Peername, meant: Peername | None = None) -> None:
            super().add(sock, far, meant)
            known.append((sock.getsockname(), far))
            assert known[0] in dialled

    known: list[tuple[Peername, Peername]] = []
    dialled = Noting()
    with pytest.raises(ConnectRefused):
        await dial("127.0.0.1", free_port(), deadline=5, dialled=dialled)
    assert known[0] not in dialled


async def test_connections_of_one_near_end_are_told_apart_by_where_they_lead() -> None:
    """The kernel gives the same port to callers of different places: one of them may be the application's own."""
    dialled = Dialled()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as another:
        streams = [await dial(*each.getsockname(), deadline=5, dialled=dialled) for each in (one, another)]
        ends = [(stream.socket.getsockname(), stream.peername) for stream in streams]
        assert all(each in dialled for each in ends)
        assert (ends[0][0], ends[1][1]) not in dialled
        for stream in streams:
            stream.abort()


async def test_the_one_who_accepts_is_told_what_was_meant_for_as_long_as_it_is_open() -> None:
    dialled = Dialled()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        at = listening.getsockname()
        said = await dial(*at, deadline=5, dialled=dialled, meant=("10.0.0.7", 8080))
        silent = await dial(*at, deadline=5, dialled=dialled)
        ends = [(stream.socket.getsockname(), at) for stream in (said, silent)]
        assert [dialled.meant(each) for each in ends] == [("10.0.0.7", 8080), None]
        assert dialled.meant((("127.0.0.1", 1), at)) is None, "somebody else's"
        for stream in (said, silent):
            stream.abort()
        assert dialled.meant(ends[0]) is None


@pytest.mark.parametrize(
    ("host", "own"), [("127.0.0.1", True), ("::1", True), ("192.0.2.1", False), ("2001:db8::1", False), ("name", False)]
)
def test_an_address_is_this_machines_or_not(host: str, own: bool) -> None:
    assert is_own(host) is own


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_connection_that_nothing_redirected_was_meant_for_the_listener_or_for_nobody(host: str) -> None:
    with trio.socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        await listening.bind((host, 0))
        listening.listen()
        stream = await dial(*listening.getsockname()[:2], deadline=5)
        accepted, _ = await listening.accept()
        with accepted:
            assert original_destination(accepted) in (None, listening.getsockname()[:2])
        stream.abort()
