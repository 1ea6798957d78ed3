"""A join token buys one certificate for one workload, once, and in time."""

import trio

from examples.demo.local_mesh import PROGRAMS, LocalMesh, Process, http_get, wait_for


def join(mesh: LocalMesh, workload: str, token: str) -> Process:
    """Start a sidecar with this token; it may never become ready."""
    file = mesh.directory / f"{len(mesh.processes)}.token"
    file.write_text(token)
    name = f"joining-{len(mesh.processes)}"
    command = [str(PROGRAMS / "doorward-sidecar"), "run", "--workload", workload, "--control-plane", mesh.address]
    command += ["--bundle", str(mesh.directory / "bundle.pem"), "--token-file", str(file)]
    return mesh.start(name, [*command, "--observe", "127.0.0.1:0"])


async def refused(process: Process, code: str) -> None:
    await wait_for(lambda: code in process.log.read_text(), what=f"{code} in the log of {process.name}")
    assert process.popen.poll() is None, "a refused sidecar keeps trying: its token file may be replaced"


async def test_a_token_works_once(mesh: LocalMesh) -> None:
    await mesh.start_sidecar("shop/checkout")
    used = (mesh.directory / "shop-checkout.token").read_text()
    await refused(join(mesh, "shop/checkout", used), "token_used")


async def test_an_expired_or_invented_token_is_refused(mesh: LocalMesh) -> None:
    token = await mesh.token("shop/checkout", seconds=1)
    await trio.sleep(1.1)
    late = join(mesh, "shop/checkout", token.read_text())
    invented = join(mesh, "shop/checkout", "dwt_" + "A" * 43)
    await refused(late, "token_expired")
    await refused(invented, "token_unknown")
    assert mesh.control_plane is not None
    assert token.read_text().strip() not in mesh.control_plane.log.read_text() + late.log.read_text()


async def test_a_token_of_another_workload_is_refused_and_not_spent(mesh: LocalMesh) -> None:
    token = (await mesh.token("shop/frontend")).read_text()
    await refused(join(mesh, "shop/payments", token), "token_for_other_workload")
    assert "token_for_other_workload" in (await http_get(mesh.observe, "/metrics"))[1]
    rightful = join(mesh, "shop/frontend", token)
    await wait_for(lambda: '"event":"ready"' in rightful.log.read_text(), what="the one whom the token is for")
