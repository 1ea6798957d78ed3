"""The real kube-apiserver, etcd, kubectl and helm of the tests, built from Go modules once and kept.

    python -m tests.support.assets      build what is missing, and say where it is (`make kubernetes-assets`)

The first three are taken from `$KUBEBUILDER_ASSETS` or from `../shared/kubebuilder-assets` where there is one, as the
ecosystem's own tests do; else from `~/.cache/doorward/`, in a directory named after the versions that
tests/kubernetes/assets/go.mod asks for. Helm is always in the cache.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.go import go_for
from tests.support.kept import KEPT, CannotMake, keep, make_place

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "tests" / "kubernetes" / "assets"
ETCD = "go.etcd.io/etcd/server/v3"
HELM = "v3.22.0"
PROGRAMS = ("etcd", "kube-apiserver", "kubectl")


def asset(name: str) -> Path:
    """Where the program is, or would be if it were built."""
    return (_helm() if name == "helm" else _kubernetes()) / name


def build(say: Callable[[str], None] = print) -> None:
    """Build what is missing. Raises CannotMake."""
    make_place()
    kubernetes, helm = _kubernetes(), _helm()
    missing = [name for name in PROGRAMS if not (kubernetes / name).exists()]
    if missing and kubernetes.parent != KEPT:
        raise CannotMake(f"{kubernetes} lacks {', '.join(missing)}: put them there, or unset KUBEBUILDER_ASSETS")
    if missing:
        say("building etcd, kube-apiserver and kubectl: some minutes, once")
        keep(kubernetes.name, _build_kubernetes)
    if not (helm / "helm").exists():
        say("building helm: a minute or two, once")
        keep(helm.name, _build_helm)
    say(f"{kubernetes}\n{helm}")


def _kubernetes() -> Path:
    if given := os.environ.get("KUBEBUILDER_ASSETS"):
        return Path(given)
    shared = ROOT.parent / "shared" / "kubebuilder-assets"
    return shared if shared.is_dir() else KEPT / f"kubernetes-{_version('k8s.io/kubernetes')}-etcd-{_version(ETCD)}"


def _helm() -> Path:
    return KEPT / f"helm-{HELM}"


def _version(module: str) -> str:
    """The version that go.mod asks for."""
    found = re.search(rf"^\s+{re.escape(module)} (v\S+)", (MODULE / "go.mod").read_text(), re.MULTILINE)
    assert found is not None, module
    return found[1]


def _build_kubernetes(into: Path) -> None:
    version = _version("k8s.io/kubernetes")
    major, minor, _ = version.removeprefix("v").split(".", 2)
    base = "k8s.io/component-base/version.git"
    said = f"-X {base}Version={version} -X {base}Major={major} -X {base}Minor={minor}"  # what /version answers
    for flags, package, output in (
        (said, "k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
        (said, "k8s.io/kubernetes/cmd/kubectl", "kubectl"),
        ("", ETCD, "etcd"),
    ):
        _go(["build", "-trimpath", "-ldflags", f"-s -w {flags}", "-o", str(into / output), package])


def _build_helm(into: Path) -> None:
    # As Helm's own Makefile says it: the Kubernetes that `helm template` has in mind where it is told of none.
    major, minor, _ = _version("k8s.io/kubernetes").removeprefix("v").split(".", 2)
    version = "helm.sh/helm/v3/pkg/chartutil.k8sVersion"
    said = f"-s -w -X {version}Major={major} -X {version}Minor={minor}"
    _go(["install", "-trimpath", "-ldflags", said, f"helm.sh/helm/v3/cmd/helm@{HELM}"], GOBIN=str(into))


def _go(arguments: list[str], **environment: str) -> None:
    done = subprocess.run(
        [go_for(MODULE), *arguments], cwd=MODULE, check=False, env={**os.environ, "CGO_ENABLED": "0", **environment}
    )
    if done.returncode:
        raise CannotMake(f"`go {arguments[0]}` failed: see above. A way to the module proxy is needed")


if __name__ == "__main__":
    try:
        build()
    except CannotMake as error:
        sys.exit(str(error))
