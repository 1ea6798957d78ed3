"""The control link against the real control plane, both as processes: what the simulator stands for is true."""

import json
from typing import Any

from examples.demo.local_mesh import LocalMesh, Process, http_get, wait_for
from tests.support.patience import PATIENCE
from tests.support.processes import logged


def failures(sidecar: Process) -> list[dict[str, Any]]:
    return logged(sidecar, "control link failed")


def stands(sidecar: Process) -> int:
    return sidecar.log.read_text().count('"event":"control link stands"')


async def test_a_token_works_once_and_the_second_sidecar_says_what_to_do(mesh: LocalMesh) -> None:
    first = await mesh.start_sidecar("shop/checkout")
    token = (mesh.directory / "shop-checkout.token").read_text()
    second = await mesh.start_sidecar("shop/checkout", "--backoff-max", "500ms", ready=False)
    assert stands(first) == 1
    await wait_for(lambda: stands(second), what="its own token")
    (mesh.directory / "shop-checkout.token").write_text(token)
    third = mesh.start("third", command_of(second))

    def refused() -> list[dict[str, Any]]:
        return [each for each in failures(third) if each["code"] == "token_used"]

    failure = (await wait_for(refused, what="the refusal"))[-1]
    assert "doorward token create --workload shop/checkout" in failure["problem"]
    assert token.strip() not in third.log.read_text()
    await mesh.token("shop/checkout")
    await wait_for(lambda: stands(third), what="a new token, read anew")


def command_of(sidecar: Process) -> list[str]:
    """What the sidecar was started with, for the same workload on free ports."""
    words = [str(word) for word in sidecar.popen.args]  # type: ignore[union-attr]  # a list here
    run_file = words.index("--run-file")
    return words[:run_file] + words[run_file + 2 :]


async def test_a_restarted_control_plane_is_found_again_and_meanwhile_nothing_changes(mesh: LocalMesh) -> None:
    sidecar = await mesh.start_sidecar("shop/checkout", "--backoff-max", "500ms")
    assert mesh.control_plane is not None
    assert await mesh.control_plane.stop(within=PATIENCE) == 0
    await wait_for(lambda: failures(sidecar), what="the lost link")
    assert (await http_get(sidecar.observe, "/ready"))[0] == 200
    snapshot = json.loads((await http_get(sidecar.observe, "/config"))[1])["snapshot"]
    assert snapshot["number"] >= 0
    await mesh.start_control_plane()
    await wait_for(lambda: stands(sidecar) > 1, what="the new link")
