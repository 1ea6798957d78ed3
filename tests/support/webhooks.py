"""The injector's webhook on loopback with a real CA, and an API server's end of its connections: stock TLS, by name."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

from certs.spiffe import TrustDomain
from control_plane.authority import IssuingAuthority, open_authority
from control_plane.injector.serving_certificate import Serving
from control_plane.injector.webhook import Review, Webhook
from control_plane.metrics import Metrics
from control_plane.settings import Lifetimes, Limits
from control_plane.state import State
from control_plane.tls_streams import ALPN
from tests.support.admin import Clock
from transport import listen

NAME = "doorward-injector.doorward.svc"
DOMAIN = TrustDomain("cluster.local")
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: the tests' clock is not OpenSSL's
POST = {"content-type": "application/json"}


def admission_review(**request: Any) -> bytes:
    """What an API server sends for a pod in the namespace shop; `request` is added or replaces."""
    pod = {"metadata": {"generateName": "checkout-", "annotations": {"secret": "s3cr3t"}}, "spec": {"containers": []}}
    asked = {"uid": "4-2", "namespace": "shop", "operation": "CREATE", "dryRun": False, "object": pod, **request}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}).encode()


def answer(**response: Any) -> dict[str, Any]:
    """An AdmissionReview's answer with this in its response."""
    said = {"uid": "4-2", "allowed": True, **response}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": said}


@define(eq=False)
class Caller:
    """One connection of an API server."""

    stream: trio.SSLStream[trio.SocketStream]
    _received: bytearray = field(factory=bytearray)

    @property
    def serial(self) -> str:
        """That of the certificate which the webhook showed, in hex."""
        return str(self.stream.getpeercert()["serialNumber"])

    async def send(self, body: bytes, *, length: int | None = None, **head: Any) -> None:
        """Send a request, whose body is announced to have `length` bytes; `head` may replace parts of its head."""
        method, path = head.get("method", "POST"), head.get("path", "/inject")
        headers = {"host": NAME, "content-length": str(len(body) if length is None else length), **POST}
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {text}" for name, text in (headers | head.get("headers", {})).items()),
        ]
        await self.stream.send_all("\r\n".join([*lines, "", ""]).encode() + body)

    async def receive(self) -> tuple[int, bytes]:
        """Status and body of the next answer. Raises BrokenResourceError where the connection ends first."""
        while b"\r\n\r\n" not in self._received:
            await self._more()
        head, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        first, *lines = head.decode().lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        self._received = bytearray(rest)
        while len(self._received) < length:
            await self._more()
        body = bytes(self._received[:length])
        del self._received[:length]
        return int(first.split()[1]), body

    async def ask(self, body: bytes, **head: Any) -> tuple[int, bytes]:
        """Send a request and receive its answer."""
        await self.send(body, **head)
        return await self.receive()

    async def _more(self) -> None:
        data = await self.stream.receive_some()
        if not data:
            raise trio.BrokenResourceError("the connection ended before the answer")
        self._received += data


@define(eq=False)
class WebhookHouse:
    """A running webhook, and what it stands on."""

    port: int
    authority: IssuingAuthority
    clock: Clock
    metrics: Metrics
    stop: trio.CancelScope

    def client_context(self, *alpn: str) -> ssl.SSLContext:
        """An API server's: it believes the roots of our bundle, and names only."""
        context = ssl.create_default_context(cadata=self.authority.bundle.to_pem().decode())
        context.verify_flags |= NO_CHECK_TIME  # ssl does not name it
        context.set_alpn_protocols(list(alpn) or [ALPN.decode()])
        return context

    @asynccontextmanager
    async def caller(self, context: ssl.SSLContext | None = None, name: str = NAME) -> AsyncIterator[Caller]:
        """A connection that has shaken hands. Raises BrokenResourceError."""
        plain = await trio.open_tcp_stream("127.0.0.1", self.port)
        stream = trio.SSLStream(plain, context or self.client_context(), server_hostname=name, https_compatible=True)
        async with stream:
            await stream.do_handshake()
            yield Caller(stream)

    async def ask(self, body: bytes, **head: Any) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        async with self.caller() as caller:
            return await caller.ask(body, **head)

    def count(self, metric: str, **labels: str) -> float:
        """A metric's value now."""
        return self.metrics.registry.get_sample_value(f"doorward_control_plane_{metric}", labels) or 0.0

    async def until(self, metric: str, value: float = 1, **labels: str) -> None:
        """Wait until a metric has a value."""
        with trio.fail_after(30):
            while self.count(metric, **labels) != value:
                await trio.sleep(0.005)


@asynccontextmanager
async def webhook_house(
    directory: Path, review: Review, *, limits: Limits | None = None, lifetimes: Lifetimes | None = None
) -> AsyncIterator[WebhookHouse]:
    """Run a webhook that answers as `review` does."""
    clock, metrics, lifetimes = Clock(), Metrics(), lifetimes or Lifetimes()
    with State.open(directory / "state", trust_domain=DOMAIN.name) as state:
        authority = open_authority(state, DOMAIN, clock, lifetimes=lifetimes)
        serving = Serving(authority, (NAME,), lifetimes.own_certificate, clock, metrics, ALPN)
        listeners = await listen("127.0.0.1", 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Webhook(review, serving, metrics, limits or Limits()).serve, listeners)
            port = listeners[0].socket.getsockname()[1]
            yield WebhookHouse(port, authority, clock, metrics, nursery.cancel_scope)
            nursery.cancel_scope.cancel()
