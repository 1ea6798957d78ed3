"""Ways to cut what is sent into pieces; the same ones every time."""

import random
from collections.abc import Callable, Sequence

Cut = Callable[[bytes], Sequence[bytes]]

LONG = 1500  # bytes: what is longer goes in random pieces where others go byte by byte


def whole(raw: bytes) -> Sequence[bytes]:
    """One piece."""
    return [raw]


def at_random(raw: bytes) -> Sequence[bytes]:
    """Pieces of up to 40 bytes, or of a 50th of what is long."""
    chance, most = random.Random(raw), max(40, len(raw) // 50)
    pieces: list[bytes] = []
    at = 0
    while at < len(raw):
        pieces.append(raw[at : at + chance.randint(1, most)])
        at += len(pieces[-1])
    return pieces


def byte_by_byte(raw: bytes) -> Sequence[bytes]:
    """Pieces of one byte; LONG ones as at_random() does."""
    return [raw[at : at + 1] for at in range(len(raw))] if len(raw) < LONG else at_random(raw)
