"""How many examples a property test tries: `@examples(300)` is three times as many as the profile gives.

The profiles stand in tests/conftest.py: `make test` goes by "repeatable", whose measure is 100, and `make fuzz` by
"fuzz", which gives every test a multiple of what it says here.
"""

from hypothesis import settings

MEASURE = 100


def examples(count: int) -> settings:
    """A decorator: `count` examples under the profile of `make test`, and in proportion under any other."""
    return settings(max_examples=max(1, settings.default.max_examples * count // MEASURE))
