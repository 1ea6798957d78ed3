"""Streams of bytes too large to be held: numbered blocks, made and hashed on the fly.

No two blocks of a stream are alike, so whatever is lost, doubled, swapped or changed on the way shows in the sum.
"""

import hashlib
import random
import struct
from collections.abc import Iterator
from typing import Any, Protocol

from attrs import define, field

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
BLOCK = 64 * KIB

_NOISE = random.Random(1).randbytes(BLOCK)
_NUMBER = struct.Struct(">QQ")


@define
class Sum:
    """What went by: two are equal where their bytes are."""

    size: int = 0
    _hash: Any = field(factory=hashlib.blake2b, eq=lambda made: made.digest(), repr=lambda made: made.hexdigest()[:16])

    def add(self, data: bytes | bytearray) -> None:
        """Count what went by next."""
        self.size += len(data)
        self._hash.update(data)


class Stream(Protocol):
    """What trio's streams and ours have in common."""

    async def send_all(self, data: bytes) -> None: ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes: ...


def blocks(size: int, *, number: int = 0) -> Iterator[bytes]:
    """A stream of `size` bytes in pieces of at most BLOCK; another `number` makes another stream."""
    block = bytearray(_NOISE)
    for start in range(0, size, BLOCK):
        _NUMBER.pack_into(block, 0, number, start)
        yield bytes(block[: size - start])


def expected(size: int, *, number: int = 0) -> Sum:
    """The sum of that stream."""
    total = Sum()
    for block in blocks(size, number=number):
        total.add(block)
    return total


async def send(stream: Stream, size: int, *, number: int = 0) -> Sum:
    """Send that stream."""
    sent = Sum()
    for block in blocks(size, number=number):
        await stream.send_all(block)
        sent.add(block)
    return sent


async def receive(stream: Stream, size: int | None = None) -> Sum:
    """Take `size` bytes, or all until the end where that is None. What ends too early just counts less."""
    received = Sum()
    while size is None or received.size < size:
        data = await stream.receive_some(BLOCK if size is None else min(BLOCK, size - received.size))
        if not data:
            break
        received.add(data)
    return received
