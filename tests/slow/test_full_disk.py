"""A disk without room, or that cannot be written: changes are refused in words, traffic and snapshots go on."""

import json
import re
from contextlib import AsyncExitStack
from pathlib import Path

from examples.demo.local_mesh import PROGRAMS, LocalMesh, Place, Process, http_get, open_local_mesh, wait_for
from tests.support.applications import answering, serving
from tests.support.disks import small_disk
from tests.support.load import loading
from tests.support.patience import PATIENCE
from tests.support.policies import allow, allow_policy
from tests.support.processes import logged

LOST = re.compile(r"^doorward_sidecar_log_lines_lost_total (\S+)", re.MULTILINE)
INTO_A_FULL_DISK = Place(("sh", "-c", 'exec "$@" >/dev/full', "sh"))
FULL = "database or disk is full"


async def test_a_control_plane_on_a_full_disk_refuses_changes_goes_on_and_recovers(short_directory: Path) -> None:
    async with AsyncExitStack() as stack:
        disk = stack.enter_context(small_disk(short_directory / "state"))
        application = await stack.enter_async_context(serving(answering))
        mesh = await stack.enter_async_context(open_local_mesh(short_directory))
        await mesh.start_control_plane("--lease-lifetime", "10m")  # no lease is renewed while the disk is full
        inbound = [f"127.0.0.1:0=127.0.0.1:{application.port}/http,port=8080"]
        await mesh.start_sidecar("shop/payments", inbound=inbound)
        checkout = await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/payments:8080"])
        await allow(mesh, "checkout", "payments", 8080)
        policy = short_directory / "policy.yaml"
        policy.write_text(json.dumps(allow_policy("frontend", "payments", 8080)))
        await mesh.token("shop/late")
        late_token = (short_directory / "shop-late.token").read_text()
        door = checkout.outbound["shop/payments:8080"]
        async with loading(door, keep_alive=2, fresh=2, method="POST") as load:
            disk.fill()
            for change in (
                ("policy", "apply", "-f", str(policy)),
                ("token", "create", "--workload", "shop/web"),
                ("ban", "add", "shop/web"),
            ):
                said = await mesh.doorward(*change)
                assert (said.exit, FULL in said.err) == (2, True), said
            late = _start_sidecar(mesh, late_token)
            await wait_for(lambda: "the control plane's store failed" in late.log.read_text(), what="the refusal")
            assert "create a new token" not in late.log.read_text()
            verified = await mesh.doorward("audit", "verify")
            assert (verified.exit, verified.err) == (0, "")
            listed = (await mesh.doorward("sidecars", "-o", "json")).json()
            assert {each["identity"].rpartition("/")[2] for each in listed["sidecars"]} >= {"payments", "checkout"}
            assert (await http_get(mesh.observe, "/ready"))[0] == 200
            await load.goes_on()

            disk.make_room()
            assert (await mesh.doorward("policy", "apply", "-f", str(policy), "--wait", "30")).exit == 0
            await wait_for(lambda: logged(late, "ready"), what="the late sidecar's readiness")
            assert (await mesh.doorward("audit", "verify")).exit == 0
            await load.goes_on()
        assert load.failed == []
        assert not logged(checkout, "control link failed")


async def test_programs_that_cannot_write_their_files_say_so_and_end(short_directory: Path, mesh: LocalMesh) -> None:
    with small_disk(short_directory / "full") as disk:
        disk.fill()
        token = (await mesh.token("shop/web")).read_text()
        sidecar = _start_sidecar(mesh, token, "--run-file", str(disk.path / "run.json"))
        assert await wait_for(sidecar.popen.poll, what="the sidecar's end") == 1
        assert "--run-file" in sidecar.log.read_text()
        assert "No space left on device" in sidecar.log.read_text()
        command = [str(PROGRAMS / "doorward"), "control-plane", "run", "--listen", "127.0.0.1:0", "--state"]
        for name, words in (("full", "No space left on device"), ("read-only", "Read-only file system")):
            state = disk.path / name
            if name == "read-only":
                disk.make_read_only()
            other = mesh.start(name, [*command, str(state)])
            assert await wait_for(other.popen.poll, what="its end") == 2
            assert words in other.log.read_text()
            assert "Traceback" not in other.log.read_text()


async def test_a_sidecar_whose_access_log_has_no_room_goes_on_without_it(mesh: LocalMesh) -> None:
    async with AsyncExitStack() as stack:
        application = await stack.enter_async_context(serving(answering))
        inbound = [f"127.0.0.1:0=127.0.0.1:{application.port}/http,port=8080"]
        payments = await mesh.start_sidecar("shop/payments", inbound=inbound, place=INTO_A_FULL_DISK)
        doors = ["127.0.0.1:0=shop/payments:8080"]
        checkout = await mesh.start_sidecar("shop/checkout", outbound=doors, place=INTO_A_FULL_DISK)
        await allow(mesh, "checkout", "payments", 8080)
        async with loading(checkout.outbound["shop/payments:8080"], keep_alive=2, fresh=2) as load:
            await load.goes_on(200)
        assert load.failed == []
        for sidecar in (payments, checkout):
            _, metrics = await http_get(sidecar.observe, "/metrics")
            lost = LOST.search(metrics)
            assert lost is not None
            assert float(lost[1]) > 0
            assert await sidecar.stop(within=PATIENCE) == 0


def _start_sidecar(mesh: LocalMesh, token: str, *options: str) -> Process:
    """A sidecar that nobody waits for: it cannot become ready yet, or at all."""
    file = mesh.directory / "given.token"
    file.touch(mode=0o600)
    file.write_text(token)
    command = [str(PROGRAMS / "doorward-sidecar"), "run", "--workload", "shop/late", "--control-plane", mesh.address]
    command += ["--bundle", str(mesh.directory / "bundle.pem"), "--token-file", str(file), "--observe", "127.0.0.1:0"]
    return mesh.start(f"late-{len(mesh.processes)}", [*command, "--backoff-max", "1s", *options])
