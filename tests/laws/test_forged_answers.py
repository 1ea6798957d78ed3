"""Laws 16 and 19 against a corpus of forged responses: each request gets its own answer, to any reader, or a 502.

Here each goes whole through one of the doors; tests/slow sends every one through both, in pieces too.
"""

import pytest

from tests.laws.conftest import Shop
from tests.laws.forging import assert_one_answer
from tests.support.forged_answers import FORGERIES

SHARE = 4  # of which one part is tried at each door


@pytest.mark.parametrize(("door", "part"), [("outbound", 0), ("inbound", 2)])
async def test_law_16_each_request_gets_its_own_answer_whatever_the_application_says(
    shop: Shop, door: str, part: int
) -> None:
    tried = [each for number, each in enumerate(FORGERIES) if number % SHARE == part or each.surplus]
    await assert_one_answer(shop, tried, straight=door == "inbound")


def test_every_forgery_has_a_name_of_its_own() -> None:
    assert len({each.name for each in FORGERIES}) == len(FORGERIES)
