"""What takes minutes to make is made once and kept in `~/.cache/doorward/`, in a directory of its own, whole or not at
all: a name says what versions are in it.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

KEPT = Path.home() / ".cache" / "doorward"


class CannotMake(Exception):
    """Something to keep cannot be made here. The text says what to install."""


def keep(name: str, make: Callable[[Path], None]) -> Path:
    """Fill the empty directory that `make` is given, keep it as `name` in place of what was there, and return it.

    Whatever interrupts it, the old one or none is left. Raises what `make` raises.
    """
    target = KEPT / name
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT, prefix="making-") as scratch:
        made = Path(scratch) / name
        made.mkdir()
        make(made)
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    return target
