"""relay() under any schedule: whatever two streams do and when, every byte arrives in order or the ending says why."""

from collections.abc import Iterable

import trio
import trio.testing
from attrs import define, field, frozen
from hypothesis import event, example, given
from hypothesis import strategies as st

from sidecar.relay import Ending, Tally, relay

IDLE = 60.0
BUFFER = 16
FOREVER = 10_000.0


@frozen
class Script:
    """What one stream does: `says` are pauses in seconds and bytes to read after each, then it does what `last` says.

    Every sending into it takes the next of `takes` seconds, half of them after half of the bytes; one fails after
    `breaks` bytes. None: it always succeeds.
    """

    says: tuple[tuple[float, int], ...] = ()
    last: str = "end"
    takes: tuple[float, ...] = ()
    breaks: int | None = None

    @property
    def content(self) -> bytes:
        """All that can be read from it."""
        return bytes(number % 251 for number in range(sum(count for _, count in self.says)))


@define(eq=False)
class Scripted:
    """The stream that follows a script, and remembers all that it was asked."""

    script: Script
    taken: int = 0
    """Bytes that were read from it."""
    given: bytearray = field(factory=bytearray)
    """Bytes that were sent into it."""
    at_end: bool = False
    broke: bool = False
    half_closed: bool = False
    closed: bool = False
    aborted: bool = False
    moved_at: float = 0.0
    _said: int = 0
    _left: int = 0
    _sendings: int = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        assert max_bytes is not None
        assert 0 < max_bytes <= BUFFER
        assert not self.at_end, "nobody reads behind the end"
        while not self._left:
            if self._said == len(self.script.says):
                return await self._finish()
            pause, self._left = self.script.says[self._said]
            self._said += 1
            await trio.sleep(pause)
        count = min(self._left, max_bytes)
        data = self.script.content[self.taken : self.taken + count]
        self.taken, self._left = self.taken + count, self._left - count
        await trio.lowlevel.checkpoint()
        return data

    async def _finish(self) -> bytes:
        if self.script.last == "silence":
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if self.script.last == "reset":
            self._break()
        self.at_end = True
        return b""

    async def send_all(self, data: bytes) -> None:
        assert not self.half_closed, "nothing is sent behind the end"
        takes, number = self.script.takes, self._sendings
        self._sendings += 1
        pause = takes[number % len(takes)] if takes else 0.0
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            if self.script.breaks is not None and len(self.given) + len(part) > self.script.breaks:
                self._break()
            self.given += part
            await trio.sleep(pause / 2)
        self.moved_at = trio.current_time()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.script.breaks is not None and len(self.given) >= self.script.breaks:
            self._break()
        self.half_closed = True

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        self.aborted = self.aborted or not self.closed

    def _break(self) -> None:
        self.broke = True
        raise trio.BrokenResourceError


@define
class Outcome:
    """What became of it, and when; `ending` is None where it was cancelled."""

    ending: Ending | None = None
    tally: Tally = field(factory=Tally)
    at: float = 0.0


async def played(a: Scripted, b: Scripted, first: bytes, cancel_after: float) -> Outcome:
    outcome = Outcome()
    with trio.move_on_after(cancel_after):
        outcome.ending = await relay(a, b, outcome.tally, idle=IDLE, first=first, buffer_bytes=BUFFER)
    outcome.at = trio.current_time()
    return outcome


pauses = st.sampled_from([0.0, 0.0, 0.0, 1.0, 20.0, 59.0, 61.0])
scripts = st.builds(
    Script,
    st.lists(st.tuples(pauses, st.integers(1, 3 * BUFFER)), max_size=5).map(tuple),
    st.sampled_from(["end", "end", "reset", "silence"]),
    st.lists(pauses, max_size=3).map(tuple),
    st.none() | st.none() | st.integers(0, 40),
)
cancellations = st.just(FOREVER) | st.just(FOREVER) | st.sampled_from([0.0, 0.5, 20.0, 70.0])


@given(scripts, scripts, st.binary(max_size=BUFFER), cancellations)
@example(Script(((59.0, 1),)), Script(last="silence"), b"", FOREVER)
@example(Script(((0.0, 40),), takes=(61.0,)), Script(takes=(1.0,), breaks=20), b"", FOREVER)
def test_every_byte_arrives_in_order_or_the_ending_says_why(
    ours: Script, theirs: Script, first: bytes, cancel_after: float
) -> None:
    a, b = Scripted(ours), Scripted(theirs)
    clock = trio.testing.MockClock(autojump_threshold=0)
    began = clock.current_time()
    outcome = trio.run(played, a, b, first, cancel_after, clock=clock)
    event(outcome.ending.name if outcome.ending else "cancelled")
    _check_one_way(a, b, first, outcome.tally.from_a)
    _check_one_way(b, a, b"", outcome.tally.from_b)
    broken = [each.broke for each in (a, b)]
    match outcome.ending:
        case Ending.DONE:
            assert (a.at_end, b.at_end, a.half_closed, b.half_closed) == (True, True, True, True)
            assert (bytes(b.given), bytes(a.given)) == (first + ours.content, theirs.content)
            assert (a.closed, b.closed, a.aborted, b.aborted) == (True, True, False, False)
        case Ending.A_BROKE | Ending.B_BROKE:
            assert broken[0 if outcome.ending is Ending.A_BROKE else 1]
        case Ending.IDLE:
            assert outcome.at == max(a.moved_at, b.moved_at, began) + IDLE
            assert not any(broken)
        case None:
            assert cancel_after < FOREVER
    if outcome.ending is not Ending.DONE:
        assert (a.aborted, b.aborted) == (True, True)


def _check_one_way(source: Scripted, sink: Scripted, first: Iterable[int], told: int) -> None:
    """What holds of one direction, however it ended."""
    whole = bytes(first) + source.script.content
    taken = len(bytes(first)) + source.taken
    assert whole.startswith(sink.given), "what arrives is what was said, from its beginning"
    assert told <= len(sink.given) <= taken
    assert taken - told <= max(BUFFER, len(bytes(first))), "no more is held than one buffer"
    if sink.half_closed:
        assert source.at_end
        assert bytes(sink.given) == whole, "a cut never looks like an end"
