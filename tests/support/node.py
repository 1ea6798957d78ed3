"""One node and the controllers, as small as a test needs them: what is applied in the API server runs in namespaces.

    node = Node(kube, mesh)
    await node.reconcile()              every Deployment runs as its template says, with one pod; every Service knows it
    node.pods["shop", "payments"]       the running pod (tests.support.kubelet)
    await node.execute("doorward", "doorward", ["doorward", "check"])           as `kubectl exec` does

It does, in place of kube-controller-manager, kubelet, kube-proxy and DNS: pods from templates, made anew when the
template has changed; their status; EndpointSlices; the ConfigMap kube-root-ca.crt; the addresses of Services whose pods
run here; their names in /etc/hosts. Pods pass the API server's admission as they do anywhere.
"""

import json
import secrets
from collections.abc import Mapping, Sequence

import trio
from attrs import define, field

from examples.demo.local_mesh import LocalMesh, Result
from tests.support.cluster import PORT
from tests.support.kube import Kube, Object
from tests.support.kubelet import RunningPod
from tests.support.namespaces import Pod
from tests.support.stock import program

APPS = "/apis/apps/v1"
SLICES = "/apis/discovery.k8s.io/v1"
POD = "node.test/pod"
Key = tuple[str, str]
"""Namespace and name."""


@define
class Node:
    """What runs: one pod for each Deployment."""

    kube: Kube
    mesh: LocalMesh
    pods: dict[Key, RunningPod] = field(factory=dict)
    _templates: dict[Key, str] = field(factory=dict)

    async def reconcile(self) -> None:
        """Make what runs agree with what was applied, and say so in the API server."""
        deployments = await self._list(f"{APPS}/deployments")
        wanted = {_key(each): each for each in deployments if not each["metadata"].get("deletionTimestamp")}
        for key in [each for each in self.pods if each not in wanted]:
            await self._end(key)
        for key, deployment in wanted.items():
            template = json.dumps(deployment["spec"]["template"], sort_keys=True)
            if self._templates.get(key) != template:
                await self._end(key)
                await self._start(key, deployment)
                self._templates[key] = template
            await self._say_rolled_out(key, deployment)

    async def execute(self, namespace: str, name: str, command: Sequence[str], *, container: str = "") -> Result:
        """Run a command in a container of a Deployment's pod, as its user and with its environment."""
        running = self.pods[namespace, name]
        return await running.execute(container or running.spec["containers"][0]["name"], command)

    async def end_namespace(self, namespace: str) -> None:
        """Once somebody has deleted it, see it off as the namespace controller does."""
        while (await self.kube.api.get(f"/api/v1/namespaces/{namespace}"))["status"]["phase"] != "Terminating":
            await trio.sleep(0.05)
        await self.kube.unmake_namespace(namespace)

    async def _start(self, key: Key, deployment: Object) -> None:
        namespace, name = key
        pod = await self._create(namespace, name, deployment["spec"]["template"])
        place = await self.kube.cluster.network.pod(pod["metadata"]["name"])
        pod = await self._say_running(pod, place, ready=False)
        services = await self._list("/api/v1/services")
        running = RunningPod(
            pod,
            place,
            self.kube.cluster.network.hub,
            self.mesh,
            await self._tokens(pod),
            await self._config_maps(namespace),
            hosts=_names(services, namespace),
            environment={"KUBERNETES_SERVICE_HOST": self.kube.cluster.pod.ipv4, "KUBERNETES_SERVICE_PORT": str(PORT)},
        )
        self.pods[key] = running
        await self._route(services)
        await running.start()
        await running.until_ready()
        await self._say_running(pod, place, ready=True)
        await self._stand_behind(services, pod, place)

    async def _create(self, namespace: str, name: str, template: Object) -> Object:
        """A pod of the template, through the API server's admission."""
        metadata = {**template["metadata"], "name": f"{name}-{secrets.token_hex(3)}"}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        return await self.kube.api.create(f"/api/v1/namespaces/{namespace}/pods", body)

    async def _end(self, key: Key) -> None:
        self._templates.pop(key, None)
        if running := self.pods.pop(key, None):
            await running.end()
            metadata = running.pod["metadata"]
            await self._remove_slices(metadata["namespace"], metadata["name"])
            await self.kube.delete_pod(metadata["namespace"], metadata["name"])

    async def _tokens(self, pod: Object) -> dict[str, str]:
        """A token by TokenRequest for each projected volume, by its audience."""
        found = {}
        for volume in pod["spec"].get("volumes", ()):
            for source in volume.get("projected", {}).get("sources", ()):
                if "serviceAccountToken" in source:
                    audience = source["serviceAccountToken"].get("audience", "")
                    account = pod["spec"]["serviceAccountName"]
                    namespace = pod["metadata"]["namespace"]
                    found[audience] = await self.kube.token(namespace, account, audience=audience, pod=pod)
        return found

    async def _config_maps(self, namespace: str) -> dict[str, Mapping[str, str]]:
        maps = await self._list(f"/api/v1/namespaces/{namespace}/configmaps")
        ca = {"kube-root-ca.crt": {"ca.crt": self.kube.cluster.ca.read_text()}}
        return {**ca, **{each["metadata"]["name"]: each.get("data", {}) for each in maps}}

    async def _remove_slices(self, namespace: str, pod: str) -> None:
        await self.kube.api.delete(f"{SLICES}/namespaces/{namespace}/endpointslices", labelSelector=f"{POD}={pod}")

    async def _stand_behind(self, services: Sequence[Object], pod: Object, place: Pod) -> None:
        """Put the ready pod into the EndpointSlices of the Services that select it."""
        namespace, name = _key(pod)
        for service in services:
            if _selects(service, pod):
                body = {
                    "addressType": "IPv4",
                    "metadata": {
                        "generateName": f"{service['metadata']['name']}-",
                        "labels": {"kubernetes.io/service-name": service["metadata"]["name"], POD: name},
                    },
                    "endpoints": [{"addresses": [place.ipv4], "conditions": {"ready": True}}],
                    "ports": [_slice_port(port, pod) for port in service["spec"]["ports"]],
                }
                await self.kube.api.create(f"{SLICES}/namespaces/{namespace}/endpointslices", body)

    async def _route(self, services: Sequence[Object]) -> None:
        """Lead Services' addresses to the pods behind them, from everywhere: kube-proxy's work, beyond redirection."""
        rules = [
            f"-A NODE -d {service['spec']['clusterIP']} -p tcp --dport {port['port']} "
            f"-j DNAT --to-destination {running.place.ipv4}:{_target(port, running.pod)}"
            for service in services
            for running in self.pods.values()
            if _selects(service, running.pod)
            for port in service["spec"]["ports"]
        ]
        text = "\n".join(["*nat", ":NODE - [0:0]", *rules, "COMMIT", ""]).encode()
        for place in (self.kube.cluster.pod, *(running.place for running in self.pods.values())):
            await place.must(program("iptables-restore"), "--noflush", stdin=text)
            if (await place.run([program("iptables"), "-t", "nat", "-C", "OUTPUT", "-j", "NODE"])).exit != 0:
                # Earlier tests' routes stay with the API server, and may be of an address that is given again.
                where = "-I" if place is self.kube.cluster.pod else "-A"
                await place.must(program("iptables"), "-t", "nat", where, "OUTPUT", "-j", "NODE")

    async def _say_running(self, pod: Object, place: Pod, *, ready: bool) -> Object:
        namespace, name = _key(pod)
        await self.kube.pod_status(namespace, name, [place.ipv4, place.ipv6], ready=ready)
        status = {
            f"{kind}Statuses": [
                {"name": each["name"], "ready": ready, "restartCount": 0, "image": each["image"], "imageID": ""}
                for each in pod["spec"].get(f"{kind}s", ())
            ]
            for kind in ("initContainer", "container")
        }
        return await self.kube.api.patch(f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"status": status})

    async def _say_rolled_out(self, key: Key, deployment: Object) -> None:
        namespace, name = key
        one = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
        status = {"observedGeneration": deployment["metadata"]["generation"], **one}
        await self.kube.api.patch(f"{APPS}/namespaces/{namespace}/deployments/{name}/status", {"status": status})

    async def _list(self, path: str) -> list[Object]:
        found: list[Object] = (await self.kube.api.get(path))["items"]
        return found


def _key(item: Object) -> Key:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _selects(service: Object, pod: Object) -> bool:
    selector = service["spec"].get("selector") or {"": ""}
    same = service["metadata"]["namespace"] == pod["metadata"]["namespace"]
    return same and selector.items() <= pod["metadata"].get("labels", {}).items()


def _target(port: Object, pod: Object) -> int:
    """The number of a Service's target port, which may be a container port's name."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    every = [each for container in pod["spec"]["containers"] for each in container.get("ports", ())]
    return next(each["containerPort"] for each in every if each.get("name") == target)


def _slice_port(port: Object, pod: Object) -> Object:
    shown = {name: port[name] for name in ("name", "appProtocol") if name in port}
    return {"protocol": "TCP", "port": _target(port, pod), **shown}


def _names(services: Sequence[Object], namespace: str) -> str:
    """What DNS would say, as a hosts file."""
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    for service in services:
        name, own = service["metadata"]["name"], service["metadata"]["namespace"]
        names = [f"{name}.{own}.svc.cluster.local", f"{name}.{own}.svc", f"{name}.{own}"]
        lines.append(" ".join([service["spec"]["clusterIP"], *names, *([name] if own == namespace else [])]))
    return "\n".join(lines) + "\n"
