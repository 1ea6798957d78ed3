"""A kubelet of one pod, as small as the tests need it: it runs what a pod's specification says, word by word.

    running = RunningPod(pod, place, node=network.hub, mesh=mesh, tokens={…}, config_maps={…})
    await running.start()
    await running.healthy("web", "liveness")        a probe, asked from the node
    await running.end()                             the exit codes, in the order of a pod's end

It does: init containers in their order, native sidecars until their startup probe succeeds, then all others; commands,
users, capabilities and environments as they stand there, with fields of the downward API and `$(NAME)`; volumes of
tokens, ConfigMaps and the downward API, and those to write to; HTTP probes, asked when the test asks and, for startup,
more often than they say.
It does not: images, of which it knows the entry points of Doorward's; restarts, hooks, resources, seccomp, other
volumes, other kinds of probes, and containers that name no user.
"""

import os
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio
from attrs import define, field

from examples.demo.local_mesh import LocalMesh, Place, Process, Result, http_get
from tests.support.containers import Container
from tests.support.namespaces import Pod

START_SECONDS: Final = 30.0
ENTRYPOINTS: Final = {"doorward-control-plane": ["doorward"], "doorward-sidecar": ["doorward-sidecar"]}
_REFERENCE: Final = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


@define
class RunningPod:
    """One pod in a network namespace. `tokens` are its service account's by audience ("" for the API server's own),
    `config_maps` the namespace's by name; `hosts` stands in for DNS, and `environment` is every container's.

    `processes` are its containers by name, in the order in which they were started; they end with the mesh.
    """

    pod: Mapping[str, Any]
    place: Pod
    node: Pod
    mesh: LocalMesh
    tokens: Mapping[str, str]
    config_maps: Mapping[str, Mapping[str, str]]
    hosts: str = ""
    environment: Mapping[str, str] = field(factory=dict)
    processes: dict[str, Process] = field(factory=dict)

    @property
    def spec(self) -> Mapping[str, Any]:
        """The pod's specification."""
        spec: Mapping[str, Any] = self.pod["spec"]
        return spec

    async def start(self) -> None:
        """Start it, and return when the last container was started."""
        self.fill_volumes()
        for container in self.spec.get("initContainers", ()):
            self._start(container)
            process = self.processes[container["name"]]
            with trio.move_on_after(START_SECONDS) as patience:
                if container.get("restartPolicy") == "Always":
                    await self._until_started(container)
                else:
                    assert await trio.to_thread.run_sync(process.popen.wait) == 0, process.tail()
            assert not patience.cancelled_caught, process.tail()
        for container in self.spec["containers"]:
            self._start(container)

    async def healthy(self, container: str, kind: str, *, host: str = "") -> bool:
        """Whether that probe of the container succeeds, asked from the node at one of the pod's addresses."""
        specified = self._specified(container)
        probe = specified[f"{kind}Probe"]["httpGet"]
        named = {each["name"]: each["containerPort"] for each in specified.get("ports", ()) if "name" in each}
        address, port = host or self.place.ipv4, named.get(probe["port"], probe["port"])
        at = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        try:
            status, _ = await http_get(at, probe["path"], Place(connect=self._from_the_node))
        except (OSError, trio.BrokenResourceError, IndexError):  # nobody there, or no answer
            return False
        return 200 <= status < 400

    async def until_ready(self) -> None:
        """Return when every readiness probe has succeeded."""
        for container in self._containers():
            if "readinessProbe" in container:
                with trio.move_on_after(START_SECONDS) as patience:
                    while not await self.healthy(container["name"], "readiness"):
                        await trio.sleep(0.05)
                assert not patience.cancelled_caught, self.processes[container["name"]].tail()

    async def execute(self, container: str, command: Sequence[str]) -> Result:
        """Run a command in a running container to its end, as `kubectl exec` does."""
        inside = self._container(self._specified(container), command)
        argv = inside.entered_by(self.processes[container].popen.pid)
        done = await trio.run_process(argv, capture_stdout=True, capture_stderr=True, check=False)
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    async def end(self) -> dict[str, int]:
        """End all containers, native sidecars last and in reverse; the exit codes in the order in which they ended."""
        native = [each["name"] for each in self.spec.get("initContainers", ()) if each.get("restartPolicy") == "Always"]
        for name in (each["name"] for each in self.spec["containers"]):
            self.processes[name].popen.send_signal(signal.SIGTERM)
        names = [*(each["name"] for each in self.spec["containers"]), *reversed(native)]
        return {name: await self.processes[name].stop() for name in names}

    def _containers(self) -> list[Mapping[str, Any]]:
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    def _specified(self, container: str) -> Mapping[str, Any]:
        return next(each for each in self._containers() if each["name"] == container)

    async def _from_the_node(self, host: str, port: int) -> trio.SocketStream:
        return await self.node.connect(host.strip("[]"), port)

    async def _until_started(self, container: Mapping[str, Any]) -> None:
        while not await self.healthy(container["name"], "startup"):
            process = self.processes[container["name"]]
            assert process.popen.poll() is None, process.tail()
            await trio.sleep(0.05)

    def _start(self, specified: Mapping[str, Any]) -> None:
        name = f"{self.place.name}-{specified['name']}"
        image = specified["image"].rpartition("/")[2].partition("@")[0].partition(":")[0]
        command = [*(specified.get("command") or ENTRYPOINTS[image]), *specified.get("args", ())]
        root = self.mesh.directory / f"{name}.root"
        root.mkdir()
        argv = self._container(specified, command).started_by(self.place, root)
        self.processes[specified["name"]] = self.mesh.start(name, argv)

    def _container(self, specified: Mapping[str, Any], command: Sequence[str]) -> Container:
        context = {**self.spec.get("securityContext", {}), **specified.get("securityContext", {})}
        volumes = {each["name"]: each for each in self.spec.get("volumes", ())}
        mounts = {each["mountPath"]: volumes[each["name"]] for each in specified.get("volumeMounts", ())}
        readable = {place: self._directory(each["name"]) for place, each in mounts.items() if _source(each)}
        if self.hosts:
            readable["/etc/hosts"] = self._hosts_file()
        return Container(
            list(command),
            context["runAsUser"],
            context.get("runAsGroup", 0),
            self._environment(specified.get("env", ())),
            context.get("capabilities", {}).get("add", ()),
            readable,
            {place: self._directory(each["name"]) for place, each in mounts.items() if not _source(each)},
            specified.get("workingDir", "/"),
        )

    def _hosts_file(self) -> Path:
        file = self.mesh.directory / f"{self.place.name}.hosts"
        file.write_text(self.hosts)
        return file

    def _environment(self, variables: Any) -> dict[str, str]:
        """Each may refer to those before it (kubernetes.io/docs: "Define dependent environment variables")."""
        found = dict(self.environment)

        def meant(reference: re.Match[str]) -> str:
            return "$" if reference[1] is None else found.get(reference[1], reference[0])

        for each in variables:
            text = each["value"] if "value" in each else self._field(each["valueFrom"]["fieldRef"]["fieldPath"])
            found[each["name"]] = _REFERENCE.sub(meant, text)
        return found

    def _field(self, path: str) -> str:
        section, _, name = path.partition(".")
        return str(self.pod[section][name])

    def fill_volumes(self) -> None:
        """Write all volumes: before the start, and where the tokens are others now."""
        for volume in self.spec.get("volumes", ()):
            directory = self._directory(volume["name"])
            directory.mkdir(mode=0o755, exist_ok=True)
            source = _source(volume)
            if source is None:  # as the kubelet hands it over where there is an fsGroup
                os.chown(directory, 0, self.spec.get("securityContext", {}).get("fsGroup", 0))
                directory.chmod(0o2775)
                continue
            for path, content in self._files(volume):
                (directory / path).write_text(content)
                (directory / path).chmod(source["defaultMode"])

    def _directory(self, volume: str) -> Path:
        return self.mesh.directory / f"{self.place.name}-{volume}.volume"

    def _files(self, volume: Mapping[str, Any]) -> list[tuple[str, str]]:
        if config_map := volume.get("configMap"):
            return self._from_config_map(config_map)
        found = []
        for source in volume["projected"]["sources"]:
            if token := source.get("serviceAccountToken"):
                found.append((token["path"], self.tokens[token.get("audience", "")]))
            elif config_map := source.get("configMap"):
                found += self._from_config_map(config_map)
            else:
                items = source["downwardAPI"]["items"]
                found += [(each["path"], self._field(each["fieldRef"]["fieldPath"])) for each in items]
        return found

    def _from_config_map(self, source: Mapping[str, Any]) -> list[tuple[str, str]]:
        content = self.config_maps[source["name"]]
        items = source.get("items") or [{"key": key, "path": key} for key in content]
        return [(each["path"], content[each["key"]]) for each in items]


def _source(volume: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What fills a volume; None for one that is there to be written to."""
    source: Mapping[str, Any] | None = volume.get("projected") or volume.get("configMap")
    return source
