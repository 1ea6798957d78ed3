"""relay() and move() on in-memory streams and virtual time; the doors' tests show the same over real sockets."""

from functools import partial

import pytest
import trio
import trio.testing
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from sidecar.relay import Ending, SinkBroke, SourceBroke, SourceEnded, Tally, move, relay
from tests.support.patience import PATIENCE
from tests.support.streams import break_off

HOUR = 3600.0


class MemoryStream:
    """One end of an in-memory pair, with the surface of our streams. `held` counts bytes sent and not yet read."""

    def __init__(self, inner: trio.StapledStream) -> None:
        self._inner = inner
        self.aborted = False
        self.closed = False
        self.ended = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self._refuse_aborted()
        return bytes(await self._inner.receive_some(max_bytes))

    async def send_all(self, data: bytes) -> None:
        self._refuse_aborted()
        await self._inner.send_all(data)

    async def send_eof(self) -> None:
        self.ended = True
        await self._inner.send_eof()

    async def aclose(self) -> None:
        self.closed = True
        await self._inner.aclose()

    def abort(self) -> None:
        if not self.closed:
            self.aborted = self.closed = True
            self._inner.send_stream.close()
            self._inner.receive_stream.close()

    def _refuse_aborted(self) -> None:
        if self.aborted:
            raise trio.ClosedResourceError


class Broken(MemoryStream):
    """Breaks as a real stream does that was reset: after `after` reads."""

    def __init__(self, inner: trio.StapledStream, after: int) -> None:
        super().__init__(inner)
        self._left = after

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._left:
            raise trio.BrokenResourceError("reset")
        self._left -= 1
        return await super().receive_some(max_bytes)


@define
class Bench:
    """A relay's two streams, `a` and `b`, and who talks through them."""

    caller: trio.StapledStream
    a: MemoryStream
    b: MemoryStream
    server: trio.StapledStream

    @classmethod
    def make(cls, *, breaks_after: int | None = None) -> "Bench":
        caller, a = trio.testing.memory_stream_pair()
        b, server = trio.testing.memory_stream_pair()
        near = MemoryStream(a) if breaks_after is None else Broken(a, breaks_after)
        return cls(caller, near, MemoryStream(b), server)


async def test_bytes_and_both_ends_are_carried_through() -> None:
    bench, tally, endings = Bench.make(), Tally(), []

    async def run() -> None:
        endings.append(await relay(bench.a, bench.b, tally, idle=HOUR))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await bench.caller.send_all(b"question")
            await bench.caller.send_eof()
            assert await bench.server.receive_some() == b"question"
            assert await bench.server.receive_some() == b""
            await trio.testing.wait_all_tasks_blocked()
            assert not endings, "one direction ended, the other one goes on"
            await bench.server.send_all(b"the answer")
            await bench.server.send_eof()
            assert await bench.caller.receive_some() == b"the answer"
            assert await bench.caller.receive_some() == b""
    assert endings == [Ending.DONE]
    assert tally == Tally(from_a=8, from_b=10)
    assert (bench.a.closed, bench.b.closed) == (True, True)
    assert (bench.a.aborted, bench.b.aborted) == (False, False)


async def test_bytes_read_before_come_first_and_are_counted() -> None:
    bench, tally = Bench.make(), Tally()
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await relay(bench.a, bench.b, tally, idle=HOUR, first=b"sniffed ")

        nursery.start_soon(run)
        await bench.caller.send_all(b"and more")
        await bench.caller.send_eof()
        received = b""
        while data := await bench.server.receive_some():
            received += data
        await bench.server.send_eof()
    assert received == b"sniffed and more"
    assert tally.from_a == len(received)


@pytest.mark.parametrize(("swapped", "ending"), [(False, Ending.A_BROKE), (True, Ending.B_BROKE)])
async def test_what_breaks_on_one_side_is_cut_off_on_the_other(swapped: bool, ending: Ending) -> None:
    bench = Bench.make(breaks_after=1)
    await bench.caller.send_all(b"half")
    a, b = (bench.b, bench.a) if swapped else (bench.a, bench.b)
    assert await relay(a, b, Tally(), idle=HOUR) is ending
    assert bench.b.aborted
    assert not bench.b.ended, "a cut must never look like an end"


async def test_a_side_that_takes_nothing_any_more_is_the_one_that_broke() -> None:
    bench = Bench.make()
    await bench.server.aclose()
    await bench.caller.send_all(b"to nobody")
    assert await relay(bench.a, bench.b, Tally(), idle=HOUR) is Ending.B_BROKE
    assert bench.a.aborted


async def test_silence_ends_it_and_any_byte_puts_that_off(autojump_clock: trio.testing.MockClock) -> None:
    bench = Bench.make()
    began = trio.current_time()

    async def talk() -> None:
        for _ in range(3):
            await trio.sleep(40)
            await bench.caller.send_all(b"x")
            await trio.sleep(40)
            await bench.server.send_all(b"y")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        assert await relay(bench.a, bench.b, Tally(), idle=60) is Ending.IDLE
    assert trio.current_time() - began == pytest.approx(6 * 40 + 60)
    assert (bench.a.aborted, bench.b.aborted) == (True, True)


async def test_a_cancellation_cuts_both_sides_off() -> None:
    bench = Bench.make()
    await break_off(partial(relay, bench.a, bench.b, Tally(), idle=HOUR))
    assert (bench.a.aborted, bench.b.aborted) == (True, True)


async def test_it_reads_no_more_before_the_sink_took_what_it_has() -> None:
    caller, near = trio.testing.memory_stream_pair()
    far, _server = trio.testing.lockstep_stream_pair()  # takes a piece only when somebody reads it
    await caller.send_all(bytes(10_000))
    await break_off(partial(move, MemoryStream(near), MemoryStream(far), None, lambda _: None, buffer_bytes=1000))
    left = near.receive_stream._incoming._data
    assert len(left) == 9_000


async def move_all(data: bytes, count: int | None, buffer_bytes: int) -> tuple[bytes, bytes, list[int]]:
    """What move() took over, what it left, and the pieces it told of."""
    writer, source = trio.testing.memory_stream_one_way_pair()
    sink, reader = trio.testing.memory_stream_one_way_pair()
    await writer.send_all(data)
    await writer.aclose()
    pieces: list[int] = []
    end = MemoryStream(trio.StapledStream(sink, source))
    await move(end, end, count, pieces.append, buffer_bytes=buffer_bytes)
    await sink.aclose()
    taken, left = bytearray(), bytearray()
    while some := await reader.receive_some():
        taken += some
    while some := await source.receive_some():
        left += some
    return bytes(taken), bytes(left), pieces


@given(data=st.binary(max_size=300), part=st.floats(0, 1), buffer_bytes=st.integers(1, 64))
def test_move_takes_exactly_what_was_asked_for(data: bytes, part: float, buffer_bytes: int) -> None:
    count = int(len(data) * part)
    taken, left, pieces = trio.run(move_all, data, count, buffer_bytes)
    assert (taken, left) == (data[:count], data[count:])
    assert sum(pieces) == count
    assert all(piece <= buffer_bytes for piece in pieces)


async def test_move_without_a_count_takes_all() -> None:
    assert (await move_all(b"all of it", None, 4))[:2] == (b"all of it", b"")


async def test_move_tells_a_source_that_ends_too_early_from_one_that_breaks() -> None:
    with pytest.raises(SourceEnded):
        await move_all(b"short", 6, 64)
    bench = Bench.make(breaks_after=0)
    with pytest.raises(SourceBroke):
        await move(bench.a, bench.b, 1, lambda _: None)


async def test_move_tells_a_sink_that_breaks() -> None:
    bench = Bench.make()
    await bench.caller.send_all(b"x")
    await bench.server.aclose()
    with pytest.raises(SinkBroke):
        await move(bench.a, bench.b, 1, lambda _: None)
