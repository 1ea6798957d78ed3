"""One listening Unix socket that only its owner can open, and that is never taken from somebody else (law 23).

A path that already exists is examined before it is touched: no socket, owned by another user, or answered by a living
process means refusal; only our own dead socket is replaced. A lock on the directory makes examine-and-bind one step,
so that two control planes cannot both find the same socket dead. The mode is set on the socket before it is bound:
there is no moment at which it is open to others, and no umask is changed under other threads.
"""

import fcntl
import os
import pwd
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import frozen

MAX_PATH_BYTES = 107  # sockaddr_un.sun_path of Linux, without its final NUL
BACKLOG = 64

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)


class SocketRefused(Exception):
    """The admin socket cannot be put there. The message says why and what to do."""


@frozen
class Caller:
    """Who is at the other end, as the kernel says: `author` is the user's name.

    It is `uid:<n>` for a user without a name, or with a colon in it, as some directories allow: that could be taken for
    an operator's.
    """

    pid: int
    uid: int
    author: str


def caller_of(credentials: bytes) -> Caller:
    """Read the answer to SO_PEERCRED."""
    pid, uid, _gid = _UCRED.unpack(credentials)
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    return Caller(pid, uid, name if name and ":" not in name else f"uid:{uid}")


def credentials_size() -> int:
    """How many bytes SO_PEERCRED answers."""
    return _UCRED.size


@frozen
class AdminSocket:
    """A listening socket, where it is, and what tells it from one that somebody else puts there later."""

    sock: socket.socket
    path: Path
    inode: int

    def remove(self) -> None:
        """Close it and take it away from its path, unless another one stands there by now."""
        self.sock.close()
        with suppress(OSError):
            if self.path.lstat().st_ino == self.inode:
                self.path.unlink()


def listen(path: Path) -> AdminSocket:
    """Listen at `path`, non-blocking, mode 0600. Raises SocketRefused."""
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise SocketRefused(f"the path of a Unix socket has at most {MAX_PATH_BYTES} bytes: {path}: use a shorter one")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        os.fchmod(sock.fileno(), 0o600)
        with _only_one(path.parent):
            _clear_the_way(path)
            sock.bind(os.fsencode(path))
            sock.listen(BACKLOG)
        inode = _check_mode(path)
    except OSError as error:
        sock.close()
        raise SocketRefused(f"cannot listen on the admin socket {path}: {error.strerror or error}") from error
    except SocketRefused:
        sock.close()
        raise
    return AdminSocket(sock, path, inode)


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _clear_the_way(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SocketRefused(f"{path} exists and is no socket: remove it, or choose another path")
    if found.st_uid != os.geteuid():
        raise SocketRefused(f"{path} belongs to another user: it is left alone; choose another path")
    if _answers(path):
        raise SocketRefused(f"another process answers on {path}: stop it, or choose another path")
    path.unlink()


def _answers(path: Path) -> bool:
    """Whether somebody listens there. A full queue (EAGAIN) is somebody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(os.fsencode(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            return True
    return True


def _check_mode(path: Path) -> int:
    """The inode of the socket that was made, once its mode is what it has to be."""
    made = path.lstat()
    mode = stat.S_IMODE(made.st_mode)
    if mode != 0o600:
        path.unlink()
        raise SocketRefused(f"{path} came to have mode {mode:04o}, not 0600: use a file system that keeps modes")
    return made.st_ino
