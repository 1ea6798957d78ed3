"""What inbound and outbound have in common: accept until the drain, and one record per connection, whatever happens.

accept_until_draining   listeners -> one task per connection, behind transport's wall
recorded                around one connection's whole life: counted once, written once, every ending translated
find_protocol           declared or, for `auto`, sniffed
relay_counted           the relay, with its bytes and its ending in the record
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio
from attrs import define

from mesh.policy.reasons import Reason
from sidecar import log
from sidecar.access_log import Record
from sidecar.protocol import sniff
from sidecar.proxy import Proxy
from sidecar.refused import Refused, UpstreamFailed
from sidecar.relay import Ending, Stream, Tally, relay
from transport import CannotAccept, Handler, serve

MORE_FILES = "raise ulimit -n, or lower --max-connections"
GAVE_WAY = "every place of --max-connections was taken, and this connection had said nothing for the longest time"

_REASONS = {
    Ending.A_BROKE: Reason.DOWNSTREAM_RESET,
    Ending.B_BROKE: Reason.UPSTREAM_RESET,
    Ending.IDLE: Reason.IDLE_TIMEOUT,
}


@define
class Life:
    """One accepted connection. `record` is written at its end unless HTTP took over, which writes one per request.

    `ended` is why it ended where that was no ordinary end.
    """

    record: Record
    taken_over: bool = False
    ended: str = ""

    def end(self, reason: Reason) -> None:
        """Say in the record, and to the counter of ended connections, why it ended."""
        self.record.reason = self.ended = reason.value


async def accept_until_draining(
    listeners: Sequence[trio.SocketListener], handler: Handler, proxy: Proxy, direction: str
) -> None:
    """Serve connections; once the proxy drains accept no more, and return when the last one has ended."""

    def on_error(error: Exception) -> None:
        if isinstance(error, CannotAccept):
            log.warning("accepting pauses", direction=direction, problem=error.strerror, advice=MORE_FILES)
            return
        proxy.metrics.unexpected(direction)
        log.error("a connection ended in an error that no code foresaw", exception=error, direction=direction)

    async with trio.open_nursery() as connections, trio.open_nursery() as accepting:

        async def accept() -> None:
            await serve(listeners, handler, nursery=connections, places=proxy.places, on_error=on_error)

        accepting.start_soon(accept)
        await proxy.draining.wait()
        accepting.cancel_scope.cancel()


@contextmanager
def recorded(proxy: Proxy, direction: str, protocol: str) -> Iterator[Life]:
    """Count a connection from its beginning to its end, and write its one record. Swallows Refused."""
    life = Life(proxy.log.start(direction, protocol))
    proxy.metrics.connection_opened(direction)
    try:
        yield life
    except UpstreamFailed as failed:
        life.end(failed.reason)
        life.record.detail = failed.detail
        log.info("upstream failed", direction=direction, reason=failed.reason, detail=failed.detail)
    except Refused as refused:
        life.end(refused.reason)
        life.record.detail = refused.detail
        proxy.metrics.refused(direction, refused.reason)
        log.debug("refused", direction=direction, reason=refused.reason, detail=refused.detail)
    except Exception:
        life.end(Reason.INTERNAL_ERROR)
        raise
    except BaseException:  # cancelled: the drain's time is up
        life.end(Reason.DRAINING)
        raise
    finally:
        proxy.metrics.connection_closed(direction, life.ended)
        if not life.taken_over:
            proxy.log.write(life.record)


async def find_protocol(declared: str, stream: Stream, proxy: Proxy, *, patience: float) -> tuple[str, bytes]:
    """Whether the connection is "http" or "tcp", and the bytes that were read to learn it.

    Reads only for `auto`, for at most `patience` seconds and not once the proxy drains: a protocol whose server speaks
    first must be declared. Meanwhile it gives way to newcomers. Raises Refused.
    """
    if declared != "auto":
        return declared, b""
    found: tuple[str, bytes] | None = None
    broken: trio.BrokenResourceError | None = None

    async def look() -> None:
        nonlocal found, broken
        try:
            found = await _sniffed(stream)
        except trio.BrokenResourceError as error:
            broken = error
        waiting.cancel_scope.cancel()

    with proxy.places.idle() as place, trio.move_on_after(patience):
        async with trio.open_nursery() as waiting:
            waiting.start_soon(look)
            await proxy.draining.wait()
            waiting.cancel_scope.cancel()
    if place.cancelled_caught:  # also where first bytes came in that very moment: the newcomer counts on the place
        raise Refused(Reason.OVER_LIMIT, GAVE_WAY)
    if found is not None:
        return found
    if broken is not None:
        raise Refused(Reason.DOWNSTREAM_RESET, str(broken))
    if proxy.draining.is_set():
        raise Refused(Reason.DRAINING, "nothing had been said when the drain began")
    raise Refused(Reason.DOWNSTREAM_TIMEOUT, "no first bytes: declare a protocol whose server speaks first as tcp")


async def _sniffed(stream: Stream) -> tuple[str, bytes]:
    seen = b""
    while True:
        data = await stream.receive_some()
        seen += data
        if not data:
            return "tcp", seen
        if found := sniff(seen):
            return found, seen


async def relay_counted(proxy: Proxy, life: Life, caller: Stream, upstream: Stream, first: bytes) -> None:
    """Relay until the end, and say in the record how much was moved and what ended it."""
    record, tally = life.record, Tally()
    limits = proxy.limits
    try:
        ending = await relay(
            caller, upstream, tally, idle=limits.tcp_idle_timeout, first=first, buffer_bytes=limits.buffer_bytes
        )
    finally:
        record.bytes_in, record.bytes_out = tally.from_a, tally.from_b
        proxy.metrics.bytes(record.direction, sent=tally.from_b, received=tally.from_a)
    if reason := _REASONS.get(ending):
        life.end(reason)
