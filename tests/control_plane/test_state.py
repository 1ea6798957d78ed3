"""The state directory (law 23): private, ours, of one trust domain, and used by one process."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from certs.spiffe import TrustDomain
from control_plane.state import State, StateRefused


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_directory_is_made_private_with_its_marker(directory: Path) -> None:
    with State.open(directory / "deeper") as state:
        assert state.trust_domain == TrustDomain("cluster.local")
        assert mode(state.path) == 0o700
        assert {path.name: mode(path) for path in state.path.iterdir()} == {"doorward.json": 0o600, "lock": 0o600}


def test_the_umask_does_not_decide_who_may_read(directory: Path) -> None:
    before = os.umask(0)
    try:
        with State.open(directory) as state:
            state.write("root.key", b"secret")
    finally:
        os.umask(before)
    assert {mode(path) for path in directory.iterdir()} == {0o600}
    assert mode(directory) == 0o700


def test_the_trust_domain_is_settled_once(directory: Path) -> None:
    State.open(directory, trust_domain="example.org").close()
    with State.open(directory) as state:
        assert state.trust_domain == TrustDomain("example.org")
    with pytest.raises(StateRefused, match=r"belongs to the trust domain example\.org, not other\.example"):
        State.open(directory, trust_domain="other.example")
    State.open(directory, trust_domain="example.org").close()


def test_a_malformed_trust_domain_is_refused_before_anything_is_made(directory: Path) -> None:
    with pytest.raises(StateRefused, match="trust domain 'No Good'"):
        State.open(directory, trust_domain="No Good")
    assert not directory.exists()


def test_an_empty_private_directory_is_taken(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    State.open(directory).close()


@pytest.mark.parametrize("lax", [0o755, 0o770, 0o701, 0o710])
def test_a_directory_that_others_may_use_is_refused_with_advice(directory: Path, lax: int) -> None:
    State.open(directory).close()
    directory.chmod(lax)
    with pytest.raises(StateRefused, match=rf"has mode {lax:04o}.*chmod 700"):
        State.open(directory)


def test_a_foreign_directory_is_refused_and_left_alone(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    (directory / "thesis.tex").write_text("x")
    with pytest.raises(StateRefused, match=r"holds other things \(thesis\.tex\)"):
        State.open(directory)
    assert [path.name for path in directory.iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_directory_is_refused(directory: Path) -> None:
    directory.write_text("x")
    with pytest.raises(StateRefused, match="is not a directory"):
        State.open(directory)


def test_a_directory_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(StateRefused, match="cannot be used"):
        State.open("/proc/nowhere/state")


def test_a_path_that_a_url_cannot_carry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateRefused, match="choose another path"):
        State.open(tmp_path / "what?")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"format": 1}', "is damaged"),
        (b'{"format": 1, "trust_domain": "A B"}', "is damaged"),
        (b'{"format": 2, "trust_domain": "cluster.local"}', "a newer Doorward"),
    ],
)
def test_a_marker_that_cannot_be_understood_is_refused(directory: Path, content: bytes, words: str) -> None:
    with State.open(directory) as state:
        state.write("doorward.json", content)
    with pytest.raises(StateRefused, match=words):
        State.open(directory)


def test_a_second_control_plane_is_refused_and_told_who_has_it(directory: Path) -> None:
    with State.open(directory), pytest.raises(StateRefused, match=rf"in use.*process {os.getpid()}"):
        State.open(directory)
    State.open(directory).close()


def test_the_lock_dies_with_its_process(directory: Path) -> None:
    program = (
        "import sys, time; from control_plane.state import State; "
        f"state = State.open({str(directory)!r}); print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(StateRefused, match=f"process {process.pid}"):
            State.open(directory)
        process.send_signal(signal.SIGKILL)
    State.open(directory).close()


def test_a_file_is_written_whole_private_and_read_back(directory: Path) -> None:
    with State.open(directory) as state:
        state.write("root.key", b"one")
        state.write("root.key", b"two")
        assert state.read("root.key") == b"two"
        assert state.read("never") is None
        assert mode(state.file("root.key")) == 0o600
        assert {path.name for path in directory.iterdir()} == {"doorward.json", "lock", "root.key"}


def test_a_key_that_others_may_read_is_refused(directory: Path) -> None:
    with State.open(directory) as state:
        state.write("root.key", b"secret")
        state.file("root.key").chmod(0o640)
        with pytest.raises(StateRefused, match=r"root\.key has mode 0640.*chmod 600"):
            state.read("root.key")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with State.open(directory) as state:
        state.write("root.key", b"old")
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StateRefused, match="No space left"):
            state.write("root.key", b"new")
        assert state.read("root.key") == b"old"
        assert {path.name for path in directory.iterdir()} == {"doorward.json", "lock", "root.key"}


def test_what_a_killed_write_left_behind_is_swept_at_the_next_opening(directory: Path) -> None:
    State.open(directory).close()
    leftover = directory / ".root.key.0a1b2c3d.tmp"
    leftover.write_bytes(b"half a k")
    State.open(directory).close()
    assert not leftover.exists()


def test_a_first_run_that_was_killed_before_its_marker_is_taken_up(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    (directory / "lock").touch(mode=0o600)
    (directory / ".doorward.json.0a1b2c3d.tmp").write_bytes(b"{")
    State.open(directory, trust_domain="example.org").close()


def test_the_store_and_the_socket_lie_inside(directory: Path) -> None:
    with State.open(directory) as state:
        assert state.store_url == f"sqlite:///{directory}/store.db"
        assert state.admin_socket == directory / "admin.sock"
