"""How a connection ends: one short reason for logs and metrics, a text for people, and a last word for the peer."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from control_plane.push.conversation import PeerTooSlow
from mesh.wire import Nack, WireError


class Ending(Exception):
    """Raised by whatever ends a connection. `reason` comes from a fixed set: it labels a metric."""

    def __init__(self, reason: str, message: str, last_word: Nack | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.last_word = last_word


@contextmanager
def endings() -> Iterator[None]:
    """Within it, whatever the peer or the network did wrong becomes an Ending."""
    try:
        yield
    except WireError as error:
        raise Ending("protocol", str(error), Nack("Frame", "malformed", str(error)[:1000])) from None
    except PeerTooSlow as error:
        raise Ending("slow", str(error)) from None
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise Ending("broken", str(error) or "the connection broke") from None
