"""A file that others may use is not read, and what is written is private from its first byte."""

import os
import stat
from pathlib import Path

import pytest

from control_plane import private_files
from control_plane.private_files import FileRefused


def test_what_is_written_is_private_and_whole(tmp_path: Path) -> None:
    private_files.write(tmp_path, "key", b"one")
    private_files.write(tmp_path, "key", b"two")
    assert private_files.read(tmp_path / "key") == b"two"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    private_files.write(tmp_path, "key", b"secret")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(FileRefused, match="chmod 600"):
        private_files.read(tmp_path / "key")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    private_files.write(tmp_path, "key", b"secret")
    os.chown(tmp_path / "key", 65534, -1)
    with pytest.raises(FileRefused, match="belongs to user id 65534"):
        private_files.read(tmp_path / "key")


def test_a_file_that_is_not_there_is_none_and_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert private_files.read(tmp_path / "missing") is None
    with pytest.raises(FileRefused, match="cannot be read"):
        private_files.read(tmp_path / ("missing" * 100))
