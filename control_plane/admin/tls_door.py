"""The client's way to the operators' address: TLS by pyOpenSSL under httpx2's own HTTP.

Connecting includes the proof: only when the chain that the server shows verifies against the context's bundle, by all
of our rules, as the control plane of the context's trust domain, is there a stream to write a request to. Host names
play no part, so any tunnel to any address will do (`kubectl port-forward`).
"""

import select
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, TypeVar

import httpcore2
import httpx2
from attrs import define, field, frozen
from OpenSSL import SSL

from certs.errors import CertificateRefused
from certs.tls import agreed_alpn, client_context, handshake_refusal, verified_peer
from control_plane.admin.context import Context
from control_plane.admin.errors import NotTheServer, ServerAway

ALPN: Final = b"http/1.1"
CONNECT_SECONDS: Final = 10.0
RECORD_BYTES: Final = 16 * 1024

T = TypeVar("T")


def _now() -> datetime:
    return datetime.now(UTC)


@frozen
class TlsDoor:
    """Reaches the control plane of a context."""

    context: Context
    clock: Callable[[], datetime] = _now

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.context.server)

    def open(self) -> httpx2.BaseTransport:
        """Connect. Raises ContextRefused, ServerAway, NotTheServer; nothing was asked then."""
        self.context.check_dates(self.clock())
        return _Transport(_Backend(self, self.connect()))

    def connect(self) -> "TlsConnection":
        """A connection to the control plane, proved to be one. Raises ServerAway, NotTheServer."""
        server = self.context.server
        try:
            sock = socket.create_connection((server.host, server.port), CONNECT_SECONDS)
        except OSError as error:
            raise ServerAway(
                f"no control plane answers on {server}: {error.strerror or error}. Is it run with --admin-listen, and "
                "does the tunnel stand? Another address: `doorward context add FILE --server HOST:PORT`"
            ) from error
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            context = client_context(self.context.svid, self.context.bundle, [ALPN])
            stream = TlsConnection(self.name, sock, SSL.Connection(context, sock))
            self._prove(stream)
        except BaseException:
            sock.close()
            raise
        return stream

    def _prove(self, stream: "TlsConnection") -> None:
        """Raises ServerAway, NotTheServer."""
        connection, wanted = stream.connection, self.context.trust_domain.control_plane()
        connection.set_connect_state()
        try:
            stream.until(connection.do_handshake, CONNECT_SECONDS)
            peer = verified_peer(connection, self.context.bundle, self.clock())
        except TimeoutError as error:
            raise ServerAway(f"{self.name} does not shake hands within {CONNECT_SECONDS:g} s") from error
        except SSL.Error as error:
            refusal = handshake_refusal(connection)
            if refusal is None:
                raise ServerAway(f"no control plane answers on {self.name}: TLS failed ({_said(error)})") from error
            raise self._impostor(str(refusal)) from error
        except CertificateRefused as error:
            raise self._impostor(str(error)) from error
        if peer.id != wanted:
            raise self._impostor(f"it is {peer.id}")
        if agreed_alpn(connection) != ALPN:
            raise ServerAway(f"{self.name} does not speak HTTP: is it the address of --admin-listen?")

    def _impostor(self, why: str) -> NotTheServer:
        return NotTheServer(
            f"what answers on {self.name} is not the control plane of {self.context.trust_domain}: {why}. Nothing was "
            "sent. Where its CA was replaced, get a new context"
        )


@define(eq=False)
class TlsConnection(httpcore2.NetworkStream):
    """One TLS connection for blocking use, with a time for each call. `name` is the server's."""

    name: str
    sock: socket.socket
    connection: SSL.Connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """At least one byte, or b"" at the end. Raises httpcore2's errors, ServerAway where it refuses us."""
        with self._translated(httpcore2.ReadTimeout, httpcore2.ReadError):
            try:
                return self.until(lambda: self.connection.recv(max_bytes), timeout)
            except SSL.ZeroReturnError:
                return b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it. Raises as `read`."""
        view = memoryview(buffer)
        with self._translated(httpcore2.WriteTimeout, httpcore2.WriteError):
            while view:
                piece = bytes(view[:RECORD_BYTES])
                view = view[self.until(lambda piece=piece: self.connection.send(piece), timeout) :]  # type: ignore[misc]  # mypy cannot infer a lambda's default

    def close(self) -> None:
        """Say close_notify where there is room, and close."""
        try:
            self.connection.shutdown()
        except SSL.Error:
            pass
        finally:
            self.sock.close()

    def get_extra_info(self, info: str) -> Any:
        """httpcore2 asks whether an idle connection has something to say: then it has ended."""
        return self._ready(select.POLLIN, 0) if info == "is_readable" else None

    def until(self, call: Callable[[], T], seconds: float | None) -> T:
        """Make `call` until OpenSSL can finish it. Raises TimeoutError and OpenSSL's errors."""
        deadline = None if seconds is None else monotonic() + seconds
        while True:
            try:
                return call()
            except SSL.WantReadError:
                wanted = select.POLLIN
            except SSL.WantWriteError:
                wanted = select.POLLOUT
            left = None if deadline is None else deadline - monotonic()
            if (left is not None and left <= 0) or not self._ready(wanted, left):
                raise TimeoutError(f"{self.name} took longer than {seconds:g} s")

    @contextmanager
    def _translated(self, late: type[Exception], broken: type[Exception]) -> Iterator[None]:
        """OpenSSL's and the socket's errors as httpcore2's; ServerAway where the other end refuses us."""
        try:
            yield
        except TimeoutError as error:
            raise late(str(error)) from error
        except (SSL.SysCallError, OSError) as error:
            raise broken(str(error)) from error
        except SSL.Error as error:
            raise self._refused(error) from error

    def _ready(self, wanted: int, seconds: float | None) -> bool:
        poll = select.poll()
        poll.register(self.sock, wanted)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def _refused(self, error: SSL.Error) -> ServerAway:
        return ServerAway(
            f"the control plane at {self.name} does not take this certificate ({_said(error)}): its CA may have been "
            "replaced; get a new context with `doorward operator create`"
        )


@define(eq=False)
class _Backend(httpcore2.NetworkBackend):
    """Hands out the connection that was made first, and then new ones, each proved anew."""

    door: TlsDoor
    first: TlsConnection | None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        del host, port, timeout, local_address, socket_options  # the context says where
        stream, self.first = self.first, None
        return stream or self.door.connect()


@define(eq=False)
class _Transport(httpx2.BaseTransport):
    backend: _Backend
    _pool: httpcore2.ConnectionPool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = httpcore2.ConnectionPool(network_backend=self.backend)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            answer = self._pool.request(
                request.method,
                str(request.url),
                headers=request.headers.raw,
                content=request.read(),
                extensions=request.extensions,
            )
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
            raise httpx2.NetworkError(str(error)) from error
        return httpx2.Response(answer.status, headers=answer.headers, content=answer.content)

    def close(self) -> None:
        if self.backend.first is not None:
            self.backend.first.close()
        self._pool.close()


def _said(error: SSL.Error) -> str:
    """OpenSSL's own short reason."""
    if isinstance(error, SSL.SysCallError):
        return str(error.args[-1])
    reasons = [entry[-1] for entry in (error.args[0] if error.args else ()) if entry]
    return str(reasons[-1]) if reasons else "no reason given"
