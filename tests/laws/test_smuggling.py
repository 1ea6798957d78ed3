"""Law 16 against a corpus of smuggled requests: whatever reaches the application is what was decided, to any reader.

Here each attempt goes whole through one of the doors; tests/slow sends every one through both, in pieces too.
"""

import pytest

from tests.laws.conftest import Shop
from tests.laws.smuggling import assert_one_reading
from tests.support.readers import LENIENT, Malformed, strictly
from tests.support.recording import Recording
from tests.support.smuggling import BODIES
from tests.support.strange_heads import HEADS

EVERY = (*BODIES, *HEADS)
SHARE = 4  # of which one part is tried at each door


@pytest.mark.parametrize(("door", "part"), [("outbound", 0), ("inbound", 2)])
async def test_law_16_what_reaches_the_application_has_one_reading(shop: Shop, door: str, part: int) -> None:
    recording = Recording()
    await shop.open(serve=recording.serve)
    await assert_one_reading(shop, recording, EVERY[part::SHARE], straight=door == "inbound")


def test_every_attempt_has_a_name_of_its_own() -> None:
    assert len({each.name for each in EVERY}) == len(EVERY)


def test_the_readers_would_tell() -> None:
    """Straight at the application most attempts are understood in different ways, or not at all."""
    agreed = []
    for attempt in EVERY:
        try:
            strict = strictly(attempt.raw)
            if all(reader(attempt.raw) == strict for reader in LENIENT.values()):
                agreed.append(attempt.name)
        except Exception:  # noqa: BLE001  # whatever a careless reader trips over
            continue
    assert len(agreed) < len(EVERY) / 5, agreed
    with pytest.raises(Malformed):
        strictly(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
