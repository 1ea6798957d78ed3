"""Listening on a Unix socket that only its owner can open, without stealing it from a living process (laws 22, 23)."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

from transport.accept import BACKLOG


class SocketTaken(OSError):
    """The path is in use, or is not ours to replace. The message says what to do."""


@contextmanager
def unix_listener(path: Path) -> Iterator[trio.SocketListener]:
    """Listen on `path`, mode 0600, for as long as the `with` block lasts; then remove what was made.

    A socket that a dead process of the same user left behind is replaced. Raises SocketTaken for anything else that
    stands there, OSError where the directory does not allow it.
    """
    _make_room(path)
    listening = _listen(path)
    made = path.lstat().st_ino
    sock = trio.socket.from_stdlib_socket(listening)
    try:
        yield trio.SocketListener(sock)
    finally:
        sock.close()
        with suppress(OSError):
            if path.lstat().st_ino == made:
                path.unlink()


def _listen(path: Path) -> socket.socket:
    """Bind and listen. The umask is the process's, so nothing here waits and no other task can see it."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    finally:
        os.umask(before)
    return listening


def _make_room(path: Path) -> None:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(there.st_mode):
        raise SocketTaken(f"{path} exists and is no socket: choose another path, or remove it yourself")
    if there.st_uid != os.geteuid():
        raise SocketTaken(f"{path} belongs to another user: choose another path")
    if _alive(path):
        raise SocketTaken(f"{path} is in use by a running process: stop it, or choose another path")
    path.unlink()


def _alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # a full backlog, no permission: somebody may be there
    return True
