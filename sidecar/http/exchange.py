"""One request up and its response down, both at once.

    upload      request head and body -> upstream, then watch whether the client goes away
    download    interim responses, head and body -> client; or 101, and then both ways through the relay

Of a request without a body the upload is over at once, and the client is watched only while the response is quiet.
The upload may still run when the response begins: an early response is passed on at once, and neither connection is
used again (law 19). What ends one direction ends both. Before the response has begun a failure becomes an answer
(HttpEnded), afterwards nothing is left but to reset both ends, so that truncation shows (Aborted).
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio

from mesh.policy.reasons import Reason
from sidecar.access_log import Record
from sidecar.http import headers, writing
from sidecar.http.bodies import End
from sidecar.http.client import Client
from sidecar.http.failures import Aborted, Failed, HttpEnded, HttpRefused, Truncated
from sidecar.http.heads import Body, Request, ResponseHead
from sidecar.http.pool import Pooled
from sidecar.relay import Ending, Tally, relay
from sidecar.settings import Limits

MAX_INTERIM: Final = 100  # 1xx before one response: a server that says "still at it" every few seconds has fewer
PROMPT_SECONDS: Final = 0.5  # for a response to begin before the client is watched for going away
GRACE_SECONDS: Final = 1.0  # for another sidecar, which waits as long for its application, to say why it gave up

_TUNNEL_ENDINGS: Final = {
    Ending.A_BROKE: Reason.DOWNSTREAM_RESET,
    Ending.B_BROKE: Reason.UPSTREAM_RESET,
    Ending.IDLE: Reason.IDLE_TIMEOUT,
}


class _UpstreamDeaf(Exception):
    """The upstream takes no more of the request. It may have answered already."""


class Exchange:
    """One exchange. `own` says whether Doorward's own fields are dropped from the response; `draining` whether the
    client is to go elsewhere with its next request.

    `begun` says that the response has begun, `answered` that a byte came from the upstream. `goes_on` is None until
    the whole response was sent, then whether the client's connection can carry the next exchange.
    """

    def __init__(
        self,
        client: Client,
        upstream: Pooled,
        request: Request,
        record: Record,
        limits: Limits,
        *,
        own: bool,
        draining: Callable[[], bool],
    ) -> None:
        self.begun = False
        self.answered = False
        self.goes_on: bool | None = None
        self._client = client
        self._upstream = upstream
        self._request = request
        self._record = record
        self._limits = limits
        self._own = own
        self._draining = draining
        self._upload_over = False  # nothing more will be sent; `_uploaded`: and all of it was taken
        self._uploaded = False
        self._watched = False  # the upload's task sees whether the client goes away
        self._tunnel = False
        self._response_due = trio.CancelScope()

    async def run(self) -> None:
        """Carry the exchange to its end: look at `goes_on`, also where the call was cancelled.

        Raises HttpEnded where an answer of ours has to follow, Aborted where none can.
        """
        self._upstream.reader.expect(self._request.head.method)
        try:
            if await self._is_prompt():
                await self._download()
            else:
                self._watched = True
                await self._at_once(self._upload_and_watch, self._download)
        except HttpEnded as failure:
            if self.begun:
                self._record.detail = failure.detail  # the caller cannot be told any more
                raise Aborted(failure.reason) from None
            raise
        if self._tunnel:
            await self._relay()

    async def _is_prompt(self) -> bool:
        """Send a request without a body, and see whether its response begins before anyone loses patience.

        Most do, and need no second task: it would cost a third of the whole exchange.
        """
        if self._request.head.framing not in (Body.NONE, 0):
            return False
        await self._upload()
        with trio.move_on_after(min(PROMPT_SECONDS, self._limits.response_head_timeout)):
            await self._receive()
            return True
        return False

    async def _at_once(self, beside: Callable[[], Awaitable[None]], main: Callable[[], Awaitable[None]]) -> None:
        """Run `main` to its end with `beside` beside it. Raises what the first of them raised."""
        first: HttpEnded | Aborted | None = None

        async def walled(part: Callable[[], Awaitable[None]]) -> None:
            nonlocal first
            try:
                await part()
            except (HttpEnded, Aborted) as failure:
                first = first or failure
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(walled, beside)
            await walled(main)
            nursery.cancel_scope.cancel()
        if first is not None:
            raise first

    # Up

    async def _upload_and_watch(self) -> None:
        if not self._upload_over:
            await self._upload()
        if self._uploaded:
            await self._client.watch()

    async def _upload(self) -> None:
        if self._request.head.expects_continue:
            self._expect_response()
        with suppress(_UpstreamDeaf):
            await self._send_request()
            self._uploaded = True
        self._upload_over = True
        self._expect_response()

    async def _send_request(self) -> None:
        request, client = self._request, self._client
        framing = request.head.framing
        # A client that waits for 100 is silent for as long as the upstream is: that is the upstream's deadline.
        patience = float("inf") if request.head.expects_continue else self._limits.body_idle_timeout
        pending = bytearray(writing.request_head(request.head.method, request.target, request.fields, framing))
        while client.body_open:
            event = client.body_at_hand()
            if isinstance(event, End):
                pending += writing.end(headers.trailers(event.trailers, request.head, own=True), framing)
            elif event is not None:
                self._record.bytes_in += len(event)
                pending += writing.content(event, framing)
            if event is None or len(pending) >= self._limits.buffer_bytes:
                await self._send_up(pending)
                pending = bytearray()
            if event is None:
                await client.receive(patience)
                patience = self._limits.body_idle_timeout
                self._response_due.deadline = float("inf")
        await self._send_up(pending)

    async def _send_up(self, data: bytearray) -> None:
        if not data:
            return
        with trio.move_on_after(self._limits.body_idle_timeout):
            try:
                await self._upstream.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise _UpstreamDeaf from None
            return
        raise Failed(Reason.UPSTREAM_TIMEOUT, "the upstream stopped taking the request")

    def _expect_response(self) -> None:
        """From now on the upstream has response_head_timeout to begin its response, and a sidecar a moment more."""
        grace = 0.0 if self._own else GRACE_SECONDS
        self._response_due.deadline = trio.current_time() + self._limits.response_head_timeout + grace

    # Down

    async def _download(self) -> None:
        with self._response_due:
            head = await self._response_head()
        if self._response_due.cancelled_caught:
            raise Failed(Reason.UPSTREAM_TIMEOUT, "no response came in time")
        self._record.status = head.status
        if head.status == 101:
            await self._switch(head)
        else:
            await self._pass_response(head)

    async def _response_head(self) -> ResponseHead:
        """The final head, or 101. Other interim responses are passed on, to who can know them (RFC 9110 §15.2)."""
        left = MAX_INTERIM
        while True:
            event = self._at_hand()
            if event is None:
                await self._receive()
                continue
            assert isinstance(event, ResponseHead)
            if not event.interim or event.status == 101:
                return event
            if not left:
                raise Failed(Reason.UPSTREAM_MALFORMED, "the upstream sent interim responses without end")
            left -= 1
            if self._request.head.version == (1, 1):
                fields = headers.response_fields(event, own=self._own)
                await self._client.send(writing.response_head(event.status, event.reason, fields, Body.NONE))

    async def _pass_response(self, head: ResponseHead) -> None:
        upstream, request = self._upstream, self._request.head
        framing = headers.response_framing(head, request.version)
        if not self._uploaded:
            # A fast upstream answers before the upload's task has its turn again after its last send.
            await trio.lowlevel.checkpoint()
        in_time = self._uploaded
        goes_on = in_time and request.persistent and framing is not Body.UNTIL_CLOSE and not self._draining()
        fields = headers.response_fields(head, own=self._own, close=not goes_on)
        pending = bytearray(writing.response_head(head.status, head.reason, fields, framing))
        event: ResponseHead | bytes | End | None = b""
        while not isinstance(event, End):
            event = self._at_hand()
            if isinstance(event, bytes):
                self._record.bytes_out += len(event)
                pending += writing.content(event, framing)
            elif isinstance(event, End):
                pending += writing.end(headers.trailers(event.trailers, head, own=self._own), framing)
            if event is None or isinstance(event, End) or len(pending) >= self._limits.buffer_bytes:
                await self._send_down(pending)
                pending = bytearray()
            if event is None:
                await self._receive_body()
        upstream.finished = in_time
        # Some applications send a withheld body after all, maybe later; a sidecar does not.
        clean = not (head.withholds and self._own) and not upstream.reader.buffered and not upstream.reader.ended
        upstream.keep = in_time and head.persistent and clean
        upstream.patience = headers.keep_alive_seconds(head)
        self.goes_on = goes_on

    async def _send_down(self, data: bytearray) -> None:
        if data:
            self.begun = True
            await self._client.send(data)

    def _at_hand(self) -> ResponseHead | bytes | End | None:
        try:
            return self._upstream.reader.next_event()
        except Truncated:
            raise Failed(Reason.UPSTREAM_RESET, "the upstream closed before its response had ended") from None
        except HttpRefused as refused:
            raise Failed(refused.reason, refused.detail) from None

    async def _receive(self) -> None:
        try:
            data = await self._upstream.stream.receive_some(self._limits.buffer_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Failed(Reason.UPSTREAM_RESET, "the upstream cut the connection off") from None
        self.answered = self.answered or bool(data)
        self._upstream.reader.feed(data)

    async def _receive_body(self) -> None:
        """Wait for more of the response. While it is quiet the client is watched: it may have gone away."""
        idle = self._limits.body_idle_timeout
        deadline = trio.current_time() + idle
        with trio.move_on_after(idle if self._watched else min(PROMPT_SECONDS, idle)):
            await self._receive()
            return
        with trio.move_on_at(deadline):
            await self._at_once(self._client.watch, self._receive)
            return
        raise Failed(Reason.UPSTREAM_TIMEOUT, "the response stopped arriving")

    # Both ways

    async def _switch(self, head: ResponseHead) -> None:
        """Pass a 101 on, with what came behind it; only where it grants what was asked for (law 18)."""
        if not (self._request.upgrade and self._uploaded and headers.grants_websocket(head)):
            raise Failed(Reason.UPSTREAM_MALFORMED, "the upstream switched protocols without being asked to")
        fields = headers.response_fields(head, own=self._own)
        first = self._upstream.reader.rest()
        self._record.bytes_out += len(first)
        await self._send_down(bytearray(writing.response_head(101, head.reason, fields, Body.NONE) + first))
        self._tunnel = True

    async def _relay(self) -> None:
        tally, record = Tally(), self._record
        first = self._client.rest()
        limits = self._limits
        try:
            ending = await relay(
                self._client.stream,
                self._upstream.stream,
                tally,
                idle=limits.tcp_idle_timeout,
                first=first,
                buffer_bytes=limits.buffer_bytes,
            )
        finally:
            record.bytes_in += tally.from_a
            record.bytes_out += tally.from_b
        self.goes_on = False
        if reason := _TUNNEL_ENDINGS.get(ending):
            raise Aborted(reason)
