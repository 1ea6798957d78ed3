"""The real API server of the tests does what tests rely on."""

from pathlib import Path

from examples.demo.local_mesh import http_get, open_local_mesh
from tests.support.charts import render
from tests.support.cluster import Cluster
from tests.support.definitions import CRDS, undefine_policies
from tests.support.kube import Kube
from tests.support.namespaces import Pod


async def test_a_token_is_bound_to_its_pod_and_audience(kube: Kube) -> None:
    shop = await kube.namespace("shop")
    pod = await kube.pod(shop, "web", ips=["10.77.0.9", "fd00:77::9"])
    tokens = [await kube.token(shop, "default", pod=pod, seconds=seconds) for seconds in (3600, 3601)]
    status = await kube.review(tokens[0])
    assert status["user"]["username"] == f"system:serviceaccount:{shop}:default"
    assert status["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["web"]
    await kube.forget_pod(shop, "web")
    assert "authenticated" not in await kube.review(tokens[1])  # not the one that was good a moment ago


async def test_a_service_s_address_can_be_routed(cluster: Cluster, kube: Kube, place: Pod) -> None:
    shop = await kube.namespace("shop")
    service = await kube.service(shop, "web", None, {"http": 80})
    async with await place.listen(8080) as listener:
        await cluster.route(service["spec"]["clusterIP"], 80, place.ipv4, 8080)
        async with (
            await cluster.pod.connect(service["spec"]["clusterIP"], 80),
            await listener.accept() as accepted,
        ):
            assert accepted.socket.getpeername()[0].endswith(cluster.pod.ipv4)


async def test_the_command_line_tools_are_the_administrator(cluster: Cluster) -> None:
    assert (await cluster.kubectl("auth", "can-i", "*", "*")).out == "yes\n"
    assert (await cluster.helm("list", "--all-namespaces")).exit == 0


async def test_a_control_plane_runs_in_the_cluster(kube: Kube, place: Pod, short_directory: Path) -> None:
    async with open_local_mesh(short_directory) as mesh:
        running = await kube.control_plane(mesh, place)
        assert await http_get(mesh.observe, "/ready", running.place) == (200, '{"ready":true,"reason":""}')


async def test_what_a_test_made_is_gone_after_it(cluster: Cluster, kube: Kube) -> None:
    shop = await kube.namespace("shop")
    await kube.pod(shop, "web", ips=["10.77.0.9"])
    await kube.clean()
    pods = await kube.api.get("/api/v1/pods")
    assert not [pod for pod in pods["items"] if pod["metadata"]["namespace"] == shop]


async def test_definitions_that_nobody_has_used_can_be_taken_away(cluster: Cluster, kube: Kube) -> None:
    definitions = render().of("CustomResourceDefinition")
    for _ in range(10):
        for each in definitions:
            await kube.api.create(CRDS, each)
        await undefine_policies(cluster)
