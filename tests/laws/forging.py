"""An application that answers with a forgery, and holding what its caller hears to what may be heard of it."""

from collections.abc import Iterable

from tests.laws.conftest import OK, Shop, eventually
from tests.support.forged_answers import Forgery, Heard
from tests.support.pieces import Cut, whole
from tests.support.response_readers import READERS, strictly
from transport import PlainStream

NEXT = Heard(200, b"ok")


class Forger:
    """Answers the request for /first with a forgery, in pieces, and ends; any other one in order.

    Behind a surplus it goes on, so that only the surplus tells that the connection is spoilt.
    """

    def __init__(self, cut: Cut) -> None:
        self.forgery = Forgery("none", b"")
        self._cut = cut

    async def serve(self, stream: PlainStream) -> None:
        """Serve one connection, for tests.support.doors.application."""
        buffer = b""
        while data := await stream.receive_some():
            buffer += data
            while b"\r\n\r\n" in buffer:
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                if b" /first " not in head:
                    await stream.send_all(OK)
                    continue
                for piece in self._cut(self.forgery.raw):
                    await stream.send_all(piece)
                if not self.forgery.surplus:
                    await stream.send_eof()
                    while await stream.receive_some():
                        pass  # unread bytes would make the end a reset
                    return


async def assert_one_answer(shop: Shop, forgeries: Iterable[Forgery], *, straight: bool, cut: Cut = whole) -> None:
    """Ask for each forgery and then for something else, on one connection: each gets its own answer, or none.

    `shop` is not open yet. Every reader hears the same; what is logged is what was heard.
    """
    forger = Forger(cut)
    await shop.open({"methods": ["GET", "HEAD"]}, serve=forger.serve)
    for forgery in forgeries:
        forger.forgery, methods = forgery, (forgery.method, "GET")
        shop.payments.written.clear()
        requests = b"".join(b"%s /%s HTTP/1.1\r\nHost: payments\r\n\r\n" % each for each in _asked(forgery.method))
        answer = await shop.say(requests, straight=straight)
        if answer == b"<reset>":
            assert forgery.heard is None, forgery.name
            continue
        heard, left = strictly(answer, methods)
        for reader in READERS:
            assert reader(answer, methods) == (heard, left), (forgery.name, answer)
        first, *more = heard
        assert (left, more) in ((b"", []), (b"", [NEXT])), (forgery.name, answer)
        assert first.status == 502 if forgery.heard is None else first == forgery.heard, (forgery.name, answer)
        await eventually(lambda: [each.status for each in shop.payments.written] == [each.status for each in heard])  # noqa: B023 - awaited within the round


def _asked(method: str) -> list[tuple[bytes, bytes]]:
    return [(method.encode(), b"first"), (b"GET", b"next")]
