"""Small disks that can be full or read-only, for the faults that a disk has."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import frozen

from tests.support.stock import missing

BLOCK = 4096


@frozen
class Disk:
    """A file system of a few megabytes in memory."""

    path: Path

    def fill(self) -> None:
        """Leave no room at all."""
        with (self.path / "filler").open("wb", buffering=0) as file, suppress(OSError):  # ENOSPC
            while file.write(b"x" * BLOCK):
                pass

    def make_room(self) -> None:
        """Take back what `fill` took."""
        (self.path / "filler").unlink()

    def make_read_only(self) -> None:
        """Nobody may have a file of it open for writing."""
        subprocess.run(["mount", "-o", "remount,ro", str(self.path)], check=True)


@contextmanager
def small_disk(path: Path, megabytes: int = 4) -> Iterator[Disk]:
    """Mount one at a new directory, mode 0700, for the `with` block. Skips the test where this user may not mount."""
    if os.geteuid() != 0:
        missing("mounting a small disk needs root: sudo make test-slow, or .ci/run")
    path.mkdir(mode=0o700)
    options = f"size={megabytes}m,mode=0700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounted.returncode:
        missing(f"mounting a small disk is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
