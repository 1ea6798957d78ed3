"""A sidecar's life: renewal under open connections, drain at SIGTERM, and a control plane that it does not know."""

import trio

from examples.demo.local_mesh import PROGRAMS, LocalMesh, http_get, open_local_mesh, wait_for
from tests.support.applications import Application, answering, connect, echoing, exchange, get, serving
from tests.support.patience import PATIENCE
from tests.support.policies import allow


async def test_certificates_are_renewed_without_dropping_a_connection(short_directory) -> None:  # type: ignore[no-untyped-def]  # a Path
    async with open_local_mesh(short_directory) as mesh, serving(echoing) as application:
        await mesh.start_control_plane("--certificate-lifetime", "20s")  # half of it to renew in
        ledger = await mesh.start_sidecar(
            "shop/ledger", inbound=[f"127.0.0.1:0=127.0.0.1:{application.port}/tcp,port=5432"]
        )
        checkout = await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/ledger:5432"])
        await allow(mesh, "checkout", "ledger", 5432, http=False)
        first = await certificates(mesh)
        async with await connect(checkout.outbound["shop/ledger:5432"]) as stream:
            with trio.fail_after(PATIENCE):
                while first & await certificates(mesh):
                    await tick(stream)
            await tick(stream)
        assert (await http_get(ledger.observe, "/ready"))[0] == 200


async def tick(stream: trio.SocketStream) -> None:
    await stream.send_all(b"tick")
    assert await stream.receive_some(4) == b"tick"
    await trio.sleep(0.05)


async def certificates(mesh: LocalMesh) -> set[tuple[str, str]]:
    """Whose they are, and what tells each from its next: when it expires."""
    listed = await mesh.admin(lambda client: client.get("/v1/sidecars"))
    return {(each["identity"], each["certificate_expires"]) for each in listed["sidecars"]}


async def slow(application: Application, stream: trio.SocketStream) -> None:
    application.heads.append(await stream.receive_some(65536))
    await trio.sleep(1)
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")


async def test_sigterm_lets_what_is_in_flight_finish(mesh: LocalMesh) -> None:
    async with serving(slow) as application:
        payments = await mesh.start_sidecar(
            "shop/payments", inbound=[f"127.0.0.1:0=127.0.0.1:{application.port}/http,port=8080"]
        )
        checkout = await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/payments:8080"])
        await allow(mesh, "checkout", "payments", 8080)
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                answer = await exchange(checkout.outbound["shop/payments:8080"], get("/"))
                assert answer.endswith(b"slow"), answer

            nursery.start_soon(call)
            await wait_for(lambda: application.heads, what="the request in flight")
            assert await payments.stop(within=PATIENCE) == 0


async def test_a_control_plane_of_another_root_is_told_nothing(mesh: LocalMesh, short_directory) -> None:  # type: ignore[no-untyped-def]  # a Path
    (short_directory / "other").mkdir()
    async with open_local_mesh(short_directory / "other") as other, serving(answering):
        await other.start_control_plane()
        token = await mesh.token("shop/checkout")
        command = [str(PROGRAMS / "doorward-sidecar"), "run", "--workload", "shop/checkout"]
        command += ["--control-plane", other.address, "--bundle", str(mesh.directory / "bundle.pem")]
        lost = mesh.start("lost", [*command, "--token-file", str(token), "--observe", "127.0.0.1:0"])
        await wait_for(lambda: "unknown_issuer" in lost.log.read_text(), what="the refusal in the log")
        assert other.control_plane is not None
        assert "token_" not in other.control_plane.log.read_text()
        right = await mesh.doorward("token", "create", "--workload", "shop/checkout")
        assert right.exit == 0


async def test_a_control_plane_that_is_stopped_lets_its_sidecars_go_without_alarm(mesh: LocalMesh) -> None:
    await mesh.start_sidecar("shop/checkout")
    assert mesh.control_plane is not None
    assert await mesh.control_plane.stop(within=PATIENCE) == 0
    log = mesh.control_plane.log.read_text()
    assert '"reason": "stopped"' in log
    assert '"level": "warning"' not in log
    assert '"level": "error"' not in log
