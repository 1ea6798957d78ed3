"""The state directory: one place, one owner, one process (law 23).

    doorward.json   the marker: this directory is ours, and of which trust domain
    lock            held with flock while a control plane runs
    store.db        the store
    admin.sock      the admin API
    and the files that the authority keeps, by `file`, `read` and `write`

The directory is 0700 and every file 0600; what is laxer is refused. Files are read and written by private_files.
"""

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from certs.errors import SpiffeIdMalformed
from certs.spiffe import TrustDomain
from control_plane import private_files
from control_plane.private_files import FileRefused

DEFAULT_TRUST_DOMAIN: Final = "cluster.local"

STORE_FILE: Final = "store.db"
_MARKER: Final = "doorward.json"
_LOCK: Final = "lock"
_FORMAT: Final = 1


class StateRefused(Exception):
    """The state directory cannot be used. The message says why and what to do."""


class State:
    """An open state directory, locked until it is closed; use it as a context manager."""

    def __init__(self, path: Path, trust_domain: TrustDomain, lock: int) -> None:
        self.path = path
        self.trust_domain = trust_domain
        self._lock: int | None = lock

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, trust_domain: str | None = None) -> Self:
        """Lock the directory at `path`, making it where there is none.

        `trust_domain` None means: as before, or `cluster.local` in a new directory. Raises StateRefused for a
        directory that is open to others, is not ours, is in use, or belongs to another trust domain.
        """
        directory = Path(path).absolute()
        wanted = _trust_domain(trust_domain) if trust_domain is not None else None
        try:
            _prepare(directory)
            lock = _take_lock(directory)
            try:
                return cls(directory, _settle(directory, wanted), lock)
            except BaseException:
                os.close(lock)
                raise
        except FileRefused as error:
            raise StateRefused(str(error)) from None
        except OSError as error:
            raise StateRefused(f"the state directory {directory} cannot be used: {error}") from error

    def close(self) -> None:
        """Let go of the lock. Closing twice does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def store_url(self) -> str:
        """The URL of the embedded store."""
        return f"sqlite:///{self.file(STORE_FILE)}"

    @property
    def admin_socket(self) -> Path:
        """Where the admin API listens."""
        return self.file("admin.sock")

    def file(self, name: str) -> Path:
        """The path of the file called `name` in this directory."""
        return self.path / name

    def require(self, name: str) -> None:
        """Raises StateRefused where a file that was written is gone, or empty: a new one would forget everything."""
        try:
            there = self.file(name).stat().st_size > 0
        except OSError:
            there = False
        if not there:
            raise StateRefused(
                f"{self.file(name)} is missing or empty though this directory has been used: "
                "bring it back from a backup, or choose an empty directory"
            )

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None where there is none. Raises StateRefused where others may read it."""
        try:
            return private_files.read(self.file(name))
        except FileRefused as error:
            raise StateRefused(str(error)) from None

    def write(self, name: str, content: bytes) -> None:
        """Replace a file, mode 0600: whoever reads it sees the old content or the new. Raises StateRefused."""
        try:
            private_files.write(self.path, name, content)
        except OSError as error:
            raise StateRefused(f"{self.file(name)} cannot be written: {error}") from error


def _trust_domain(name: str) -> TrustDomain:
    try:
        return TrustDomain(name)
    except SpiffeIdMalformed as error:
        raise StateRefused(str(error)) from None


def _prepare(directory: Path) -> None:
    """Make the directory, or check that it is private and ours, before anything in it is touched."""
    if "?" in str(directory):
        raise StateRefused(f"{directory}: a '?' cannot stand in the path of a state directory; choose another path")
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not directory.is_dir():
            raise StateRefused(f"{directory} is not a directory; choose another path for the state") from None
    private_files.check_private(directory, directory.stat(), allowed=0o700)
    foreign = [path.name for path in directory.iterdir() if path.name != _LOCK and not private_files.is_temporary(path)]
    if foreign and _MARKER not in foreign:
        raise StateRefused(
            f"{directory} holds other things ({min(foreign)}) and no {_MARKER}: it is no state directory of Doorward. "
            "Choose an empty or a new directory"
        )


def _take_lock(directory: Path) -> int:
    lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise StateRefused(
            f"{directory} is in use by another control plane (process {holder}): "
            "stop that one or choose another directory"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode("ascii"), 0)
    return lock


def _settle(directory: Path, wanted: TrustDomain | None) -> TrustDomain:
    """The directory's trust domain: read from its marker, or written there once and for all."""
    for leftover in filter(private_files.is_temporary, directory.iterdir()):
        leftover.unlink()
    content = private_files.read(directory / _MARKER)
    if content is None:
        chosen = wanted or TrustDomain(DEFAULT_TRUST_DOMAIN)
        private_files.write(
            directory, _MARKER, json.dumps({"format": _FORMAT, "trust_domain": chosen.name}).encode("ascii")
        )
        return chosen
    settled = _read_marker(directory / _MARKER, content)
    if wanted not in (None, settled):
        raise StateRefused(
            f"{directory} belongs to the trust domain {settled}, not {wanted}: "
            "leave out the trust domain or choose another directory"
        )
    return settled


def _read_marker(path: Path, content: bytes) -> TrustDomain:
    try:
        marker = json.loads(content)
        if marker["format"] != _FORMAT:
            raise StateRefused(f"{path} is of format {marker['format']}: a newer Doorward wrote it; run that one")
        return TrustDomain(marker["trust_domain"])
    except (ValueError, KeyError, TypeError) as error:
        raise StateRefused(f"{path} is damaged ({error}): bring it back from a backup") from None
