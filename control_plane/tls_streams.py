"""The TLS streams beneath one HTTP door: each has time for its goodbye, and who is left at the end is cut off."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio
from attrs import define, field
from OpenSSL import SSL

from control_plane.web import Web
from transport import Handler, Places, TlsStream

ALPN = b"http/1.1"
"""All that is spoken at these doors. API servers too offer nothing else, so that their requests spread."""

GOODBYE_SECONDS = 0.5


@define(eq=False)
class TlsStreams:
    """Those that are open now."""

    _open: set[TlsStream] = field(init=False, factory=set)

    async def accept(self, web: Web, listeners: Sequence[trio.SocketListener], handle: Handler, places: Places) -> None:
        """As Web.accept. Who does not read its answer then is cut off: the program's end waits for nobody."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(web.accept, listeners, handle, places)
            try:
                await trio.sleep_forever()
            finally:
                for stream in [*self._open]:
                    stream.abort()

    @asynccontextmanager
    async def over(self, sock: trio.socket.SocketType, context: SSL.Context) -> AsyncIterator[TlsStream]:
        """The server's end of TLS over an accepted connection, before the handshake; closed with the block."""
        stream = TlsStream(sock, context, server_side=True)
        self._open.add(stream)
        try:
            yield stream
        finally:
            self._open.discard(stream)
            with trio.move_on_after(GOODBYE_SECONDS, shield=True):
                await stream.aclose()
