"""A Unix socket is private to its owner, replaces only its own dead predecessor, and is gone afterwards."""

import socket
import stat
from pathlib import Path

import pytest
import trio

from transport import SocketTaken, unix_listener


async def test_it_is_private_and_answers(short_directory: Path) -> None:
    path = short_directory / "s"
    with unix_listener(path) as listener:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        client = await trio.open_unix_socket(str(path))
        server = await listener.accept()
        await client.send_all(b"x")
        assert await server.receive_some() == b"x"
        await client.aclose()
        await server.aclose()
    assert not path.exists()


async def test_a_dead_predecessor_is_replaced(short_directory: Path) -> None:
    path = short_directory / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with unix_listener(path):
        pass
    assert not path.exists()


async def test_a_living_one_is_not_stolen(short_directory: Path) -> None:
    path = short_directory / "s"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(SocketTaken, match="running process"), unix_listener(path):
            pass
        assert path.is_socket()


async def test_what_is_no_socket_is_left_alone(short_directory: Path) -> None:
    path = short_directory / "s"
    path.write_text("precious")
    with pytest.raises(SocketTaken, match="no socket"), unix_listener(path):
        pass
    assert path.read_text() == "precious"


async def test_a_link_is_not_followed(short_directory: Path) -> None:
    path = short_directory / "s"
    path.symlink_to(short_directory / "elsewhere")
    with pytest.raises(SocketTaken), unix_listener(path):
        pass
    assert path.is_symlink()


async def test_one_that_took_its_place_is_not_removed(short_directory: Path) -> None:
    path = short_directory / "s"
    with unix_listener(path):
        path.unlink()
        path.write_text("newcomer")
    assert path.read_text() == "newcomer"
