"""The state directory lies in a volume that the kubelet has opened to the pod's group (fsGroup)."""

import os
import stat
from pathlib import Path

from control_plane.state import State


def test_a_volume_with_fs_group_takes_a_private_state_directory_and_finds_it_again(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    os.chown(volume, -1, os.getgid())
    volume.chmod(0o2775)  # as k8s.io/kubernetes/pkg/volume/volume_linux.go leaves it
    for _ in range(2):
        with State.open(volume / "state") as state:
            state.write("file", b"kept")
            assert state.read("file") == b"kept"
    assert stat.S_IMODE((volume / "state").stat().st_mode) & 0o777 == 0o700
