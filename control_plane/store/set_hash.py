"""A hash over a set of which a few members change at a time, at the cost of those few. Pure.

MuHash (Bellare and Micciancio, "A New Paradigm for Collision-Free Hashing", 1997) with the prime that Bitcoin Core
takes for MuHash3072: each member is a number, and the hash is the product of all of them.
"""

import hashlib
from collections.abc import Iterable
from functools import reduce
from typing import Final

EMPTY: Final = 1
"""The hash over no member."""

BROKEN: Final = 0
"""The hash over no set at all, and so it stays whatever is added or removed."""

_PRIME: Final = 2**3072 - 1103717


def added(state: int, members: Iterable[bytes]) -> int:
    """The hash of a set once these are in it too."""
    return reduce(lambda product, member: product * _number(member) % _PRIME, members, state)


def removed(state: int, members: Iterable[bytes]) -> int:
    """The hash of a set once these are no longer in it; of no set where they were not."""
    return state * pow(added(EMPTY, members), -1, _PRIME) % _PRIME


def text(state: int) -> str:
    """The hash as it is stored, in 768 characters."""
    return f"{state:x}"


def digest(stored: str) -> str:
    """A stored hash in 64 characters: enough to know it again."""
    return hashlib.sha256(stored.encode()).hexdigest()


def _number(member: bytes) -> int:
    return int.from_bytes(hashlib.shake_256(member).digest(384)) % _PRIME
