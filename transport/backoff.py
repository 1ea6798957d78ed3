"""How long to wait before trying again: doubling, bounded, and jittered so that a fleet does not come back at once."""

import random

_random = random.SystemRandom()


class Backoff:
    """A wait that doubles from `initial` to `most` seconds, each drawn from the upper half of its range."""

    def __init__(self, initial: float, most: float) -> None:
        self._initial = initial
        self._most = most
        self._failures = 0

    def next(self) -> float:
        """Count one more failure and return the seconds to wait after it."""
        whole = min(self._most, self._initial * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return _random.uniform(whole / 2, whole)

    def reset(self) -> None:
        """It worked: the next failure waits `initial` again."""
        self._failures = 0
