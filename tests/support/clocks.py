"""Wrong clocks for real processes, by libfaketime: the wall clock is moved, the monotonic one is not.

The offset is read from a file at every look at the clock, so that a test can move a clock while a process runs.
"""

import os
from pathlib import Path

from attrs import frozen

from examples.demo.local_mesh import Place
from tests.support.stock import program


@frozen
class WrongClock:
    """The clock of the processes that are started at `place`."""

    file: Path

    def move(self, seconds: float) -> None:
        """From now on the clock is ahead by so many seconds; behind, where negative."""
        draft = self.file.with_suffix(".new")
        draft.write_text(f"{seconds:+g}s\n")
        draft.replace(self.file)

    @property
    def place(self) -> Place:
        """Where a process has this clock. Skips the test where libfaketime is missing."""
        library = Path(program("faketime")).resolve().parent.parent / "lib"
        found = sorted(library.glob("*/faketime/libfaketime.so.1")) or sorted(library.glob("faketime/libfaketime.so.1"))
        settings = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }
        return Place(("env", *(f"{name}={value}" for name, value in settings.items())))


def wrong_clock(directory: Path, seconds: float = 0) -> WrongClock:
    """A clock that a test can move, kept in the directory."""
    clock = WrongClock(directory / f"clock-{os.urandom(4).hex()}")
    clock.move(seconds)
    return clock
