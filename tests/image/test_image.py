"""The images, as the Dockerfile makes them: nobody's root, nothing written, no shell, and a mesh that works."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from image.sbom import bill_of_materials
from tests.support.dockerfile import CHECKOUT, Image

DEADLINE = 60.0


def test_the_sidecar_runs_as_a_user_of_its_own_and_cannot_write(sidecar: Image) -> None:
    said = sidecar.run("python3", "-c", "import os; print(os.getuid(), os.getgid(), os.getgroups()); open('/x', 'w')")
    assert said.stdout == "1337 1337 []\n"
    assert "Read-only file system" in said.stderr


def test_the_control_plane_runs_as_a_user_of_its_own(control_plane: Image) -> None:
    assert control_plane.run("python3", "-c", "import os; print(os.getuid(), os.getgid())").stdout == "10001 10001\n"


def test_nothing_needs_a_shell(sidecar: Image, control_plane: Image) -> None:
    assert sidecar.run("sh", "-c", "true").returncode == 126  # it is hidden here, so the rest proves what it says
    assert sidecar.run(*sidecar.entrypoint, "--version").stdout == f"doorward-sidecar {version('doorward')}\n"
    assert control_plane.run(*control_plane.entrypoint, "--version").returncode == 0
    assert "--state" in control_plane.run(*control_plane.entrypoint, *control_plane.command, "--help").stdout


def test_the_sidecar_carries_nothing_of_the_control_plane_and_neither_carries_pip(
    sidecar: Image, control_plane: Image
) -> None:
    for module in ("click", "sqlalchemy", "httpx2", "yaml", "pip"):
        assert sidecar.run("/opt/doorward/bin/python", "-c", f"import {module}").returncode == 1, module
    assert control_plane.run("/opt/doorward/bin/python", "-c", "import pip").returncode == 1
    assert control_plane.run("/opt/doorward/bin/python", "-c", "import click, sqlalchemy").returncode == 0


def test_the_redirect_container_installs_its_rules_with_one_capability(sidecar: Image) -> None:
    with_net_admin = ("/usr/bin/setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all", "--no-new-privs", "--")
    argv = sidecar.argv([*with_net_admin, "doorward-sidecar", "redirect", "--install"], user="0:0")
    done = subprocess.run(["unshare", "--net", *argv], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "captured: TCP from outside the pod, IPv4 and IPv6, goes to port 15006" in done.stdout + done.stderr


def test_a_control_plane_and_a_sidecar_from_the_images_make_a_mesh(
    sidecar: Image, control_plane: Image, work: Path
) -> None:
    state, shared = work / "state", work / "shared"
    for directory, user in ((state, 10001), (shared, 1337)):
        directory.mkdir(mode=0o700)
        os.chown(directory, user, user)
    mounts = {state: "/var/lib/doorward"}
    options = ("--state", "/var/lib/doorward/state", "--listen", "127.0.0.1:0", "--observe", "127.0.0.1:0")
    with _running(control_plane, options, mounts):
        running = _eventually(lambda: json.loads((state / "state/run.json").read_text()))
        given = {"token": ("token", "create", "--workload", "shop/web"), "bundle.pem": ("bundle", "show")}
        for file, command in given.items():
            said = _doorward(control_plane, mounts, *command)
            (shared / file).write_text(said)
            os.chown(shared / file, 1337, 1337)
        where = ("--workload", "shop/web", "--control-plane", running["listen"], "--observe", "127.0.0.1:0")
        files = ("--token-file", "/run/doorward/token", "--bundle", "/run/doorward/bundle.pem")
        with _running(sidecar, (*where, *files, "--run-file", "/run/doorward/run.json"), {shared: "/run/doorward"}):
            observe = _eventually(lambda: json.loads((shared / "run.json").read_text()))["observe"]
            _eventually(lambda: urllib.request.urlopen(f"http://{observe}/ready", timeout=5).read())
            connected = json.loads(_doorward(control_plane, mounts, "sidecars", "-o", "json"))
    assert "spiffe://cluster.local/ns/shop/sa/web" in json.dumps(connected)


def test_the_bill_of_materials_names_what_the_lock_pins_and_debian_installed(control_plane: Image) -> None:
    bill = json.loads(bill_of_materials(control_plane.root))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    found = {each["purl"].partition("?")[0] for each in bill["components"]}
    pinned = _pinned(CHECKOUT / "image" / "control-plane.lock")
    assert {f"pkg:pypi/{name}@{of}" for name, of in pinned.items()} <= found
    assert f"pkg:pypi/doorward@{version('doorward')}" in found
    assert any(each.startswith("pkg:deb/debian/libc6@") for each in found)


@contextmanager
def _running(image: Image, options: tuple[str, ...], mounts: Mapping[Path, str]) -> Iterator[None]:
    argv = image.argv([*image.entrypoint, *image.command, *options], mounts=mounts)
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # unshare's --kill-child does not outlast a change of user


def _doorward(image: Image, mounts: Mapping[Path, str], *command: str) -> str:
    argv = image.argv(["doorward", "--admin", "/var/lib/doorward/state/admin.sock", *command], mounts=mounts)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _eventually(question: Callable[[], Any]) -> Any:
    """What `question` answers, once it does so without an error."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            return question()
        except (OSError, ValueError, urllib.error.URLError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def _pinned(lock: Path) -> dict[str, str]:
    """What the lock installs on a machine such as this: names and versions."""
    lines = [Requirement(line.rstrip(" \\")) for line in lock.read_text().splitlines() if line[:1].isalnum()]
    return {
        each.name: str(each.specifier).removeprefix("==")
        for each in lines
        if each.marker is None or each.marker.evaluate()
    }
