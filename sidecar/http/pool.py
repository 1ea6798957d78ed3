"""Connections to the one who answers, and the pool that keeps idle ones, so that a handshake is not paid per request.

A connection is kept only after a whole exchange with nothing left over, and given out again only where it is still
silent, not too old, and the certificates behind it are good (laws 10, 19). The key says whom it speaks to and for:
nobody's request travels on a connection that was opened for another caller, identity or certificate.
"""

import select
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, Self

import trio
from attrs import define, field

from certs.verify import Peer
from sidecar.http.reading import ResponseReader
from sidecar.proxy import Proxy
from sidecar.settings import Limits
from transport import PlainStream, TlsStream

CLOSE_SECONDS = 1.0  # for saying goodbye to a connection that nobody needs
SWEEP_SECONDS = 1.0  # between two looks at what has been idle for too long
RETIRE_EARLY: Final = timedelta(seconds=1)  # before a certificate ends: a request takes time, and clocks are not one


@define(eq=False)
class Pooled:
    """One upstream connection. `peer` and `not_after` (the earlier of both certificates) are None without TLS.

    The exchange sets `keep` or `finished` at its end; a connection with neither is reset. `patience` is how long the
    upstream says that it waits for the next request (Keep-Alive: timeout), in seconds.
    """

    stream: TlsStream | PlainStream
    key: Hashable
    reader: ResponseReader
    peer: Peer | None = None
    not_after: datetime | None = None
    reused: bool = False
    finished: bool = False
    keep: bool = False
    patience: float | None = None
    expires: float = field(default=0.0, init=False)

    def is_silent(self) -> bool:
        """Whether nothing has arrived since the last response: no byte, no end, no reset."""
        try:
            if isinstance(self.stream, TlsStream):
                connection = self.stream.connection
                if connection.pending():
                    return False
                number: int = connection.fileno()
            else:
                number = self.stream.socket.fileno()
            poll = select.poll()
            poll.register(number, select.POLLIN)
            return not poll.poll(0)
        except (trio.ClosedResourceError, OSError, ValueError):
            return False

    async def close(self) -> None:
        """Say goodbye, for at most CLOSE_SECONDS."""
        with trio.move_on_after(CLOSE_SECONDS, shield=True), suppress(trio.BrokenResourceError):
            await self.stream.aclose()
        self.stream.abort()  # does nothing where it was closed in order


class Pool:
    """Idle connections by key. The oldest of a key goes first where there are too many, the youngest is used first."""

    def __init__(self, limits: Limits, now: Callable[[], datetime]) -> None:
        self._limits = limits
        self._now = now
        self._idle: dict[Hashable, deque[Pooled]] = {}
        self._sweeping = False

    @classmethod
    def of(cls, proxy: Proxy) -> Self:
        """A pool by the proxy's limits, for `proxy.shared(Pool.of)`."""
        return cls(proxy.limits, proxy.mesh.now)

    def __len__(self) -> int:
        return sum(len(idle) for idle in self._idle.values())

    async def take(self, key: Hashable, good: Callable[[Pooled], bool]) -> Pooled | None:
        """An idle connection that may carry one more exchange, or None. `good` judges its peer as of now."""
        while idle := self._idle.get(key):
            pooled = idle.pop()
            if not idle:
                del self._idle[key]
            if self._is_current(pooled) and good(pooled) and pooled.is_silent():
                pooled.reused, pooled.keep, pooled.finished = True, False, False
                return pooled
            await pooled.close()
        return None

    async def release(self, pooled: Pooled) -> None:
        """Take back a connection after its exchange: keep it, close it, or reset it where the exchange was cut off."""
        if not pooled.keep:
            await pooled.close() if pooled.finished else pooled.stream.abort()
            return
        patience = self._limits.pool_idle_timeout
        if pooled.patience is not None:
            patience = min(patience, pooled.patience)
        pooled.expires = trio.current_time() + patience
        idle = self._idle.setdefault(pooled.key, deque())
        idle.append(pooled)
        self._start_sweeping()
        if len(idle) > self._limits.pool_connections:
            await idle.popleft().close()

    def _is_current(self, pooled: Pooled) -> bool:
        if pooled.expires <= trio.current_time():
            return False
        return pooled.not_after is None or pooled.not_after - RETIRE_EARLY > self._now()

    def _start_sweeping(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            # The pool belongs to no connection's task: the sweep ends with the last idle one, or with the program.
            trio.lowlevel.spawn_system_task(self._sweep)

    async def _sweep(self) -> None:
        try:
            while self._idle:
                await trio.sleep(SWEEP_SECONDS)
                for pooled in self._take_out_old():
                    await pooled.close()
        finally:
            self._sweeping = False
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._close_all()

    async def _close_all(self) -> None:
        """At the end of the program: whoever waits at the other end is told."""
        everyone = [pooled for idle in self._idle.values() for pooled in idle]
        self._idle.clear()
        for pooled in everyone:
            await pooled.close()

    def _take_out_old(self) -> list[Pooled]:
        old = [
            pooled
            for idle in self._idle.values()
            for pooled in idle
            if not (self._is_current(pooled) and pooled.is_silent())
        ]
        for pooled in old:
            self._idle[pooled.key].remove(pooled)
            if not self._idle[pooled.key]:
                del self._idle[pooled.key]
        return old
