"""The charts of helm/, rendered and judged by the real Helm: values in, objects out."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from attrs import frozen

from tests.support.assets import ROOT, asset
from tests.support.stock import missing

CHART: Final = ROOT / "helm" / "doorward"
LIBRARY: Final = ROOT / "helm" / "doorward-sidecar"
EXAMPLE: Final = ROOT / "tests" / "helm" / "example"

NEWEST: Final = "1.37"
NATIVE: Final = tuple(f"1.{minor}" for minor in range(29, 38))
"""Versions of Kubernetes with native sidecars that the charts support."""
CLASSIC: Final = tuple(f"1.{minor}" for minor in range(25, 29))
"""Older ones, with a classic container."""

Values = Mapping[str, Any]


class HelmRefused(Exception):
    """Helm ended with an error; the text is what it said."""


@frozen
class Rendered:
    """What `helm template` gave."""

    objects: tuple[dict[str, Any], ...]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All objects of that kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, name: str = "doorward") -> dict[str, Any]:
        """The one object of that kind and name."""
        (found,) = [each for each in self.of(kind) if each["metadata"]["name"] == name]
        return found

    def pods(self) -> dict[str, dict[str, Any]]:
        """Every pod that would run, by the kind and name of what makes it."""
        found = {}
        for each in self.objects:
            if each["kind"] in ("Pod", "Deployment", "Job"):
                pod = each if each["kind"] == "Pod" else each["spec"]["template"]
                found[f"{each['kind']}/{each['metadata']['name']}"] = pod
        return found


def helm(*arguments: str) -> str:
    """What Helm says, without a cluster. Raises HelmRefused. Without Helm the test is skipped, and in CI it fails."""
    program = asset("helm")
    if not program.exists():
        missing("helm is not there: `make kubernetes-assets` builds it")
    with tempfile.TemporaryDirectory(prefix="dw-helm-") as home:
        done = subprocess.run(
            [program, *arguments], env={"HOME": home}, capture_output=True, text=True, check=False, timeout=300
        )
    if done.returncode:
        raise HelmRefused(done.stderr)
    return done.stdout


def values_file(directory: Path, values: Values) -> Path:
    """A file with those values: text and numbers stay what they are, as they would not by --set."""
    file = directory / "values.json"
    file.write_text(json.dumps(values))
    return file


def render(
    values: Values | None = None,
    *files: Path,
    chart: Path = CHART,
    kubernetes: str = NEWEST,
    namespace: str = "mesh",
) -> Rendered:
    """The chart with these values over those of the files. Raises HelmRefused."""
    with tempfile.TemporaryDirectory(prefix="dw-values-") as directory:
        every = (*files, values_file(Path(directory), values or {}))
        arguments = [argument for file in every for argument in ("--values", str(file))]
        said = helm("template", "doorward", str(chart), "-n", namespace, "--kube-version", kubernetes, *arguments)
    return Rendered(tuple(each for each in yaml.load_all(said, yaml.CSafeLoader) if each))


def example_chart(directory: Path) -> Path:
    """The example beside the tests, with the library chart as its dependency, as `helm dependency build` makes it."""
    chart = directory / "example"
    shutil.copytree(EXAMPLE, chart)
    shutil.copytree(LIBRARY, chart / "charts" / LIBRARY.name)
    return chart


def names(objects: Sequence[dict[str, Any]]) -> set[str]:
    """Kind and name of each."""
    return {f"{each['kind']}/{each['metadata']['name']}" for each in objects}
