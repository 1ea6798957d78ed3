"""What the laws are tried on: both doors of a mesh over real sockets and TLS, and a real push server.

Every test of this room is named after the law that it holds, `test_law_<number>_<what>`; docs/security.md lists them
beside the tests elsewhere that go into detail.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

from mesh.wire import Endpoint
from sidecar.view import ALPN_HTTP
from tests.control_plane.push.conftest import lifetimes, limits, plane, reviewer, state  # noqa: F401  # fixtures
from tests.support.doors import (
    Application,
    Node,
    application,
    call,
    endpoint,
    inbound_door,
    outbound_door,
    read_to_the_end,
)
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from transport import PlainStream, TlsStream, dial

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="session")
def pki() -> Pki:
    return Pki()


def policy(
    port: int, *http: dict[str, Any], kind: str = "AllowPolicy", tcp: bool = False, **spec: Any
) -> dict[str, Any]:
    """Lets (or, as DenyPolicy, does not let) shop/checkout call shop/payments: by these rules, else by any request, or
    with `tcp` by anything."""
    rules = {} if tcp else {"http": list(http) or [{"paths": ["/*"]}]}
    return {
        "apiVersion": "doorward.dev/v1",
        "kind": kind,
        "metadata": {"name": f"checkout-{port}", "namespace": "shop"},
        "spec": {
            "to": {"workload": "payments", "ports": [port]},
            "from": [{"workload": "checkout"}],
            **rules,
            **spec,
        },
    }


def defaults(**spec: Any) -> dict[str, Any]:
    """The defaults of namespace shop."""
    metadata = {"name": "defaults", "namespace": "shop"}
    return {"apiVersion": "doorward.dev/v1", "kind": "NamespaceDefaults", "metadata": metadata, "spec": spec}


class Shop:
    """The doors of shop/checkout and shop/payments, and the application behind them, which keeps what reached it."""

    def __init__(self, pki: Pki, nursery: trio.Nursery) -> None:
        self.pki = pki
        self._nursery = nursery
        self._streams: list[PlainStream | TlsStream] = []
        self.heads: list[bytes] = []  # one per request, without the empty line
        self.streams: list[PlainStream] = []  # the application's ends, one per connection
        self.answer: Callable[[bytes], bytes] = lambda _: OK

    async def open(
        self, *http: dict[str, Any], protocol: str = "http", serve: Application | None = None, **options: Any
    ) -> "Shop":
        """Open everything; `http` are the rules by which checkout may call, `options` are Node.make's for payments.

        `serve` is another application than the one that keeps heads and gives answers.
        """
        self.app_port = await self.enter(application(serve or self._serve))
        options.setdefault("policies", [policy(self.app_port, *http)])
        self.payments = Node.make(self.pki, "shop/payments", **options)
        self.mesh_port = await self.enter(inbound_door(self.payments, self.app_port, protocol=protocol))
        self.checkout = Node.make(self.pki, "shop/checkout", endpoints=[self.endpoint()], limits=options.get("limits"))
        self.port = await self.enter(outbound_door(self.checkout, "shop/payments"))
        return self

    async def enter(self, what: AbstractAsyncContextManager[int]) -> int:
        """Keep something open until the test ends, in a task of its own; its port."""

        async def hold(task_status: trio.TaskStatus[int]) -> None:
            async with what as port:
                task_status.started(port)
                await trio.sleep_forever()

        port: int = await self._nursery.start(hold)
        return port

    def close(self) -> None:
        for stream in self._streams:
            stream.abort()

    def endpoint(self, **how: str) -> Endpoint:
        return endpoint(self.pki, "shop/payments", self.mesh_port, **{"protocol": "http", **how})

    @property
    def connections(self) -> int:
        """How many connections reached the application."""
        return len(self.streams)

    async def caller(self) -> PlainStream:
        """The local application of checkout."""
        return self._keep(await dial("127.0.0.1", self.port, deadline=PATIENCE))

    async def direct(self, workload: str = "shop/checkout") -> TlsStream:
        """Another sidecar, straight at the inbound door."""
        return self._keep(await call(self.mesh_port, self.pki.svid(workload), self.pki.bundle, alpn=[ALPN_HTTP]))

    def _keep(self, stream: Any) -> Any:
        self._streams.append(stream)
        return stream

    async def say(self, *pieces: bytes, straight: bool = False) -> bytes:
        """Everything that comes back to these bytes on a connection of their own, `<reset>` for an end that is none."""
        return await said(await self.direct() if straight else await self.caller(), *pieces)

    async def get(self, path: str, *fields: str, straight: bool = False) -> bytes:
        """The answer to a GET."""
        return await self.say(get(path, *fields), straight=straight)

    async def _serve(self, stream: PlainStream) -> None:
        self.streams.append(stream)
        buffer = b""
        while data := await stream.receive_some():
            buffer += data
            while b"\r\n\r\n" in buffer:
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                self.heads.append(head)
                await stream.send_all(self.answer(head))


def get(path: str, *fields: str) -> bytes:
    """A GET as a client writes it."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: payments", *fields, "", ""]).encode("latin-1")


async def said(stream: PlainStream | TlsStream, *pieces: bytes) -> bytes:
    """Send, end the own direction, and hear everything to the end."""
    with trio.fail_after(PATIENCE):
        try:
            for piece in pieces:
                await stream.send_all(piece)
            await stream.send_eof()
            return await read_to_the_end(stream)
        except trio.BrokenResourceError:
            return b"<reset>"


async def heard(stream: PlainStream | TlsStream, ending: bytes) -> bytes:
    """Everything up to and including `ending`."""
    received = b""
    with trio.fail_after(PATIENCE):
        while not received.endswith(ending):
            data = await stream.receive_some()
            assert data, f"ended after {received!r}"
            received += data
    return received


async def eventually(condition: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():
            await trio.sleep(0.005)


@pytest.fixture
async def shop(pki: Pki, nursery: trio.Nursery) -> AsyncIterator[Shop]:
    shop = Shop(pki, nursery)
    yield shop
    shop.close()
    nursery.cancel_scope.cancel()
