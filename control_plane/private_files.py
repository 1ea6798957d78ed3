"""Files that nobody but their owner may read: checked before they are read, written whole.

What is laxer is refused rather than mended, since it may have been read already. A file is written to a temporary one,
synced, renamed, and the directory synced: whoever reads it sees the old content or the new.
"""

import os
import secrets
import stat
from pathlib import Path
from typing import Final

_TEMPORARY: Final = ".tmp"


class FileRefused(Exception):
    """A file or directory cannot be used. The message says why and what to do."""


def check_private(path: Path, status: os.stat_result, *, allowed: int) -> None:
    """Raises FileRefused where it belongs to another user or others may use it; `allowed` is the mode to advise."""
    if status.st_uid != os.geteuid():
        raise FileRefused(f"{path} belongs to user id {status.st_uid}, not to the one that runs this ({os.geteuid()})")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise FileRefused(
            f"{path} has mode {mode:04o}: others on this machine may use it. "
            f"If nobody has, run: chmod {allowed:o} {path}"
        )


def read(path: Path) -> bytes | None:
    """The content of a private file, None where there is none. Raises FileRefused."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileRefused(f"{path} cannot be read: {error}") from error
    with os.fdopen(descriptor, "rb") as file:
        check_private(path, os.fstat(descriptor), allowed=0o600)
        return file.read()


def write(directory: Path, name: str, content: bytes) -> None:
    """Replace a file, mode 0600. Raises OSError."""
    temporary = directory / f".{name}.{secrets.token_hex(4)}{_TEMPORARY}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.rename(directory / name)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(directory)


def is_temporary(path: Path) -> bool:
    """Whether a write that was cut off left this behind."""
    return path.name.startswith(".") and path.suffix == _TEMPORARY


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
