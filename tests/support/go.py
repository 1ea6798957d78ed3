"""A Go that is new enough for the modules which the Kubernetes tests are built from.

It is this machine's, or a newer one that any Go since 1.13 fetches as what it is published as: the module
golang.org/toolchain, whose hash Go compares with its checksum database. So Debian's own, which is older, will do.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.support.kept import KEPT, CannotMake, keep


def go_for(module: Path) -> str:
    """The path of a Go that can build the module in this directory. Raises CannotMake."""
    wanted = _said(r"^toolchain (go\S+)$", (module / "go.mod").read_text())
    go = shutil.which("go")
    if go is None:
        raise CannotMake("Go is not installed: apt-get install golang-go; a newer one than Debian's is then fetched")
    if _is_new_enough(go, module):
        return go
    if not (KEPT / wanted).exists():
        keep(wanted, lambda into: _fetch(go, wanted, into))
    return str(KEPT / wanted / "bin" / "go")


def _is_new_enough(go: str, module: Path) -> bool:
    """Since 1.21 a Go that is older than go.mod asks for fetches a newer one by itself, or refuses to run."""
    asked = _said(r"^go (\S+)$", (module / "go.mod").read_text())
    done = subprocess.run([go, "version"], cwd=module, capture_output=True, text=True, check=False)
    return done.returncode == 0 and _numbers(_said(r"version go(\S+)", done.stdout)) >= _numbers(asked)


def _fetch(go: str, wanted: str, into: Path) -> None:
    modules = into / "modules"
    environment = {**os.environ, "GOMODCACHE": str(modules), "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local"}
    platform = _run([go, "env", "GOOS", "GOARCH"], into, environment).split()
    version = f"golang.org/toolchain@v0.0.1-{wanted}.{'-'.join(platform)}"
    fetched = Path(json.loads(_run([go, "mod", "download", "-json", version], into, environment))["Dir"])
    for each in fetched.iterdir():
        each.rename(into / each.name)
    for directory in (into / "bin", into / "pkg" / "tool"):
        for each in directory.rglob("*"):
            each.chmod(0o755)  # modules carry no modes
    shutil.rmtree(modules)


def _run(command: list[str], directory: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotMake(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _said(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    assert found is not None, (pattern, text)
    return found[1]


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
