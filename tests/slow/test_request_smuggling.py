"""Every attempt at smuggling through both doors, whole and in pieces: the same requests reach the application."""

import random

import pytest

from tests.laws.conftest import Shop, pki, shop  # noqa: F401  # fixtures
from tests.laws.smuggling import Cut, assert_one_reading
from tests.support.recording import Recording
from tests.support.smuggling import BODIES
from tests.support.strange_heads import HEADS

LONG = 1500  # bytes: what is longer goes in random pieces where others go byte by byte


def whole(raw: bytes) -> list[bytes]:
    return [raw]


def at_random(raw: bytes) -> list[bytes]:
    """Pieces of up to 40 bytes, or of a 50th of what is long; the same ones every time."""
    chance, most = random.Random(raw), max(40, len(raw) // 50)
    pieces, at = [], 0
    while at < len(raw):
        pieces.append(raw[at : at + chance.randint(1, most)])
        at += len(pieces[-1])
    return pieces


def byte_by_byte(raw: bytes) -> list[bytes]:
    return [raw[at : at + 1] for at in range(len(raw))] if len(raw) < LONG else at_random(raw)


@pytest.mark.parametrize(
    ("door", "cut"),
    [("outbound", whole), ("outbound", at_random), ("inbound", whole), ("inbound", byte_by_byte)],
)
async def test_what_reaches_the_application_has_one_reading_however_it_comes(
    shop: Shop,  # noqa: F811
    door: str,
    cut: Cut,
) -> None:
    recording = Recording()
    await shop.open(serve=recording.serve)
    await assert_one_reading(shop, recording, (*BODIES, *HEADS), straight=door == "inbound", cut=cut)
