"""Honest peers on either end: HTTP as h11 understands it, and WebSockets as wsproto does."""

from collections.abc import Iterable

import h11
import trio
from attrs import define, field
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Event, Request

from tests.support.applications import connect
from tests.support.payloads import BLOCK, Sum

Header = tuple[str, str]


@define
class HttpPeer:
    """One end. Whatever h11 does not accept from the other one is a RemoteProtocolError."""

    stream: trio.SocketStream
    connection: h11.Connection

    @classmethod
    async def calling(cls, address: str) -> "HttpPeer":
        """A client, connected."""
        return cls(await connect(address), h11.Connection(h11.CLIENT))

    @classmethod
    def answering(cls, stream: trio.SocketStream) -> "HttpPeer":
        """A server on an accepted connection."""
        return cls(stream, h11.Connection(h11.SERVER))

    async def send(self, event: h11.Event) -> None:
        """Send one event."""
        await self.stream.send_all(self.connection.send(event) or b"")

    async def receive(self) -> h11.Event | type[h11.PAUSED]:
        """The next event."""
        while (event := self.connection.next_event()) is h11.NEED_DATA:
            self.connection.receive_data(await self.stream.receive_some(BLOCK))
        return event

    async def begin(self, method: str, path: str, *headers: Header) -> None:
        """Send a request's head."""
        await self.send(h11.Request(method=method, target=path, headers=[("Host", "payments"), *headers]))

    async def answer(self, status: int, *headers: Header) -> None:
        """Send a response's head."""
        await self.send(h11.Response(status_code=status, headers=list(headers)))

    async def send_body(self, pieces: Iterable[bytes]) -> Sum:
        """Send a body to its end."""
        sent = Sum()
        for piece in pieces:
            await self.send(h11.Data(data=piece))
            sent.add(piece)
        await self.send(h11.EndOfMessage())
        return sent

    async def receive_head(self) -> h11.Request | h11.Response:
        """The head that comes next."""
        head = await self.receive()
        assert isinstance(head, h11.Request | h11.Response), head
        return head

    async def receive_body(self) -> Sum:
        """Everything up to the message's proper end; anything else is a RemoteProtocolError."""
        received = Sum()
        while not isinstance(event := await self.receive(), h11.EndOfMessage):
            assert isinstance(event, h11.Data), event
            received.add(event.data)
        return received


def framed(size: int, *, chunked: bool) -> Header:
    """The header that announces a body."""
    return ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(size))


class Rejected(Exception):
    """A WebSocket's handshake was not accepted."""


@define
class WebSocket:
    """One end of a WebSocket."""

    stream: trio.SocketStream
    connection: WSConnection
    _events: list[Event] = field(factory=list)

    @classmethod
    async def calling(cls, address: str, path: str = "/chat") -> "WebSocket":
        """A client whose handshake was accepted. Raises Rejected."""
        peer = cls(await connect(address), WSConnection(ConnectionType.CLIENT))
        await peer.send(Request(host="payments", target=path))
        if not isinstance(event := await peer.receive(), AcceptConnection):
            await trio.aclose_forcefully(peer.stream)
            raise Rejected(event)
        return peer

    @classmethod
    async def answering(cls, stream: trio.SocketStream) -> "WebSocket":
        """A server that accepted the handshake."""
        peer = cls(stream, WSConnection(ConnectionType.SERVER))
        event = await peer.receive()
        assert isinstance(event, Request), event
        await peer.send(AcceptConnection())
        return peer

    async def send(self, event: Event) -> None:
        """Send one event."""
        await self.stream.send_all(self.connection.send(event))

    async def receive(self) -> Event | None:
        """The next event; None where the stream ended without a farewell. Raises BrokenResourceError at a reset."""
        while not self._events:
            data = await self.stream.receive_some(4096)
            if not data:
                return None
            self.connection.receive_data(data)
            self._events.extend(self.connection.events())
        return self._events.pop(0)
