"""An application that keeps the raw bytes of every connection, and what several readers make of them.

recording = Recording();  async with application(recording.serve) as port: ...
recording.taken()         the requests that have reached it since the last call, on which every reader agrees
"""

from attrs import define, field

from tests.support.readers import LENIENT, Malformed, Read, strictly
from transport import PlainStream

# To HEAD nobody sends a body: without one the answer fits every method.
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@define
class _Connection:
    raw: bytearray = field(factory=bytearray)
    answered: int = 0
    partly: bool = False  # a request that has not come to its end
    ended: bool = False  # in order: a reset is no end
    over: bool = False


@define
class Recording:
    """Answers every whole request with 200, as the strict reader finds them."""

    connections: list[_Connection] = field(factory=list)

    async def serve(self, stream: PlainStream) -> None:
        """Serve one connection, for tests.support.doors.application."""
        connection = _Connection()
        self.connections.append(connection)
        try:
            while data := await stream.receive_some():
                connection.raw += data
                found, left = strictly(bytes(connection.raw))
                answers, connection.answered, connection.partly = (
                    len(found) - connection.answered,
                    len(found),
                    bool(left),
                )
                await stream.send_all(ANSWER * answers)
            connection.ended = True
        except Malformed:
            return  # taken() tells
        finally:
            connection.over = True

    def settled(self) -> bool:
        """Whether nothing is left over that may still go on."""
        return all(connection.over or not connection.partly for connection in self.connections)

    def taken(self) -> list[Read]:
        """Every request that reached it; ask when it is settled(). Raises AssertionError where readers disagree.

        Of a request that was cut off a part may be there, with nothing behind it and no orderly end.
        """
        every: list[Read] = []
        for connection in self.connections:
            raw, connection.raw, connection.answered = bytes(connection.raw), bytearray(), 0
            found, left = strictly(raw)
            for name, reader in LENIENT.items():
                assert reader(raw) == (found, left), (name, raw)
            assert not (left and connection.ended), "a request that was cut off must not look whole"
            every += found
        return every
