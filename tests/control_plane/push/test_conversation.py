"""Messages over any stream, however it splits them; a peer that does not read is given up in time."""

import pytest
import trio
from trio.testing import MemoryReceiveStream, memory_stream_one_way_pair, memory_stream_pair

from control_plane.push.conversation import LAST_WORD_BYTES, LAST_WORD_SECONDS, Conversation, PeerTooSlow
from mesh.wire import FrameTooLarge, MessageMalformed, Nack, Ping, Pong, encode


@pytest.fixture
def pair() -> tuple[Conversation, trio.StapledStream]:
    ours, theirs = memory_stream_pair()
    return Conversation(ours, limit=1000, write_timeout=30), theirs


Pair = tuple[Conversation, trio.StapledStream]


async def test_messages_arrive_whole_whatever_the_pieces(pair: Pair) -> None:
    conversation, theirs = pair
    stream = encode(Ping(1)) + encode(Pong(2)) + encode(Ping(3))
    for size in (1, 7, len(stream)):
        for start in range(0, len(stream), size):
            await theirs.send_all(stream[start : start + size])
        assert [await conversation.receive() for _ in range(3)] == [Ping(1), Pong(2), Ping(3)]


async def test_a_receive_that_was_cancelled_loses_nothing(pair: Pair, autojump_clock: trio.testing.MockClock) -> None:
    conversation, theirs = pair
    frame = encode(Ping(1))
    await theirs.send_all(frame[:5])
    with trio.move_on_after(1):
        await conversation.receive()
    await theirs.send_all(frame[5:])
    assert await conversation.receive() == Ping(1)


async def test_many_small_messages_at_once_let_others_have_their_turn(pair: Pair) -> None:
    conversation, theirs = pair
    turns, messages = 0, 500

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    await theirs.send_all(encode(Pong(1)) * messages)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        for _ in range(messages):
            assert await conversation.receive() == Pong(1)
        nursery.cancel_scope.cancel()
    assert turns >= messages / 2


async def test_the_end_between_two_frames_is_the_end(pair: Pair) -> None:
    conversation, theirs = pair
    await theirs.send_all(encode(Ping(1)))
    await theirs.send_eof()
    assert await conversation.receive() == Ping(1)
    assert await conversation.receive() is None


async def test_the_end_within_a_frame_is_an_error(pair: Pair) -> None:
    conversation, theirs = pair
    await theirs.send_all(encode(Ping(1))[:-1])
    await theirs.send_eof()
    with pytest.raises(MessageMalformed):
        await conversation.receive()


async def test_an_oversized_frame_is_refused_by_its_length_alone(pair: Pair) -> None:
    conversation, theirs = pair
    await theirs.send_all((1001).to_bytes(4, "big"))
    with pytest.raises(FrameTooLarge):
        await conversation.receive()


class FullStream(trio.abc.SendStream):
    """A peer whose window is full."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.sleep_forever()

    async def send_eof(self) -> None:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def unread_by_the_peer() -> trio.StapledStream[FullStream, MemoryReceiveStream]:
    return trio.StapledStream(FullStream(), memory_stream_one_way_pair()[1])


async def test_a_peer_that_does_not_read_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    conversation = Conversation(unread_by_the_peer(), limit=1000, write_timeout=30)
    begin = trio.current_time()
    with pytest.raises(PeerTooSlow):
        await conversation.send(Ping(1))
    assert trio.current_time() - begin == 30


async def test_a_last_word_waits_only_a_moment(autojump_clock: trio.testing.MockClock) -> None:
    conversation = Conversation(unread_by_the_peer(), limit=1000, write_timeout=30)
    begin = trio.current_time()
    await conversation.end_with(Nack("Link", "banned", ""))
    assert trio.current_time() - begin == LAST_WORD_SECONDS


async def test_a_last_word_reads_away_only_so_much(pair: Pair, autojump_clock: trio.testing.MockClock) -> None:
    conversation, theirs = pair
    await theirs.send_all(bytes(2 * LAST_WORD_BYTES))
    begin = trio.current_time()
    await conversation.end_with(word := Nack("Link", "banned", "you"))
    assert trio.current_time() == begin
    assert await theirs.receive_some() == encode(word)
    assert await theirs.receive_some() == b""
