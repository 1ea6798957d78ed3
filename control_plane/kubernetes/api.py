"""Requests to the Kubernetes API: JSON in and out, as the service account whose token is in a file.

A request takes at most REQUEST_SECONDS, there are at most REQUESTS of them at the same time, and no answer is larger
than BODY_BYTES; a watch ends when nothing has come for SILENCE_SECONDS. Paths are the API's own, such as
`/api/v1/namespaces/shop/pods`; whoever puts a name into one has it from the API server or has checked it.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, Self

import httpcore2
import trio
from attrs import define, field

from control_plane.kubernetes.ca_file import CaFile
from control_plane.kubernetes.contact import Contact
from control_plane.kubernetes.errors import AnswerTooLarge, ApiRefused, ApiStrange, ApiUnreachable, KubernetesError
from control_plane.kubernetes.parsing import parse
from control_plane.kubernetes.transmission import Transmission
from control_plane.metrics import Metrics

REQUEST_SECONDS: Final = 30.0
SILENCE_SECONDS: Final = 150.0  # API servers send bookmarks about once a minute
REQUESTS: Final = 16
BODY_BYTES: Final = 64 * 1024 * 1024
EVENT_BYTES: Final = 16 * 1024 * 1024  # an object has at most 1.5 MiB in etcd, and JSON may write six for a byte
TOKEN_BYTES: Final = 16 * 1024
USER_AGENT: Final = f"doorward/{version('doorward')}"  # once: finding the version reads files
IN_THREAD_BYTES: Final = 256 * 1024  # parsing more than this would hold up everybody else

PATCHES: Final = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


@define(eq=False)
class Events:
    """The events of one watch, each `{"type", "object"}`. Raises ApiUnreachable and ApiStrange while iterated."""

    _chunks: AsyncIterator[bytes]
    _buffer: bytearray = field(factory=bytearray)
    _lines: list[bytes] = field(factory=list)
    """Complete lines that have come and were not returned yet, the last one first."""

    @property
    def more(self) -> bool:
        """Whether another event has come already, so that the next one will not be waited for."""
        return bool(self._lines)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while not self._lines:
            try:
                self._take(await anext(self._chunks))
            except StopAsyncIteration:
                if self._buffer.strip():
                    raise ApiStrange("the watch ended within an event") from None
                raise
        line = self._lines.pop()
        return await trio.to_thread.run_sync(_event, line) if len(line) > IN_THREAD_BYTES else _event(line)

    def _take(self, chunk: bytes) -> None:
        self._buffer += chunk
        if b"\n" in chunk:
            *whole, rest = bytes(self._buffer).split(b"\n")
            self._lines = [line for line in reversed(whole) if line.strip()]
            self._buffer = bytearray(rest)
        if len(self._buffer) > EVENT_BYTES:
            raise ApiStrange(f"an event is larger than {EVENT_BYTES} bytes")


@define(eq=False)
class KubernetesApi:
    """One API server. Use it as an async context manager, or `close` it.

    Every call raises ApiUnreachable, ApiRefused or ApiStrange; a call that fails was perhaps carried out all the same.
    """

    contact: Contact
    _transmission: Transmission
    _token_file: Path
    _places: trio.CapacityLimiter = field(init=False)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        ca: Path,
        token_file: Path,
        metrics: Metrics,
        network: httpcore2.AsyncNetworkBackend | None = None,
    ) -> Self:
        """For `url` (`https://HOST:PORT`); connects when it is first asked. Raises OSError where `ca` cannot be used.

        `network` makes the connections instead of trio's own sockets.
        """
        transmission = Transmission(url.rstrip("/"), CaFile.open(ca), network or httpcore2.TrioBackend())
        return cls(Contact(metrics), transmission, token_file)

    def __attrs_post_init__(self) -> None:
        self._places = trio.CapacityLimiter(REQUESTS)

    @property
    def url(self) -> str:
        """Where it is, `https://HOST:PORT`."""
        return self._transmission.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._transmission.close()

    async def get(self, path: str, **params: str) -> dict[str, Any]:
        """Read an object, or a list of them."""
        return await self._call("GET", path, params)

    async def create(self, path: str, body: Mapping[str, Any], **params: str) -> dict[str, Any]:
        """Make an object in the collection `path`; also for reviews and TokenRequests, which only answer."""
        return await self._call("POST", path, params, body)

    async def patch(
        self, path: str, body: object, *, kind: Literal["merge", "json", "apply"] = "merge", **params: str
    ) -> dict[str, Any]:
        """Change an object. `apply` is server-side apply and needs `fieldManager`."""
        return await self._call("PATCH", path, params, body, PATCHES[kind])

    async def replace(self, path: str, body: Mapping[str, Any], **params: str) -> dict[str, Any]:
        """Put `body` in an object's place; its resourceVersion, where there is one, has to be the current one."""
        return await self._call("PUT", path, params, body)

    async def delete(self, path: str, **params: str) -> None:
        """Delete an object."""
        await self._call("DELETE", path, params)

    @asynccontextmanager
    async def watch(self, path: str, **params: str) -> AsyncIterator[Events]:
        """The events of a watch on `path`, as they come; they end where the API server ends them."""
        with self._noted():
            headers = self._headers()
            async with self._transmission.send(
                "GET", path, {**params, "watch": "true"}, headers, b"", SILENCE_SECONDS
            ) as response:
                if response.status != 200:
                    raise ApiRefused.read(response.status, await _object(response))
                self.contact.answered()
                async with aclosing(response.aiter_stream()) as chunks:
                    yield Events(chunks)

    async def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: object = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        with self._noted():
            content = b"" if body is None else json.dumps(body).encode()
            headers = {**self._headers(), "content-type": content_type}
            try:
                with trio.fail_after(REQUEST_SECONDS):
                    async with (
                        self._places,
                        self._transmission.send(method, path, params, headers, content, REQUEST_SECONDS) as response,
                    ):
                        answer = await _object(response)
            except trio.TooSlowError as error:
                raise ApiUnreachable(f"no answer within {REQUEST_SECONDS:g} s") from error
            if not 200 <= response.status < 300:
                raise ApiRefused.read(response.status, answer)
            if not isinstance(answer, dict):
                raise ApiStrange(f"{method} {path}: the answer is no JSON object")
            self.contact.answered()
            return answer

    def _headers(self) -> dict[str, str]:
        return {
            "accept": "application/json",
            "authorization": f"Bearer {self._token()}",
            "user-agent": USER_AGENT,
        }

    def _token(self) -> str:
        """Read anew each time, since a projected token is replaced long before it ends. Raises ApiUnreachable."""
        try:
            with self._token_file.open("rb") as file:
                token = file.read(TOKEN_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ApiUnreachable(f"the token in {self._token_file} cannot be read: {error}") from error
        if not token or not token.isprintable() or " " in token:
            raise ApiUnreachable(f"there is no token in {self._token_file}")
        return token

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except KubernetesError as error:
            self.contact.failed(error)
            raise


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = parse(line)
    except ValueError as error:
        raise ApiStrange("an event is no JSON") from error
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict) or "type" not in event:
        raise ApiStrange("an event is no object with type and object")
    return event


async def _object(response: httpcore2.Response) -> Any:
    """The body as JSON; None where it is none. Raises AnswerTooLarge."""
    body = bytearray()
    async with aclosing(response.aiter_stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > BODY_BYTES:
                raise AnswerTooLarge(f"an answer is larger than {BODY_BYTES} bytes")
    if len(body) > IN_THREAD_BYTES:
        return await trio.to_thread.run_sync(_parsed, body)
    return _parsed(body)


def _parsed(body: bytearray) -> Any:
    try:
        return parse(body)
    except ValueError:
        return None
