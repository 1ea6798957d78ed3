"""Every attempt at smuggling through both doors, whole and in pieces: the same requests reach the application."""

import pytest

from tests.laws.conftest import Shop, pki, shop  # noqa: F401  # fixtures
from tests.laws.smuggling import assert_one_reading
from tests.support.pieces import Cut, at_random, byte_by_byte, whole
from tests.support.recording import Recording
from tests.support.smuggling import BODIES
from tests.support.strange_heads import HEADS


@pytest.mark.parametrize(
    ("door", "cut"),
    [("outbound", whole), ("outbound", at_random), ("inbound", whole), ("inbound", byte_by_byte)],
)
async def test_what_reaches_the_application_has_one_reading_however_it_comes(
    shop: Shop,  # noqa: F811 - the fixture
    door: str,
    cut: Cut,
) -> None:
    recording = Recording()
    await shop.open(serve=recording.serve)
    await assert_one_reading(shop, recording, (*BODIES, *HEADS), straight=door == "inbound", cut=cut)
