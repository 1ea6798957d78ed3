"""Every way in which nobody is reached has its own error, and a name is tried address by address."""

import socket

import pytest
import trio

from transport import ConnectRefused, ConnectTimeout, ConnectUnreachable, dial


async def free_port() -> int:
    with trio.socket.socket() as sock:
        await sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_nobody_listens() -> None:
    port = await free_port()
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


@pytest.mark.parametrize("address", ["no.such.name.invalid", "a" * 300, "", "1.2.3.4.5"])
async def test_no_such_address(address: str) -> None:
    with pytest.raises((ConnectUnreachable, ConnectRefused)):
        await dial(address, 1, deadline=5)


async def test_a_name_is_tried_address_by_address() -> None:
    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *args: object, **kwargs: object) -> list:
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", await free_port())),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", listening.getsockname()),
            ]

        async def getnameinfo(self, *args: object) -> tuple[str, str]:
            raise NotImplementedError

    with socket.create_server(("127.0.0.1", 0)) as listening:
        trio.socket.set_custom_hostname_resolver(Resolver())
        stream = await dial("payments.example", 1, deadline=5)
        assert stream.peername == listening.getsockname()
        stream.abort()
