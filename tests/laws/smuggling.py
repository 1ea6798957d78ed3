"""Carrying attempts at smuggling through a door, and holding what reached the application to what was decided."""

import re
from collections.abc import Iterable

from tests.laws.conftest import Shop, eventually
from tests.support.pieces import Cut, whole
from tests.support.readers import Read
from tests.support.recording import Recording
from tests.support.smuggling import Attempt


async def assert_one_reading(
    shop: Shop, recording: Recording, attempts: Iterable[Attempt], *, straight: bool, cut: Cut = whole
) -> None:
    """Send each attempt on a connection of its own, in the pieces that `cut` makes of it.

    What reached the application is what the attempt says, to every reader; it was decided, logged and answered so.
    """
    expected = (f"By={shop.pki.id('shop/payments')};URI={shop.pki.id('shop/checkout')}",)
    for attempt in attempts:
        shop.payments.written.clear()
        answer = await shop.say(*cut(attempt.raw), straight=straight)
        said = re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)
        assert said.count(b"200") == len(attempt.reaches), (attempt.name, answer)
        assert set(said) <= {b"200", b"400", b"403", b"431", b"501", b"505"}, (attempt.name, answer)
        await eventually(lambda: len(_decided(shop)) == said.count(b"200") and recording.settled())  # noqa: B023 - awaited within the round
        found = recording.taken()
        assert [(each.method, each.target, each.body) for each in found] == [
            (seen.method, seen.target, seen.body) for seen in attempt.reaches
        ], attempt.name
        assert _decided(shop) == [_logged(each) for each in found], attempt.name
        assert all(each.identity == expected for each in found), attempt.name


def _decided(shop: Shop) -> list[tuple[str, str]]:
    return [(record.method, record.path) for record in shop.payments.written if record.allowed and record.status == 200]


def _logged(read: Read) -> tuple[str, str]:
    return read.method, read.target.partition("?")[0]
