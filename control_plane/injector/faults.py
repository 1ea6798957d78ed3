"""What is wrong with a pod, or with the injector's settings: every fault at once, each with its place."""

from attrs import frozen

MAX_SHOWN = 120
"""Characters of a wrong value in a message."""


@frozen
class Fault:
    """One thing that is wrong. `path` is its place, such as `metadata.annotations[doorward.dev/ports]`."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def shown(value: object) -> str:
    """A wrong value as a message quotes it."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
