"""Real TLS over a real loopback connection, in one thread: each side steps until both are done or have failed."""

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from attrs import define
from OpenSSL import SSL

from tests.support.patience import PATIENCE

T = TypeVar("T")


@define(eq=False)
class Side:
    """One end of a handshake, and how it went: `failure` is OpenSSL's last reason, "" for success."""

    connection: SSL.Connection
    failure: str = ""
    done: bool = False

    def step(self) -> None:
        """Go on as far as the bytes that are there allow."""
        if self.done:
            return
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.SysCallError as error:
            self.failure = str(error)
        except SSL.Error as error:
            self.failure = error.args[0][-1][2]
        self.done = True

    def receive(self) -> bytes:
        """What the other end sends next. Raises SSL.Error, ZeroReturnError for its close_notify."""
        return until_ready(self.connection, lambda: self.connection.recv(65536))


@define(eq=False)
class Handshake:
    """Both ends after the handshake."""

    server: Side
    client: Side


@contextmanager
def handshake(server_context: SSL.Context, client_context: SSL.Context) -> Iterator[Handshake]:
    """Let a client and a server with these contexts meet."""
    with loopback_pair() as (accepted, dialled):
        server = Side(SSL.Connection(server_context, accepted))
        client = Side(SSL.Connection(client_context, dialled))
        server.connection.set_accept_state()
        client.connection.set_connect_state()
        give_up = monotonic() + PATIENCE
        while not (server.done and client.done):
            assert monotonic() < give_up, "the handshake hangs"
            server.step()
            client.step()
            if server.failure and client.done and not client.failure:
                client.failure = _alert(client)
        yield Handshake(server, client)


@contextmanager
def loopback_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two non-blocking ends of one TCP connection: the accepted one, the dialled one."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as dialled,
    ):
        accepted, _ = listener.accept()
        with accepted:
            accepted.setblocking(False)
            dialled.setblocking(False)
            yield accepted, dialled


def until_ready(connection: SSL.Connection, call: Callable[[], T]) -> T:
    """Repeat a call on a non-blocking connection until it no longer wants to read."""
    while True:
        try:
            return call()
        except SSL.WantReadError:
            readable, _, _ = select.select([connection], [], [], PATIENCE)
            assert readable, "the peer sends nothing"


def _alert(client: Side) -> str:
    """In TLS 1.3 a client is done before the server sees its certificate: the alert comes with the first read."""
    try:
        client.receive()
    except SSL.Error as error:
        return str(error.args[0][-1][2])
    raise AssertionError("the server refused, and the client was not told")
