"""The chart as a release in the real API server: `async with open_release(kube, directory) as release:`.

There is no kubelet: hooks are left out by --no-hooks, and nobody runs the pods.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio
from attrs import frozen

from tests.support.charts import CHART, render, values_file
from tests.support.definitions import undefine_policies
from tests.support.kube import Kube
from tests.support.unmaking import unmake

WEBHOOK: Final = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/doorward-injector"

Object = dict[str, Any]


@frozen
class Release:
    """The release `doorward` in a namespace of its own."""

    kube: Kube
    namespace: str
    directory: Path

    async def helm(self, verb: str, *arguments: str) -> str:
        """Helm on this release, which has to succeed. Returns what it said."""
        command = (verb, "doorward", *arguments, "--namespace", self.namespace, "--no-hooks")
        done = await self.kube.cluster.helm(*command)
        assert done.exit == 0, done.err
        return done.out

    async def apply(self, verb: str, values: Object, chart: Path = CHART) -> str:
        """Install or upgrade to these values."""
        return await self.helm(verb, str(chart), "--values", str(values_file(self.directory, values)))

    def rendered(self, values: Object, chart: Path = CHART) -> list[Object]:
        """What Helm installs of these values: everything but the hooks."""
        found = render(values, chart=chart, namespace=self.namespace)
        return [each for each in found.objects if not _is_hook(each)]

    def hooks(self, values: Object) -> dict[str, Object]:
        """The hooks, by kind and name."""
        found = render(values, namespace=self.namespace)
        return {f"{each['kind']}/{each['metadata']['name']}": each for each in found.objects if _is_hook(each)}

    async def live(self, objects: list[Object]) -> dict[str, Object]:
        """Those of the objects that are there to stay, by kind and name: no controller ends here what was deleted."""
        manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        command = ("get", "-f", "-", "-o", "json", "--ignore-not-found", "-n", self.namespace)
        done = await self.kube.cluster.kubectl(*command, stdin=manifest)
        assert done.exit == 0, done.err
        found = json.loads(done.out) if done.out.strip() else {"items": []}
        staying = [each for each in found.get("items", [found]) if "deletionTimestamp" not in each["metadata"]]
        return {f"{each['kind']}/{each['metadata']['name']}": each for each in staying}

    async def remove(self) -> None:
        """Take away the release, what it keeps, and definitions that anybody left."""
        command = ("uninstall", "doorward", "-n", self.namespace, "--no-hooks", "--ignore-not-found")
        done = await self.kube.cluster.helm(*command)
        assert done.exit == 0, done.err
        claim = f"/api/v1/namespaces/{self.namespace}/persistentvolumeclaims/doorward"
        await unmake(self.kube.api, claim)
        await undefine_policies(self.kube.cluster)


def _is_hook(found: Object) -> bool:
    return "helm.sh/hook" in found["metadata"].get("annotations", {})


@asynccontextmanager
async def open_release(kube: Kube, directory: Path, **labels: str) -> AsyncIterator[Release]:
    """Nothing installed yet, in a new namespace with these labels; and at the end nothing left."""
    release = Release(kube, await kube.namespace("mesh", labels=labels), directory)
    await release.remove()
    try:
        yield release
    finally:
        with trio.CancelScope(shield=True):
            await release.remove()


def differences(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Where `found` lacks something of `wanted`, with its place; what the API server has added does not count."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        missing = [key for key in wanted.keys() - found.keys() if wanted[key] not in ({}, [], None)]
        return [f"{path}.{key} is missing" for key in missing] + [
            each
            for key in wanted.keys() & found.keys()
            for each in differences(wanted[key], found[key], f"{path}.{key}")
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [each for index, pair in pairs for each in differences(*pair, f"{path}[{index}]")]
    return [] if wanted == found else [f"{path}: {found!r}, not {wanted!r}"]
