"""HTTP/1.1 to one API server: pools of TLS connections, one request on each at a time, and errors translated once.

Redirects, proxies and cookies play no part: httpcore2 knows none of them.
"""

import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlencode

import httpcore2
import trio
from attrs import define, field

from control_plane.kubernetes.ca_file import CaFile
from control_plane.kubernetes.errors import TEXT_CHARACTERS, ApiStrange, ApiUnreachable

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 1.0
CONNECTIONS = 64
IDLE_SECONDS = 60.0  # the API server closes idle connections after 90 s
KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A watch says nothing for minutes: that its server's machine is gone is known after half a minute all the same."""


@define(eq=False)
class _Pool:
    """Connections that were verified by one context; `requests` are under way on them."""

    context: ssl.SSLContext
    connections: httpcore2.AsyncConnectionPool
    requests: int = 0


@define(eq=False)
class Transmission:
    """Sends requests to `url` (`https://HOST:PORT`). `network` makes the connections.

    When the CAs have changed, new requests get new connections; what is under way goes on where it is.
    """

    url: str
    ca: CaFile
    network: httpcore2.AsyncNetworkBackend
    _pools: list[_Pool] = field(init=False, factory=list)
    """The newest one last, which new requests take."""

    @asynccontextmanager
    async def send(
        self, method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes, silence: float
    ) -> AsyncIterator[httpcore2.Response]:
        """The answer's head, its body to be read; `silence` bounds each read. Raises ApiUnreachable, ApiStrange."""
        url = self._target(path, params)
        timeout = {"connect": CONNECT_SECONDS, "pool": CONNECT_SECONDS, "read": silence, "write": silence}
        async with self._pool() as pool:
            with self._translated():
                async with pool.stream(
                    method, url, headers=[*headers.items()], content=body, extensions={"timeout": timeout}
                ) as response:
                    yield response

    @asynccontextmanager
    async def _pool(self) -> AsyncIterator[httpcore2.AsyncConnectionPool]:
        """The newest one, for one request; afterwards those that nobody needs any more are closed."""
        context = self.ca.current()
        if not self._pools or self._pools[-1].context is not context:
            self._pools.append(_Pool(context, self._connections(context)))
        pool = self._pools[-1]
        pool.requests += 1
        try:
            yield pool.connections
        finally:
            pool.requests -= 1
            former = [each for each in self._pools[:-1] if not each.requests]
            self._pools = [each for each in self._pools if each not in former]
            for each in former:
                with trio.move_on_after(CLOSE_SECONDS, shield=True):
                    await each.connections.aclose()

    def _connections(self, context: ssl.SSLContext) -> httpcore2.AsyncConnectionPool:
        return httpcore2.AsyncConnectionPool(
            ssl_context=context,
            max_connections=CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=self.network,
            socket_options=KEEP_ALIVE,
        )

    def _target(self, path: str, params: Mapping[str, str]) -> httpcore2.URL:
        """Names and versions come from the API server's objects. Raises ApiStrange where no URL holds them."""
        try:
            return httpcore2.URL(self.url + path + ("?" + urlencode(params) if params else ""))
        except (TypeError, UnicodeEncodeError) as error:
            raise ApiStrange(f"nothing that can be asked: {path[:TEXT_CHARACTERS]!a}: {error}") from error

    async def close(self) -> None:
        """Close every connection."""
        for pool in self._pools:
            await pool.connections.aclose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
            raise ApiUnreachable(f"no API server answers on {self.url}: {_said(error)}") from error
        except (httpcore2.NetworkError, httpcore2.TimeoutException) as error:
            raise ApiUnreachable(f"the API server at {self.url} stopped answering: {_said(error)}") from error
        except httpcore2.RemoteProtocolError as error:
            raise ApiUnreachable(f"the API server at {self.url} broke off: {_said(error)}") from error
        except (httpcore2.LocalProtocolError, httpcore2.UnsupportedProtocol) as error:
            raise ApiStrange(f"nothing that can be asked: {_said(error)}") from error


def _said(error: BaseException) -> str:
    """The nearest cause that has words: a certificate that does not verify is two wrappers down."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError) or (isinstance(cause, OSError) and cause.strerror):
            return cause.strerror or str(cause)
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
