"""A connection that several of Hypercorn's tasks use at once."""

import pytest
import trio

from certs.tls import client_context, server_context
from control_plane.web import WRITE_TIMEOUT, _Connection
from tests.support.pki import Pki
from tests.support.streams import socket_pair, tls_pair
from transport import Places

PKI = Pki()


async def pair(kind: str) -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
    """The server's end, the client's."""
    if kind == "tls":
        client, server = client_context(None, PKI.bundle, [b"http/1.1"]), PKI.control_plane_svid()
        ends = await tls_pair(client, server_context(server, PKI.bundle, [b"http/1.1"], client_certificate=False))
        return ends[1], ends[0]
    dialled, accepted = await socket_pair()
    return trio.SocketStream(accepted), trio.SocketStream(dialled)


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_an_answer_and_an_end_at_the_same_time_do_not_collide(kind: str) -> None:
    """Whichever comes first, what is refused is refused in the way for which Hypercorn is prepared."""
    refused = []
    for _ in range(20):
        stream, client = await pair(kind)
        places, sock = Places(1), trio.socket.socket()

        async def answer(connection: _Connection) -> None:
            try:
                await connection.send_all(b"an answer")
            except trio.ClosedResourceError:
                refused.append("answer")

        async def end(connection: _Connection) -> None:
            try:
                await connection.send_eof()
            except trio.BusyResourceError:
                refused.append("end")

        with places.idle() as place, trio.CancelScope() as life, sock:
            connection = _Connection(stream, sock, places, place, life, 60.0, WRITE_TIMEOUT)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end, connection)
                nursery.start_soon(answer, connection)
        await client.aclose()
        await stream.aclose()
    assert len(refused) == 20, "one of the two, each time"
