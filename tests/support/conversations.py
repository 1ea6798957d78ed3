"""An HTTP conversation in memory: a client's end, a sidecar between, the upstream's ends as they are asked for."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define, field

from mesh.policy.reasons import Reason
from sidecar.access_log import Record
from sidecar.http import headers
from sidecar.http.client import Client
from sidecar.http.failures import Denied
from sidecar.http.heads import Request, RequestHead
from sidecar.http.pool import Pooled
from sidecar.http.reading import ResponseReader
from sidecar.http.serving import Conversation
from sidecar.live import LiveConnection
from sidecar.settings import Limits
from tests.support.doors import Node
from tests.support.memory import MemoryStream, memory_pair
from tests.support.pki import Pki


@define
class MemoryRoute:
    """A Route whose upstreams are in memory. `reused` says which of its connections pretend to have been idle."""

    node: Node
    limit: int = 1 << 30
    reused: int = 0
    denies: set[str] = field(factory=set)
    upstreams: list[MemoryStream] = field(factory=list)
    given_back: list[Pooled] = field(factory=list)
    opened: trio.Event = field(factory=trio.Event)
    lives: list[LiveConnection] = field(factory=list)

    direction = "inbound"
    ended = None
    own = True

    def introduce(self, record: Record) -> None:
        record.destination = "spiffe://cluster.local/ns/shop/sa/payments"

    def live(self) -> LiveConnection:
        self.lives.append(LiveConnection(None))
        return self.lives[-1]

    def patience(self) -> float:
        return self.node.proxy.limits.keep_alive_timeout

    def admit(self, head: RequestHead, record: Record, live: LiveConnection) -> Request:
        if head.method in self.denies:
            raise Denied(Reason.NO_POLICY_MATCHED)
        record.allowed = True
        upgrade = headers.asks_websocket(head)
        return Request(head, head.target, headers.request_fields(head, b"h", upgrade=upgrade), upgrade)

    @asynccontextmanager
    async def upstream(self, record: Record, live: LiveConnection, *, fresh: bool) -> AsyncIterator[Pooled]:
        ours, theirs = memory_pair(self.limit)
        self.upstreams.append(theirs)
        self.opened.set()
        stream: Any = ours
        pooled = Pooled(stream, "key", ResponseReader(self.node.proxy.limits.head_bytes))
        pooled.reused = not fresh and len(self.upstreams) <= self.reused
        try:
            yield pooled
        finally:
            self.given_back.append(pooled)
            if not pooled.keep:
                await ours.aclose() if pooled.finished else ours.abort()

    async def next_upstream(self) -> MemoryStream:
        """The upstream's end of the connection that is opened next, or was opened last."""
        await self.opened.wait()
        self.opened = trio.Event()
        return self.upstreams[-1]


@define
class Talk:
    """One client's connection in memory, being served."""

    client: MemoryStream
    route: MemoryRoute
    node: Node
    done: trio.Event = field(factory=trio.Event)

    async def say(self, data: bytes) -> None:
        await self.client.send_all(data)

    async def upstream(self, *, until: bytes = b"") -> MemoryStream:
        """The next upstream connection, once `until` has arrived there."""
        stream = await self.route.next_upstream()
        await expect(stream, until)
        return stream

    @property
    def records(self) -> list[Record]:
        return self.node.written


async def expect(stream: MemoryStream, ending: bytes, *, seconds: float = 600) -> bytes:
    """Everything that arrives up to and including `ending`."""
    received = b""
    with trio.fail_after(seconds):
        while not received.endswith(ending):
            data = await stream.receive_some()
            assert data, f"ended after {received!r}"
            received += data
    return received


async def all_of(stream: MemoryStream, *, seconds: float = 600) -> bytes:
    """Everything that arrives up to the end, `<reset>` for an end that is none."""
    received = b""
    with trio.fail_after(seconds):
        try:
            while data := await stream.receive_some():
                received += data
        except trio.BrokenResourceError:
            received += b"<reset>"
    return received


TalkTo = Callable[..., Talk]


def start_talk(
    pki: Pki, nursery: trio.Nursery, *, limit: int = 1 << 30, limits: Limits | None = None, **options: Any
) -> Talk:
    """Serve a client in memory until `nursery` is cancelled. `limit` bounds what a connection holds in bytes."""
    node = Node.make(pki, "shop/payments", limits=limits)
    theirs, ours = memory_pair(limit)
    talk = Talk(theirs, MemoryRoute(node, limit, **options), node)

    async def serve() -> None:
        stream: Any = ours
        await Conversation(Client(stream, node.proxy.limits), talk.route, node.proxy).run()
        talk.done.set()

    nursery.start_soon(serve)
    return talk
