"""TlsStream: TLS over a non-blocking socket as a trio stream, by pyOpenSSL in descriptor mode.

Theory of operation. OpenSSL reads and writes the descriptor itself. Every call into it is tried at once; only when it
says WantRead or WantWrite does the task wait for the kernel, then it makes the same call again. No await stands
between a call and the look at its answer, so a reading and a writing task can share the connection without a lock.

What the laws ask of it:
- Bytes that OpenSSL holds raise no edge, so every read tries OpenSSL before it waits (law 25).
- A close first drops the TLS object, then wakes every waiter and closes the descriptor: a TLS object that outlives its
  descriptor would read the next connection's bytes (law 27).
- After WantWrite the same bytes are offered again, and nothing else is sent in between. A send that was cancelled
  there leaves the sending side unusable, and the close that follows says nothing (law 30).
- close_notify is a half-close; an end without it is a BrokenResourceError, so truncation shows (law 30).
- OpenSSL returns after every record that is no data, so a flood of KeyUpdates is read in turns (law 31).
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

import trio
from OpenSSL import SSL
from OpenSSL._util import lib as _lib

from transport import sockets
from transport.errors import NotTls, TlsFailed

RECEIVE_BYTES: Final = 64 * 1024
RECORD_BYTES: Final = 16 * 1024  # the most that one TLS record carries (RFC 8446 §5.1)
SENT_PER_TURN: Final = 16  # records written before other tasks get a turn
TICKETS: Final = 2  # records that a server may send after the handshake without being asked
CLOSE_PATIENCE: Final = 5.0  # seconds that aclose() waits for room to say close_notify

_HANDSHAKE_RECORD: Final = 0x16  # RFC 8446 §5.1

T = TypeVar("T")


class TlsStream(trio.abc.HalfCloseableStream):
    """One TLS connection over a connected TCP socket, which it takes over: only this object closes it from now on.

    `context` comes from certs.tls. Methods raise trio.BrokenResourceError (reset, or ended without close_notify),
    TlsFailed (a BrokenResourceError with OpenSSL's reason), ClosedResourceError (closed here, also while waiting) and
    BusyResourceError (two tasks in one direction). Call do_handshake() before anything else.
    """

    def __init__(self, sock: trio.socket.SocketType, context: SSL.Context, *, server_side: bool) -> None:
        self.peername = sockets.peername(sock)
        sockets.tune(sock)
        self._socket = sock
        self._server_side = server_side
        self._connection: SSL.Connection | None = SSL.Connection(context, sock)  # type: ignore[arg-type]  # asks only for fileno()
        # pyOpenSSL switches AUTO_RETRY on and has no public way back: with it one read eats a whole flood (law 31).
        _lib.SSL_clear_mode(self._connection._ssl, _lib.SSL_MODE_AUTO_RETRY)
        if server_side:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
        self._receiving = False
        self._sending = False
        self._unsent = False  # OpenSSL holds a record whose sending was broken off
        self._established = False
        self._ended = False  # close_notify was sent
        self._waits: dict[Callable[..., object], trio.Event] = {}

    @property
    def connection(self) -> SSL.Connection:
        """The pyOpenSSL connection, for looking at certificates and ALPN. Raises ClosedResourceError."""
        self._refuse_closed()
        assert self._connection is not None
        return self._connection

    async def do_handshake(self, turns: trio.CapacityLimiter | None = None) -> None:
        """Agree on keys. The caller bounds the time. Raises NotTls, TlsFailed or BrokenResourceError.

        After TlsFailed call aclose() rather than abort(): the alert that tells the peer why is still under way.

        A step costs about a millisecond of signing and checking. `turns`, shared by many streams, bounds the steps
        that are made before other tasks get a turn; nobody holds one while waiting for the peer (law 31).
        """
        await trio.lowlevel.checkpoint()
        if self._server_side:
            await self._refuse_garbage()
        await self._retried(lambda connection: connection.do_handshake(), turns)
        self._established = True

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """At least one byte and at most `max_bytes`, or b"" after the peer's close_notify."""
        if max_bytes is None:
            max_bytes = RECEIVE_BYTES
        elif not isinstance(max_bytes, int):
            raise TypeError("max_bytes is a number of bytes")
        elif max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        with self._alone_in("_receiving"):
            await trio.lowlevel.checkpoint_if_cancelled()
            try:
                received = await self._retried(lambda connection: self._read(connection, max_bytes))
            finally:
                await trio.lowlevel.cancel_shielded_checkpoint()
            return received

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt all of `data` into the kernel's buffer, waiting while the peer does not read."""
        with self._alone_in("_sending"):
            await trio.lowlevel.checkpoint()
            self._refuse_broken_sending()
            view = memoryview(data)
            for number, start in enumerate(range(0, len(view), RECORD_BYTES), start=1):
                await self._send_record(bytes(view[start : start + RECORD_BYTES]))
                if not number % SENT_PER_TURN:
                    await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes bytes again."""
        with self._alone_in("_sending"):
            await trio.lowlevel.checkpoint()
            self._refuse_broken_sending()
            await self._wait(trio.lowlevel.wait_writable)

    async def send_eof(self) -> None:
        """Send close_notify: this direction ends and the other one goes on. Once is enough."""
        with self._alone_in("_sending"):
            await trio.lowlevel.checkpoint()
            if self._unsent:
                raise trio.BrokenResourceError("an earlier send was broken off")
            if not self._ended:
                self._ended = True
                await self._retried(lambda connection: connection.shutdown())

    async def aclose(self) -> None:
        """Send close_notify where that is still possible, waiting for room at most CLOSE_PATIENCE, and close."""
        try:
            if self._connection is not None and self._established and not (self._sending or self._unsent):
                with suppress(trio.BrokenResourceError), trio.move_on_after(CLOSE_PATIENCE):
                    await self.send_eof()
                    self._swallow_tickets()
            await trio.lowlevel.checkpoint()
        finally:
            self._drop(sockets.close)

    def abort(self) -> None:
        """Close with a TCP reset: the peer sees that the stream was cut off."""
        self._drop(sockets.reset)

    def detach(self) -> trio.socket.SocketType:
        """Give the socket back untouched: after NotTls a caller may still be willing to talk without TLS."""
        sock, self._connection = self._socket, None
        return sock

    async def _refuse_garbage(self) -> None:
        """Look at the first byte without taking it: OpenSSL's own words for garbage depend on the garbage."""
        try:
            first = await self._socket.recv(1, socket.MSG_PEEK)
        except OSError as error:
            if self._connection is None:
                raise trio.ClosedResourceError("this TLS stream was closed") from None
            raise trio.BrokenResourceError(f"the peer left before the handshake: {error}") from None
        if not first:
            raise trio.BrokenResourceError("the peer left before the handshake")
        if first[0] != _HANDSHAKE_RECORD:
            raise NotTls("the first byte is no TLS handshake")

    def _read(self, connection: SSL.Connection, max_bytes: int) -> bytes:
        try:
            received = connection.recv(max_bytes)
            if len(received) < RECORD_BYTES or len(received) == max_bytes:
                return received
            return received + self._read_on(connection, max_bytes - len(received))
        except SSL.ZeroReturnError:
            return b""

    @staticmethod
    def _read_on(connection: SSL.Connection, max_bytes: int) -> bytes:
        """After a full record more are likely: take them in the same turn. What goes wrong here shows next time."""
        records = []
        with suppress(SSL.Error):
            while max_bytes:
                records.append(connection.recv(max_bytes))
                max_bytes -= len(records[-1])
        return b"".join(records)

    async def _send_record(self, record: bytes) -> None:
        """Send one record; the same object is offered until OpenSSL took it (law 30)."""
        while record:
            self._unsent = True
            sent = await self._retried(lambda connection, record=record: connection.send(record))  # type: ignore[misc]  # mypy cannot infer a lambda's default
            self._unsent = False
            record = record[sent:]

    async def _retried(self, call: Callable[[SSL.Connection], T], turns: trio.CapacityLimiter | None = None) -> T:
        """Make `call` until OpenSSL can finish it, waiting as it asks. Raises the errors of this class."""
        while True:
            if turns is not None:
                async with turns:
                    await trio.lowlevel.checkpoint()
            try:
                return call(self.connection)
            except SSL.WantReadError:
                wait = trio.lowlevel.wait_readable
            except SSL.WantWriteError:
                wait = trio.lowlevel.wait_writable
            except SSL.SysCallError as error:
                raise trio.BrokenResourceError(_said(error)) from None
            except SSL.Error as error:
                raise TlsFailed(_said(error)) from None
            await self._wait(wait)

    async def _wait(self, wait: Callable[[trio.socket.SocketType], object]) -> None:
        """Wait for the socket. Where the other direction waits for the same, wait for it to come back."""
        if earlier := self._waits.get(wait):
            await earlier.wait()
            return
        self._refuse_closed()
        self._waits[wait] = trio.Event()
        try:
            await wait(self._socket)  # type: ignore[misc]  # both are coroutine functions
        finally:
            self._waits.pop(wait).set()

    @contextmanager
    def _alone_in(self, direction: str) -> Iterator[None]:
        if getattr(self, direction):
            raise trio.BusyResourceError(f"another task is {direction[1:]} on this TLS stream")
        setattr(self, direction, True)
        try:
            yield
        finally:
            setattr(self, direction, False)

    def _refuse_closed(self) -> None:
        if self._connection is None:
            raise trio.ClosedResourceError("this TLS stream was closed")

    def _refuse_broken_sending(self) -> None:
        self._refuse_closed()
        if self._unsent:
            raise trio.BrokenResourceError("an earlier send was broken off")
        if self._ended:
            raise trio.ClosedResourceError("this direction was ended by send_eof()")

    def _swallow_tickets(self) -> None:
        """OpenSSL's servers send session tickets that nobody asked for, and nothing we can set stops them. Closing a
        socket with unread bytes is a reset, which can overtake what was just sent: a client that never read anything
        reads them here."""
        for _ in range(0 if self._server_side else TICKETS + 1):
            with suppress(SSL.Error):
                self.connection.recv(1)

    def _drop(self, close: Callable[[trio.socket.SocketType], None]) -> None:
        if self._connection is None:
            return
        self._connection = None
        close(self._socket)  # trio wakes whoever waits on it, then closes the descriptor


def _said(error: SSL.Error) -> str:
    """OpenSSL's own short reason, such as "unsupported protocol" or "Unexpected EOF"."""
    if isinstance(error, SSL.SysCallError):
        return str(error.args[1] if len(error.args) > 1 else error)
    reasons = [entry[-1] for entry in (error.args[0] if error.args else ()) if entry]
    return reasons[-1] if reasons else "TLS error"
