"""Which endpoint to call: the less loaded of two that were drawn at random.

It needs no state but the number of calls under way, spreads as well as knowing every load, and does not send a herd
of sidecars to the same idle endpoint (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing").
"""

import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from mesh.wire import Endpoint


class Loads:
    """Calls under way per endpoint: connections for TCP, exchanges for HTTP."""

    def __init__(self) -> None:
        self._calls: Counter[Endpoint] = Counter()

    def of(self, endpoint: Endpoint) -> int:
        """Calls under way at this endpoint."""
        return self._calls[endpoint]

    @contextmanager
    def calling(self, endpoint: Endpoint) -> Iterator[None]:
        """Count one call for as long as the `with` block lasts."""
        self._calls[endpoint] += 1
        try:
            yield
        finally:
            self._calls[endpoint] -= 1
            if not self._calls[endpoint]:
                del self._calls[endpoint]


def choose(
    endpoints: Sequence[Endpoint],
    loads: Loads,
    *,
    tried: Collection[Endpoint] = (),
    draw: random.Random = random.SystemRandom(),  # noqa: B008  # stateless: one for all calls is right
) -> Endpoint | None:
    """The less loaded of two random endpoints that were not `tried` yet; None where all were."""
    left = [endpoint for endpoint in endpoints if endpoint not in tried]
    if len(left) > 2:
        left = draw.sample(left, 2)
    elif len(left) == 2:
        draw.shuffle(left)  # so that equal loads do not always mean the first
    return min(left, key=loads.of, default=None)
