"""docs/kubernetes.md and the README, command by command, as their reader types them: the mesh does what they say.

Helm, kubectl and the API server are real, and so are the pods' programs, users, rules and volumes; the node of
tests/support stands in for controllers and the kubelet, and what kubectl would ask a kubelet (logs, exec, port-forward)
is done here.
"""

import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio
import yaml
from attrs import define, field

from examples.demo.local_mesh import LocalMesh, Result, open_local_mesh
from tests.support.assets import ROOT
from tests.support.definitions import undefine_policies
from tests.support.guide import Command, commands
from tests.support.kube import Kube
from tests.support.namespaces import Pod
from tests.support.node import Node

# What a command has to say, by how it begins, in the order in which the page has it: regular expressions.
README: Final = {
    "helm install": ["STATUS: deployed"],
    "kubectl -n shop logs": ['403 .*"reason": "no_policy_for_workload"', "200"],
    "kubectl -n shop get allowpolicies": [r"storefront-reads-payments +True +1/1"],
}
GUIDE: Final = {
    "helm install": ["STATUS: deployed"],
    "kubectl -n doorward rollout status": ["successfully rolled out"] * 2,
    "kubectl -n shop get allowpolicies": [r"storefront-reads-payments +True +1/1"],
    "kubectl -n shop logs": ["200", '403 .*"reason": "no_policy_for_workload"', "200"],
    "kubectl -n doorward exec deployment/doorward -- doorward sidecars": ["ns/shop/sa/payments"],
    "kubectl -n doorward exec deployment/doorward -- doorward policy check": ["ALLOWED"],
    "doorward injection audit": ["every pod that should be in the mesh is in it: 2"],
    "doorward inject -f": ["name: doorward-sidecar"],
    "doorward sidecars": ["ns/shop/sa/storefront"],
    "helm template": ["kind: ServiceMonitor"],
    "helm uninstall": ["uninstalled"],
}


@define
class Reader:
    """Somebody who types what a page says, in the checkout, on a machine whose kubectl leads to the cluster.

    `says` is what the commands have to answer, `typed` what was typed of each beginning.
    """

    node: Node
    nursery: trio.Nursery
    says: Mapping[str, list[str]]
    typed: dict[str, list[str]] = field(factory=dict)

    async def type(self, command: Command) -> None:
        """Type it, wait until the cluster has followed, and look at what it said."""
        if command.background:
            await self._forward(command.programs[0])
            return
        expected = self._expected(command.text)
        result = await self._pipe(command)
        with trio.move_on_after(30):
            while "logs" in command.programs[0] and not re.search(expected, result.out):
                await trio.sleep(0.2)  # a log goes on
                result = await self._pipe(command)
        assert result.exit == 0, (command.text, result)
        assert re.search(expected, result.out + result.err), (command.text, expected, result)
        await self.node.reconcile()

    def _expected(self, text: str) -> str:
        beginning = next((each for each in self.says if text.startswith(each)), "")
        seen = self.typed.setdefault(beginning, [])
        seen.append(text)
        return self.says[beginning][len(seen) - 1] if beginning else ""

    async def _pipe(self, command: Command) -> Result:
        result = Result(0, "", "")
        for program in command.programs:
            result = await self._run(program, result.out)
            if result.exit != 0:
                break
        return result

    async def _run(self, words: Sequence[str], stdin: str) -> Result:
        match words:
            case ["kubectl", "-n", namespace, "exec", deployment, "--", *command]:
                return await self.node.execute(namespace, deployment.removeprefix("deployment/"), command)
            case ["kubectl", "-n", namespace, "logs", deployment]:
                running = self.node.pods[namespace, deployment.removeprefix("deployment/")]
                process = running.processes[running.spec["containers"][0]["name"]]
                lines = process.output.read_text().splitlines()
                return Result(0, "\n".join(lines[-1:]), process.tail())
            case ["kubectl", "delete", "namespace", namespace]:
                self.nursery.start_soon(self.node.end_namespace, namespace)
                return await self.node.kube.cluster.kubectl(*words[1:])
            case ["kubectl", *arguments]:
                return await self.node.kube.cluster.kubectl(*arguments, stdin=stdin)
            case ["helm", "uninstall", *arguments]:
                return await self._uninstall(arguments)
            case ["helm", "test", release, *arguments]:
                return await self._test(release, arguments)
            case ["helm", *arguments]:
                return await self.node.kube.cluster.helm(*arguments)
            case ["doorward", *arguments]:
                return await self._doorward(arguments, stdin)
        raise AssertionError(f"the guide names a program that this test does not have: {words[0]}")

    async def _doorward(self, arguments: Sequence[str], stdin: str) -> Result:
        """On the reader's own machine, where kubectl forwards ports."""
        place, directory = self.node.kube.cluster.pod, self.node.mesh.directory
        environment = [f"DOORWARD_CONTEXTS={directory / 'contexts'}", f"HOME={directory}", "NO_COLOR=1"]
        program = str(Path(sys.executable).parent / "doorward")
        argv = ["env", "-u", "DOORWARD_ADMIN", *environment, program, *arguments]
        return await place.run(argv, stdin=stdin.encode())

    async def _uninstall(self, arguments: Sequence[str]) -> Result:
        """The hook is a Job, which nobody runs here: what it runs has to find no sidecar."""
        return await self.node.kube.cluster.helm("uninstall", *arguments, "--no-hooks")

    async def _test(self, release: str, arguments: Sequence[str]) -> Result:
        """The hook is a Pod, which nobody runs here: what it runs is run beside the control plane."""
        hooks = await self.node.kube.cluster.helm("get", "hooks", release, *arguments)
        (pod,) = [each for each in yaml.safe_load_all(hooks.out) if each and each["kind"] == "Pod"]
        (container,) = pod["spec"]["containers"]
        return await self.node.execute("doorward", "doorward", [*container["command"], *container["args"]])

    async def _forward(self, words: Sequence[str]) -> None:
        """kubectl port-forward of a Service's port to the reader's loopback."""
        assert list(words[:5]) == ["kubectl", "-n", "doorward", "port-forward", "service/doorward"]
        port = int(words[5].partition(":")[0])
        target = self.node.pods["doorward", "doorward"].place
        listener = await self.node.kube.cluster.pod.listen(port, "127.0.0.1")
        self.nursery.start_soon(partial(trio.serve_listeners, partial(_relay, target, port), [listener]))


async def _relay(target: Pod, port: int, near: trio.SocketStream) -> None:
    async with near, await target.connect(target.ipv4, port) as far, trio.open_nursery() as nursery:
        nursery.start_soon(_pump, near, far, nursery)
        nursery.start_soon(_pump, far, near, nursery)


async def _pump(source: trio.SocketStream, sink: trio.SocketStream, nursery: trio.Nursery) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await sink.send_all(data)
    nursery.cancel_scope.cancel()


@pytest.fixture
async def mesh(short_directory: Path) -> AsyncIterator[LocalMesh]:
    async with open_local_mesh(short_directory) as mesh:
        yield mesh


@pytest.mark.parametrize(
    ("page", "heading", "says"), [("README.md", "## In a cluster", README), ("docs/kubernetes.md", "", GUIDE)]
)
async def test_every_command_of_the_page_does_what_it_says(
    kube: Kube, mesh: LocalMesh, page: str, heading: str, says: dict[str, list[str]]
) -> None:
    mesh.directory.chmod(0o755)  # containers' users come in here
    try:
        async with trio.open_nursery() as nursery:
            reader = Reader(Node(kube, mesh), nursery, says)
            for command in commands(ROOT / page, heading):
                await reader.type(command)
            nursery.cancel_scope.cancel()
        assert {each: len(reader.typed.get(each, ())) for each in says} == {each: len(says[each]) for each in says}
    finally:
        with trio.CancelScope(shield=True):
            await kube.cluster.helm("uninstall", "doorward", "-n", "doorward", "--no-hooks", "--ignore-not-found")
            await undefine_policies(kube.cluster)
            for namespace in ("shop", "doorward"):
                await kube.unmake_namespace(namespace)
