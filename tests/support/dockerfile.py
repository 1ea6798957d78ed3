"""The steps of a Dockerfile, done in root file systems of plain Debian: an image without a container engine.

    image = build(Path("Dockerfile"), ["sidecar"], work=directory)["sidecar"]   # image.root holds the image's files
    image.run("doorward-sidecar", "--help")                                     # as its USER says; no shell, read-only

`FROM debian:12-slim` is a root file system made with debootstrap (minbase), which is made once and kept in
~/.cache/doorward. RUN goes through /bin/sh in a chroot with mount and process namespaces of its own, so that nothing
stays behind; COPY copies from the checkout or from another stage. Needs root.
"""

import json
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from attrs import define, evolve, field
from dockerfile_parse import DockerfileParser

from tests.support.kept import KEPT, keep
from tests.support.stock import program

CHECKOUT = Path(__file__).parents[2]
DEBIAN = {"debian:12-slim": "bookworm"}
STEP_SECONDS = 600

# What this machine trusts, as a build argument would bring it: it may reach PyPI through a proxy of its own.
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
BUILD_ENVIRONMENT = {"PIP_CERT": "/run/ca.crt", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}

_BUILD = f"""
mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && mount -t tmpfs tmpfs "$1/run"
cp /etc/resolv.conf "$1/etc/resolv.conf"; cp {CERTIFICATES} "$1/run/ca.crt"
"""
_RUN = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && cd "$1"
mount -t proc proc proc && mount --rbind /dev dev && mount -t tmpfs tmpfs tmp
for shell in sh bash dash; do mount --bind /dev/null "usr/bin/$shell"; done
"""


@define
class Image:
    """A root file system, and what the instructions said about how programs run in it."""

    root: Path
    environment: dict[str, str] = field(factory=dict)
    user: str = "0:0"
    workdir: str = "/"
    entrypoint: list[str] = field(factory=list)
    command: list[str] = field(factory=list)

    def copy_to(self, root: Path) -> Self:
        """The same image with files of its own."""
        _call(["cp", "--archive", "--reflink=auto", str(self.root), str(root)])
        return evolve(self, root=root, environment=dict(self.environment))

    def argv(
        self, argv: Sequence[str], *, user: str | None = None, mounts: Mapping[Path, str] | None = None
    ) -> list[str]:
        """The command line that runs `argv` in here as a container engine would, with a read-only root and no shell.

        `user` replaces the image's own; `mounts` are directories of this machine and where they stand, writable.
        """
        binds = []
        for source, target in (mounts or {}).items():
            place = self.root / target.lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            binds.append(f"mount --bind {shlex.quote(str(source))} {shlex.quote(str(place))}\n")
        return [*_entering(self.root, _RUN + "".join(binds)), *self._chroot(user or self.user, self.environment), *argv]

    def run(self, *argv: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program in here to its end, whatever its exit code."""
        return subprocess.run(
            self.argv(argv, user=user),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def step(self, command: str) -> None:
        """RUN: a shell command that changes the files. Raises AssertionError with what it said."""
        environment = {**BUILD_ENVIRONMENT, **self.environment}
        inside = f"cd {shlex.quote(self.workdir)} && {command}"
        _call([*_entering(self.root, _BUILD), *self._chroot("0:0", environment), "/bin/sh", "-ec", inside])

    def _chroot(self, user: str, environment: Mapping[str, str]) -> list[str]:
        variables = [f"{name}={value}" for name, value in environment.items()]
        return [program("chroot"), f"--userspec={user}", str(self.root), "/usr/bin/env", "-i", *variables]


def build(dockerfile: Path, targets: Iterable[str], work: Path) -> dict[str, Image]:
    """Do the steps of `dockerfile` that lead to the stages `targets`, in directories below `work`.

    Returns every stage that was made, by name. Raises AssertionError.
    """
    with dockerfile.open("rb") as file:
        steps = [(each["instruction"], each["value"]) for each in DockerfileParser(fileobj=file).structure]
    wanted = _needed(steps, targets)
    stages: dict[str, Image] = {}
    name = ""
    for instruction, value in steps:
        if instruction == "FROM":
            base, _, name = value.partition(" AS ")
            if name in wanted:
                stages[name] = (stages[base] if base in stages else _debian(base)).copy_to(work / name)
        elif name in wanted and instruction != "COMMENT":
            _do(stages[name], instruction, value, stages)
    return stages


def _needed(steps: Sequence[tuple[str, str]], targets: Iterable[str]) -> set[str]:
    """The stages that `targets` are made from, themselves included."""
    uses: dict[str, set[str]] = {}
    name = ""
    for instruction, value in steps:
        if instruction == "FROM":
            base, _, name = value.partition(" AS ")
            uses[name] = {base}
        elif instruction == "COPY" and value.startswith("--from="):
            uses[name].add(value.split()[0].removeprefix("--from="))
    needed, new = set[str](), set(targets)
    while new:
        needed |= new
        new = {each for stage in new for each in uses.get(stage, ()) if each in uses} - needed
    return needed


def _do(image: Image, instruction: str, value: str, stages: Mapping[str, Image]) -> None:
    match instruction:
        case "RUN":
            image.step(value)
        case "COPY":
            _copy(image, shlex.split(value), stages)
        case "ENV":
            image.environment |= dict(each.split("=", 1) for each in shlex.split(value))
        case "WORKDIR":
            image.workdir = value
            _inside(image, value).mkdir(parents=True, exist_ok=True)
        case "USER":
            image.user = value
        case "ENTRYPOINT":
            image.entrypoint, image.command = json.loads(value), []
        case "CMD":
            image.command = json.loads(value)
        case "LABEL":
            pass
        case _:
            raise AssertionError(f"this test does not know the instruction {instruction}: teach it")


def _copy(image: Image, words: list[str], stages: Mapping[str, Image]) -> None:
    """COPY: files into a directory, or the content of a directory to one of that name."""
    source = CHECKOUT
    if words[0].startswith("--from="):
        source = stages[words.pop(0).removeprefix("--from=")].root
    *names, target = words
    place = _inside(image, target)
    for name in names:
        found = source / name.lstrip("/")
        (place if found.is_dir() else place.parent if not target.endswith("/") else place).mkdir(
            parents=True, exist_ok=True
        )
        _call(["cp", "--archive", f"{found}/." if found.is_dir() else str(found), str(place)])


def _inside(image: Image, path: str) -> Path:
    return image.root / str(Path(image.workdir) / path).lstrip("/")


def _debian(name: str) -> Image:
    """The base image: debootstrap's smallest Debian, from the cache where it was made before."""
    suite = DEBIAN[name]
    base = f"debian-{suite}-minbase"
    if not (KEPT / base).is_dir():
        keep(base, lambda into: _call([program("debootstrap"), "--variant=minbase", suite, str(into)]))
    return Image(KEPT / base)


def _entering(root: Path, mounts: str) -> list[str]:
    """A prefix that runs a command in mount and process namespaces of its own, after `mounts` were made there."""
    script = f'set -e\n{mounts}\nshift; exec "$@"'
    return [program("unshare"), "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh", str(root)]


def _call(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=STEP_SECONDS, check=False)
    assert done.returncode == 0, f"{shlex.join(argv)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
