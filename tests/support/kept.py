"""What takes minutes to make is made once and kept in `~/.cache/doorward/`, in a directory of its own, whole or not at
all: a name says what versions are in it.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

KEPT = Path.home() / ".cache" / "doorward"


class CannotMake(Exception):
    """Something to keep cannot be made here. The text says what to do."""


def make_place() -> None:
    """Make where things are kept, if it is not there. Raises CannotMake."""
    with _writing():
        KEPT.mkdir(parents=True, exist_ok=True)


def keep(name: str, make: Callable[[Path], None]) -> Path:
    """Fill the empty directory that `make` is given, keep it as `name` in place of what was there, and return it.

    Whatever interrupts it, the old one or none is left. Raises CannotMake, and what `make` raises.
    """
    target = KEPT / name
    make_place()
    with _writing():
        making = tempfile.TemporaryDirectory(dir=KEPT, prefix="making-")
    with making as scratch:
        made = Path(scratch) / name
        made.mkdir()
        make(made)
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    return target


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotMake(
            f"{KEPT} cannot be written to: {error.strerror}. "
            "Give each target that needs it another home, as in HOME=DIR make kubernetes-assets"
        ) from error
