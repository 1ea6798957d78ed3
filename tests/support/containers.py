"""Containers without an engine: a program in a pod's network, with a root of its own, one user, and few capabilities.

The root is read-only and holds what an image of Doorward's would, in the places where this machine has it: Python, this
checkout and the system's programs; beside that only what is mounted. It is neither a process namespace of its own nor a
control group, and it filters no system calls.
"""

import sys
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Final

from attrs import Factory, frozen

from tests.support.namespaces import Pod
from tests.support.stock import program

CHECKOUT: Final = Path(__file__).parents[2]
SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
IMAGE: Final = {  # as the Dockerfile's ENV
    "PATH": f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}

# $1 is the root, $2 the working directory; then source, target and mode of each mount, a line between, and what to run.
_ENTER: Final = """
set -e
root=$1 directory=$2
shift 2
mount -t tmpfs -o mode=755 root "$root"
mkdir -p "$root$directory"
cp -a /etc "$root/etc" # not mounted: volumes find their places below it
for each in /proc /dev; do mkdir "$root$each"; mount --rbind "$each" "$root$each"; done
while [ "$1" != -- ]; do
  [ -e "$root$2" ] || mkdir -p "$root$2"
  mount --bind "$1" "$root$2"
  mount -o "remount,bind,$3" "$root$2"
  shift 3
done
shift
mount -o remount,ro "$root"
exec chroot "$root" "$@"
"""


@frozen
class Container:
    """What runs, as whom, where, and with what. `capabilities` are all that it has, without CAP_; `mounts` has the
    directories and files of this machine by their places in the container, `writable` those that it may write to."""

    command: Sequence[str]
    uid: int
    gid: int
    environment: Mapping[str, str] = Factory(dict)
    capabilities: Sequence[str] = ()
    mounts: Mapping[str, Path] = Factory(dict)
    writable: Mapping[str, Path] = Factory(dict)
    directory: str = "/"

    def entered_by(self, pid: int) -> list[str]:
        """The command line that runs it in the running container whose first process is `pid`."""
        inside = ["--net", "--mount", "--root", "--wd"]
        return [program("nsenter"), f"--target={pid}", *inside, "--", *self._as_the_user(), *self.command]

    def started_by(self, pod: Pod, root: Path) -> list[str]:
        """The command line that runs it in that pod; `root` is an empty directory, and stays so for all others."""
        read = [(str(source), place, "ro") for place, source in (_image() | self.mounts).items()]
        written = [(str(source), place, "rw") for place, source in self.writable.items()]
        # Parents first, as a kubelet mounts: this checkout may lie below /tmp, which is a volume's.
        mounts = [word for mount in sorted([*read, *written], key=itemgetter(1)) for word in mount]
        network = [
            program("nsenter"),
            f"--net={pod.path}",
            "--",
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--",
        ]
        return [
            *network,
            "sh",
            "-c",
            _ENTER,
            "sh",
            str(root),
            self.directory,
            *mounts,
            "--",
            *self._as_the_user(),
            *self.command,
        ]

    def _as_the_user(self) -> list[str]:
        allowed = ",".join(["-all", *(f"+{each.lower()}" for each in self.capabilities)])
        user = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--no-new-privs"]
        variables = [f"{name}={value}" for name, value in (IMAGE | dict(self.environment)).items()]
        capable = [f"--bounding-set={allowed}", f"--inh-caps={allowed}", "--"]
        return [*user, *capable, "env", "-i", f"--chdir={self.directory}", *variables]


def _image() -> dict[str, Path]:
    """What the root holds, each thing once: a mount brings all below it."""
    found: dict[str, Path] = {}
    for place in map(Path, [*SYSTEM, str(CHECKOUT), sys.base_prefix, sys.prefix]):
        if place.exists() and not any(place.is_relative_to(other) for other in found):
            found[str(place)] = place
    return found
