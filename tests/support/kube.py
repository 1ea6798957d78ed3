"""What a test makes in the API server, and a control plane process that lives on it.

    async with open_kube(cluster, directory) as kube:           the fixture `kube`
        shop = await kube.namespace("shop", inject=True)        a new name such as shop-3f2a, with its service account
        pod = await kube.pod(shop, "web-1", ips=["10.77.0.9"], labels={"app": "web"})
        service = await kube.service(shop, "web", {"app": "web"}, {"http": 8080})
        await kube.endpoint_slice(shop, "web", ["10.77.0.9"], {"http": 8080})
        token = await kube.token(shop, "default", audience="doorward", pod=pod)
        running = await kube.control_plane(mesh, place)         a process in the pod `place`, with the chart's rights
        kube.api                                                the administrator's KubernetesApi, for all the rest
        account = await kube.account(shop, "reader", cluster_rules=[...])      a token file with just those rights
        await kube.create("/apis/…", body)                      any object; what is cluster-wide is deleted at the end

Namespaces are unmade at the end with the pods, services and slices in them, so that tests do not see each other's.
"""

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpcore2
import trio
from attrs import define, field
from httpcore2._backends.trio import TrioStream

from control_plane.kubernetes.api import KubernetesApi
from control_plane.metrics import Metrics
from examples.demo.local_mesh import LocalMesh, Process
from tests.support.charts import render
from tests.support.cluster import Cluster
from tests.support.namespaces import Pod
from tests.support.patience import PATIENCE
from tests.support.rights import until_allowed
from tests.support.unmaking import unmake, unmake_namespace

Object = dict[str, Any]
RBAC = "/apis/rbac.authorization.k8s.io/v1"
SLICES = "/apis/discovery.k8s.io/v1"
CONTAINER: Object = {"name": "app", "image": "app"}


@define
class InPod(httpcore2.AsyncNetworkBackend):
    """Connections of this process that are made from inside a pod."""

    pod: Pod

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Raises httpcore2.ConnectError."""
        try:
            return TrioStream(await self.pod.connect(host, port))
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error


def client(cluster: Cluster, token_file: Path, metrics: Metrics | None = None) -> KubernetesApi:
    """A client of the API server with that token."""
    network = InPod(cluster.pod)
    return KubernetesApi.open(
        cluster.url, ca=cluster.ca, token_file=token_file, metrics=metrics or Metrics(), network=network
    )


@define
class Kube:
    """One test's hand on the API server. `directory` is for token files."""

    cluster: Cluster
    api: KubernetesApi
    directory: Path
    _namespaces: list[str] = field(factory=list)
    _paths: list[str] = field(factory=list)

    async def create(self, path: str, body: Object) -> Object:
        """Make an object in the collection `path`."""
        made = await self.api.create(path, body)
        if "/namespaces/" not in path:
            self._paths.append(f"{path}/{made['metadata']['name']}")
        return made

    async def namespace(self, name: str, *, inject: bool = False, labels: Mapping[str, str] | None = None) -> str:
        """A new namespace whose name begins with `name`, and its service account `default`. Returns its name."""
        unique = f"{name}-{secrets.token_hex(3)}"
        wanted = {**({"doorward.dev/inject": "enabled"} if inject else {}), **(labels or {})}
        await self.api.create("/api/v1/namespaces", {"metadata": {"name": unique, "labels": wanted}})
        self._namespaces.append(unique)
        await self.service_account(unique, "default")
        return unique

    async def unmake_namespace(self, name: str) -> None:
        """Delete it with what it holds, as the namespace controller would."""
        await unmake_namespace(self.api, name)

    async def service_account(self, namespace: str, name: str) -> Object:
        """A service account."""
        return await self.api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})

    async def pod(
        self,
        namespace: str,
        name: str,
        *,
        ips: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        service_account: str = "default",
        containers: Sequence[Object] = (CONTAINER,),
        ready: bool = True,
        **spec: Any,
    ) -> Object:
        """Create a pod, which passes admission, and give it the status of one that runs. Returns it as it then is."""
        metadata = {"name": name, "labels": dict(labels or {}), "annotations": dict(annotations or {})}
        body = {
            "metadata": metadata,
            "spec": {"serviceAccountName": service_account, "containers": list(containers), **spec},
        }
        await self.api.create(f"/api/v1/namespaces/{namespace}/pods", body)
        return await self.pod_status(namespace, name, ips, ready=ready)

    async def pod_status(self, namespace: str, name: str, ips: Sequence[str], *, ready: bool) -> Object:
        """Say what a kubelet would: running there, ready or not."""
        status: Object = {
            "phase": "Running" if ips else "Pending",
            "conditions": [{"type": "Ready", "status": "True" if ready and ips else "False"}],
        }
        if ips:
            status |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
        return await self.api.patch(f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"status": status})

    async def delete_pod(self, namespace: str, name: str) -> None:
        """Gone at once."""
        await self.api.delete(f"/api/v1/namespaces/{namespace}/pods/{name}", gracePeriodSeconds="0")

    async def forget_pod(self, namespace: str, name: str) -> None:
        """Gone, also where the API server judges tokens that are bound to it: there it looks at a copy of the pods."""
        pod = await self.api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
        bound = await self.token(namespace, pod["spec"]["serviceAccountName"], pod=pod)
        await self.delete_pod(namespace, name)
        with trio.fail_after(PATIENCE):
            while (await self.review(bound)).get("authenticated"):
                await trio.sleep(0.2)

    async def review(self, token: str) -> Object:
        """What the API server says of the token; that one was good it remembers for ten seconds."""
        review = {"spec": {"token": token, "audiences": ["doorward"]}}
        return (await self.api.create("/apis/authentication.k8s.io/v1/tokenreviews", review))["status"]

    async def service(
        self, namespace: str, name: str, selector: Mapping[str, str] | None, ports: Mapping[str, int], **spec: Any
    ) -> Object:
        """A Service whose ports, by name, are also their target ports. Its address is in spec.clusterIP."""
        listed = [{"name": each, "port": port} for each, port in ports.items()]
        body = {"metadata": {"name": name}, "spec": {"selector": selector, "ports": listed, **spec}}
        return await self.api.create(f"/api/v1/namespaces/{namespace}/services", body)

    async def endpoint_slice(
        self,
        namespace: str,
        service: str,
        addresses: Sequence[str],
        ports: Mapping[str, int],
        *,
        ready: bool = True,
        target: str = "",
    ) -> Object:
        """An EndpointSlice of the Service, as the controller would make it. It says that the pod `target` is there."""
        said = {"targetRef": {"kind": "Pod", "namespace": namespace, "name": target}} if target else {}
        body = {
            "addressType": "IPv6" if addresses and ":" in addresses[0] else "IPv4",
            "metadata": {"generateName": f"{service}-", "labels": {"kubernetes.io/service-name": service}},
            "endpoints": [{"addresses": [each], "conditions": {"ready": ready}, **said} for each in addresses],
            "ports": [{"name": name, "port": port, "protocol": "TCP"} for name, port in ports.items()],
        }
        return await self.api.create(f"{SLICES}/namespaces/{namespace}/endpointslices", body)

    async def token(
        self,
        namespace: str,
        service_account: str,
        *,
        audience: str = "doorward",
        pod: Object | None = None,
        seconds: int = 3600,
    ) -> str:
        """A token of the service account by TokenRequest, bound to `pod` where one is given."""
        spec: Object = {"audiences": [audience] if audience else [], "expirationSeconds": seconds}
        if pod is not None:
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        answer = await self.api.create(path, {"spec": spec})
        return str(answer["status"]["token"])

    async def account(
        self, namespace: str, name: str, *, cluster_rules: Sequence[Object] = (), rules: Sequence[Object] = ()
    ) -> Path:
        """A new service account with those rights, cluster-wide and in its namespace. Returns a file with its token."""
        await self.service_account(namespace, name)
        await self.grant(namespace, name, cluster_rules=cluster_rules, rules=rules)
        file = self.directory / f"{namespace}-{name}.token"
        file.write_text(await self.token(namespace, name, audience=""))
        return file

    async def grant(
        self, namespace: str, name: str, *, cluster_rules: Sequence[Object] = (), rules: Sequence[Object] = ()
    ) -> None:
        """Give a service account those rights, once for each kind; it has them when this returns."""
        subjects = [{"kind": "ServiceAccount", "namespace": namespace, "name": name}]
        for kind, granted, place, within in (
            ("ClusterRole", cluster_rules, RBAC, ""),
            ("Role", rules, f"{RBAC}/namespaces/{namespace}", namespace),
        ):
            if granted:
                metadata = {"name": f"{namespace}-{name}"}
                reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": metadata["name"]}
                await self.create(f"{place}/{kind.lower()}s", {"metadata": metadata, "rules": list(granted)})
                binding = {"metadata": metadata, "roleRef": reference, "subjects": subjects}
                await self.create(f"{place}/{kind.lower()}bindings", binding)
                await until_allowed(self.api, namespace, name, granted[-1], within=within)

    async def control_plane(
        self,
        mesh: LocalMesh,
        place: Pod,
        *options: str,
        cluster_rules: Sequence[Object] | None = None,
        rules: Sequence[Object] | None = None,
        namespace: str = "",
    ) -> Process:
        """Start `doorward control-plane run` in the pod `place`, as a service account with just those rights.

        Without any, it has those that the chart gives. Its own namespace is `namespace`, or a new one.
        Sidecars reach it at `mesh.address`.
        """
        given = await self.control_plane_options(cluster_rules, rules, namespace)
        return await mesh.start_control_plane(*given, *options, listen=f"{place.ipv4}:7443", place=place.place())

    async def control_plane_options(
        self,
        cluster_rules: Sequence[Object] | None = None,
        rules: Sequence[Object] | None = None,
        namespace: str = "",
    ) -> list[str]:
        """The options that tell a control plane of this cluster, and a service account for it, as `control_plane`."""
        own = namespace or await self.namespace("doorward")
        if cluster_rules is None and rules is None:
            cluster_rules, rules = chart_rights()
        token_file = await self.account(own, "doorward", cluster_rules=cluster_rules or (), rules=rules or ())
        options = ["--kubernetes", self.cluster.url, "--kubernetes-ca", str(self.cluster.ca)]
        return [*options, "--kubernetes-token-file", str(token_file), "--kubernetes-namespace", own]

    async def clean(self) -> None:
        """Delete what this test has made."""
        for path in reversed(self._paths):
            await unmake(self.api, path)
        for namespace in self._namespaces:
            await self.unmake_namespace(namespace)


@cache
def chart_rights() -> tuple[Sequence[Object], Sequence[Object]]:
    """What the chart lets the control plane do, cluster-wide and in its own namespace."""
    rendered = render()
    return rendered.one("ClusterRole")["rules"], rendered.one("Role")["rules"]


@asynccontextmanager
async def open_kube(cluster: Cluster, directory: Path) -> AsyncIterator[Kube]:
    """One test's hand on the API server; what it made is deleted at the end."""
    async with client(cluster, cluster.admin_token_file) as api:
        kube = Kube(cluster, api, directory)
        try:
            yield kube
        finally:
            with trio.CancelScope(shield=True):
                await kube.clean()
