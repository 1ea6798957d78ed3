"""The network of these tests itself: pods reach each other over both IP versions, and nothing of it stays behind."""

import os
from pathlib import Path

import pytest
import trio

from examples.demo.local_mesh import Result, http_get, open_local_mesh
from tests.support.namespaces import Network, Pod, open_network, processes_in
from tests.support.patience import PATIENCE


async def exchange(client: Pod, server: Pod, host: str) -> tuple[bytes, str]:
    """What the server sends to the client that connects to `host`, and whom the server sees."""
    listener = await server.listen(8080)
    async with listener, await client.connect(host, 8080) as near, await listener.accept() as far:
        await far.send_all(b"hello")
        return await near.receive_some(), far.socket.getpeername()[0]


async def test_pods_reach_each_other_over_ipv4_and_ipv6(network: Network) -> None:
    client, server = await network.pod("client"), await network.pod("server")
    with trio.fail_after(PATIENCE):
        assert await exchange(client, server, server.ipv4) == (b"hello", f"::ffff:{client.ipv4}")
        assert await exchange(client, server, server.ipv6) == (b"hello", client.ipv6)


async def test_a_pod_has_a_loopback_of_its_own(network: Network) -> None:
    client, server = await network.pod("client"), await network.pod("server")
    with trio.fail_after(PATIENCE):
        assert await exchange(server, server, "127.0.0.1") == (b"hello", "::ffff:127.0.0.1")
        async with await server.listen(8080):
            with pytest.raises(ConnectionRefusedError):
                await client.connect("::1", 8080)


async def test_a_program_runs_in_a_pod_as_the_user_that_it_is_told(network: Network) -> None:
    pod = await network.pod("client")
    assert (await pod.run(["id", "-u"], uid=1000)).out == "1000\n"
    assert pod.ipv6 in await pod.must("ip", "address")
    assert await pod.run(["false"]) == Result(1, "", "")


async def test_nothing_stays_of_a_network_even_where_its_processes_do_not_end(short_directory: Path) -> None:
    async with open_network() as network, open_local_mesh(short_directory) as mesh:
        pod = await network.pod("client")
        inode = os.fstat(pod.descriptor).st_ino
        held = os.dup(pod.descriptor)  # or its number is given to the next namespace, which may be another test's
        process = mesh.start("sleep", ["sleep", "600"], place=pod.place())
        while process.popen.pid not in processes_in(inode):
            await trio.sleep(0.01)
        mesh.processes.clear()  # as where a test loses sight of it
    assert await trio.to_thread.run_sync(process.popen.wait) == -9
    assert processes_in(inode) == []
    os.close(held)


async def test_a_mesh_runs_in_pods_with_its_sidecar_as_a_user_of_its_own(
    network: Network, short_directory: Path
) -> None:
    platform, web = await network.pod("platform"), await network.pod("web")
    async with open_local_mesh(short_directory) as mesh:
        await mesh.start_control_plane(listen=f"{platform.ipv4}:0", place=platform.place())
        inbound = [f"{web.ipv4}:8443=127.0.0.1:8080/http"]
        sidecar = await mesh.start_sidecar("shop/web", inbound=inbound, place=web.place(uid=1337))
        assert Path(f"/proc/{sidecar.popen.pid}").stat().st_uid == 1337
        assert (await http_get(sidecar.observe, "/ready", sidecar.place))[0] == 200
        assert sidecar.popen.pid in processes_in(os.fstat(web.descriptor).st_ino)
