"""Every forged response through both doors, whole and in pieces: each request gets its own answer, or a 502."""

import pytest

from tests.laws.conftest import Shop, pki, shop  # noqa: F401  # fixtures
from tests.laws.forging import assert_one_answer
from tests.support.forged_answers import FORGERIES
from tests.support.pieces import Cut, at_random, byte_by_byte, whole


@pytest.mark.parametrize(
    ("door", "cut"),
    [("outbound", whole), ("outbound", at_random), ("inbound", whole), ("inbound", byte_by_byte)],
)
async def test_each_request_gets_its_own_answer_however_it_comes(
    shop: Shop,  # noqa: F811 - the fixture
    door: str,
    cut: Cut,
) -> None:
    forgeries = [each for each in FORGERIES if cut is whole or not each.surplus]
    await assert_one_answer(shop, forgeries, straight=door == "inbound", cut=cut)
