"""Which endpoint to call: the less loaded of two that were drawn at random.

It needs little state, spreads as well as knowing every load, and does not send a herd of sidecars to the same idle
endpoint (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"). An endpoint that could not be reached
comes last for a while: with no calls under way it would otherwise always look like the best.
"""

import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from mesh.wire import Endpoint

AVOID_SECONDS: Final = 5.0  # after a failed dial; then one call tries it again while all others still go elsewhere
FORGET_SECONDS: Final = 60.0


class Loads:
    """Calls under way per endpoint: connections for TCP, exchanges for HTTP. And who could not be reached lately."""

    def __init__(self) -> None:
        self._calls: Counter[Endpoint] = Counter()
        self._avoided: dict[Endpoint, float] = {}  # until when, by trio's clock

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

    def reached(self, endpoint: Endpoint) -> None:
        """A connection stands: the endpoint is as good as any other."""
        self._avoided.pop(endpoint, None)

    def failed(self, endpoint: Endpoint) -> None:
        """It could not be reached: others come first for AVOID_SECONDS."""
        now = trio.current_time()
        self._avoided[endpoint] = now + AVOID_SECONDS
        # Whoever was not even chosen for so long is gone, or one of very many: no harm in forgetting it.
        self._avoided = {each: until for each, until in self._avoided.items() if until > now - FORGET_SECONDS}

    def avoided(self) -> set[Endpoint]:
        """Before which all others come now; hardly ever any."""
        return {endpoint for endpoint, until in self._avoided.items() if trio.current_time() < until}

    def on_trial(self, endpoint: Endpoint) -> None:
        """It was chosen: where its time has just come, nobody else tries it meanwhile."""
        if endpoint in self._avoided:
            self.failed(endpoint)


def choose(
    endpoints: Sequence[Endpoint],
    loads: Loads,
    *,
    tried: Collection[Endpoint] = (),
    draw: random.Random = random.SystemRandom(),  # noqa: B008  # stateless: one for all calls is right
) -> Endpoint | None:
    """The less loaded of two random endpoints that were not `tried` yet; None where all were.

    Those that are avoided have their turn where no other is left.
    """
    left = [endpoint for endpoint in endpoints if endpoint not in tried]
    if avoided := loads.avoided():  # to look each endpoint up would cost more than all the rest, at every request
        left = [endpoint for endpoint in left if endpoint not in avoided] or left
    if len(left) > 2:
        left = draw.sample(left, 2)
    elif len(left) == 2:
        draw.shuffle(left)  # so that equal loads do not always mean the first
    chosen = min(left, key=loads.of, default=None)
    if chosen is not None:
        loads.on_trial(chosen)
    return chosen
