"""Without an API server everything that runs goes on: sidecars, policies, the control plane itself; and it is said."""

from contextlib import suppress
from pathlib import Path

import pytest
import trio

from examples.demo.local_mesh import (
    PROGRAMS,
    LocalMesh,
    Process,
    http_get,
    open_local_mesh,
    wait_for,
    wait_until_ready,
)
from tests.support.cluster import Cluster
from tests.support.kube import Kube
from tests.support.namespaces import Pod
from tests.support.policies import allow
from tests.support.processes import logged

SECONDS = 60.0


async def check(mesh: LocalMesh) -> dict[str, str]:
    """The line about the cluster."""
    lines = (await mesh.doorward("check", "-o", "json")).json()["checks"]
    (found,) = [line for line in lines if line["name"] == "cluster"]
    return found


async def test_what_runs_goes_on_and_new_sidecars_may_join_with_tokens(
    cluster: Cluster, kube: Kube, place: Pod, short_directory: Path
) -> None:
    async with open_local_mesh(short_directory) as mesh:
        process = await kube.control_plane(mesh, place)
        assert (await check(mesh))["status"] == "ok"
        async with cluster.api_server_away():
            await wait_for(lambda: "API server is away" in process.log.read_text(), what="its absence in the log")
            found = await check(mesh)
            assert (found["status"], "the API server is away" in found["detail"]) == ("warn", True)
            assert (await http_get(mesh.observe, "/ready", process.place))[0] == 200
            await place_a_call(mesh, place)
        await wait_for(lambda: "API server is back" in process.log.read_text(), what="its return in the log")
        assert (await check(mesh))["status"] == "ok"
        said = [line for line in process.log.read_text().splitlines() if "API server is" in line]
        assert len(said) == 2, "\n".join(said)


async def place_a_call(mesh: LocalMesh, place: Pod) -> None:
    """Two sidecars attest by join tokens, a policy is applied, and a call passes."""
    async with await place.listen(8080, "127.0.0.1") as listener, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, hello, [listener])
        there = place.place()
        inbound = [f"{place.ipv4}:0=127.0.0.1:8080/http"]
        await mesh.start_sidecar("shop/payments", inbound=inbound, place=there)
        checkout = await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/payments:8080"], place=there)
        await allow(mesh, "checkout", "payments", 8080)
        with trio.fail_after(SECONDS):
            while (await http_get(checkout.outbound["shop/payments:8080"], "/charges", there))[0] != 200:
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


async def hello(stream: trio.SocketStream) -> None:
    """Answer each request with 200."""
    with suppress(trio.BrokenResourceError):  # the other side of a reset
        async with stream:
            async for _ in stream:
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def test_a_control_plane_that_starts_without_it_waits_and_says_so(
    cluster: Cluster, kube: Kube, place: Pod, short_directory: Path
) -> None:
    options, there = await kube.control_plane_options(), place.place()
    async with open_local_mesh(short_directory) as mesh:
        async with cluster.api_server_away():
            process = await mesh.start_control_plane(*options, listen=f"{place.ipv4}:7443", place=there, ready=False)
            status, reason = await http_get(mesh.observe, "/ready", there)
            assert status == 503
            assert "waits for the API server's" in reason
        await wait_until_ready(process, mesh.observe)


async def test_one_whose_ca_is_in_a_secret_waits_as_well(
    cluster: Cluster, kube: Kube, place: Pod, short_directory: Path
) -> None:
    options = await kube.control_plane_options()
    async with open_local_mesh(short_directory) as mesh:
        async with cluster.api_server_away():
            process = await start_and_wait(mesh, place, options)
        await wait_for(lambda: logged(process, "ready"), what="its readiness")


async def test_one_that_waits_ends_when_it_is_told_to(
    cluster: Cluster, kube: Kube, place: Pod, short_directory: Path
) -> None:
    options = await kube.control_plane_options()
    async with open_local_mesh(short_directory) as mesh, cluster.api_server_away():
        process = await start_and_wait(mesh, place, options)
        assert await process.stop() == 0


async def start_and_wait(mesh: LocalMesh, place: Pod, options: list[str]) -> Process:
    """Start a control plane whose CA is in a Secret, and return when it waits for the API server."""
    command = [str(PROGRAMS / "doorward"), "control-plane", "run", "--state", str(mesh.state)]
    command += ["--listen", f"{place.ipv4}:7443", "--ca-secret", "doorward-ca", *options]
    process = mesh.start("control-plane", command, place=place.place())
    await wait_for(lambda: "the start waits for the API server" in process.log.read_text(), what="its wait")
    return process


@pytest.mark.parametrize("setting", ["--kubernetes-ca", "--kubernetes-token-file"])
async def test_a_file_that_is_not_there_ends_the_start_with_its_name(
    kube: Kube, place: Pod, short_directory: Path, setting: str
) -> None:
    options = await kube.control_plane_options()
    options[options.index(setting) + 1] = "/nowhere"
    async with open_local_mesh(short_directory) as mesh:
        answer = await mesh.doorward("control-plane", "run", "--state", str(mesh.state), *options)
    assert answer.exit == 2
    assert setting.removeprefix("--").replace("-", "_") in answer.err
