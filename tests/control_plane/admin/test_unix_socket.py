"""The admin socket is private, and nobody's socket is taken (law 23)."""

import os
import pwd
import socket
import stat
from pathlib import Path

import pytest

from control_plane.admin.unix_socket import MAX_PATH_BYTES, SocketRefused, caller_of, credentials_size, listen


@pytest.fixture
def path(short_directory: Path) -> Path:
    return short_directory / "admin.sock"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_socket_is_private_whatever_the_umask(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        admin = listen(path)
    finally:
        os.umask(before)
    assert mode_of(path) == 0o600
    admin.remove()


def test_a_living_socket_is_not_stolen(path: Path) -> None:
    first = listen(path)
    with pytest.raises(SocketRefused, match="another process answers"):
        listen(path)
    assert path.lstat().st_ino == first.inode
    first.remove()


def test_a_living_socket_with_a_full_queue_is_not_stolen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        waiting = []
        try:
            while True:
                one = socket.socket(socket.AF_UNIX)
                waiting.append(one)
                one.setblocking(False)
                one.connect(str(path))
        except BlockingIOError:
            pass
        with pytest.raises(SocketRefused, match="another process answers"):
            listen(path)
        for one in waiting:
            one.close()


def test_a_dead_socket_of_ours_is_replaced(path: Path) -> None:
    listen(path).sock.close()
    assert path.is_socket()
    admin = listen(path)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))
    admin.remove()


def test_what_is_no_socket_stays(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(SocketRefused, match="no socket"):
        listen(path)
    assert path.read_text() == "precious"


def test_a_link_to_a_socket_is_no_socket(path: Path, short_directory: Path) -> None:
    listen(short_directory / "other").sock.close()
    path.symlink_to(short_directory / "other")
    with pytest.raises(SocketRefused, match="no socket"):
        listen(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a socket of another user")
def test_a_dead_socket_of_another_user_is_left_alone(path: Path) -> None:
    listen(path).sock.close()
    os.chown(path, 12345, 12345)
    with pytest.raises(SocketRefused, match="another user"):
        listen(path)
    assert path.lstat().st_uid == 12345


def test_a_path_that_is_too_long_says_so(short_directory: Path) -> None:
    with pytest.raises(SocketRefused, match=f"at most {MAX_PATH_BYTES} bytes"):
        listen(short_directory / ("x" * MAX_PATH_BYTES))


def test_a_missing_directory_says_so(short_directory: Path) -> None:
    with pytest.raises(SocketRefused, match="No such file"):
        listen(short_directory / "nowhere" / "admin.sock")


def test_removing_leaves_the_socket_that_somebody_else_put_there(path: Path) -> None:
    ours = listen(path)
    path.rename(path.with_name("old"))
    theirs = listen(path)
    ours.remove()
    assert path.lstat().st_ino == theirs.inode
    theirs.remove()
    assert not path.exists()


def test_the_kernel_names_the_caller(path: Path) -> None:
    admin = listen(path)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))
        accepted, _ = admin.sock.accept()
        with accepted:
            found = caller_of(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials_size()))
    assert (found.pid, found.uid) == (os.getpid(), os.geteuid())
    admin.remove()


def test_a_user_without_a_name_is_called_by_number() -> None:
    assert caller_of((1).to_bytes(4, "little") + (54321).to_bytes(4, "little") + bytes(4)).author == "uid:54321"


def test_no_local_user_is_called_as_operators_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in a directory service may hold what /etc/passwd cannot."""
    entry = pwd.getpwuid(0)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd(("operator:ann", *entry[1:])))
    assert caller_of((1).to_bytes(4, "little") + (7).to_bytes(4, "little") + bytes(4)).author == "uid:7"
